-- Whether a server is in a room is asked with all that it sends or wants to know.
ALTER TABLE memberships ADD COLUMN server TEXT;  -- of the user
UPDATE memberships SET server = substr(user_id, strpos(user_id, ':') + 1);
CREATE INDEX memberships_server ON memberships (room_num, server, membership, user_id);
