-- What is in a timeline is found by the time that it carries: the event nearest to a moment, and of those with the same
-- time the one that stands nearest in the room's order. Live events mostly follow each other in time as they do in the
-- room; only the others are in the index.
ALTER TABLE events ADD COLUMN ts BIGINT;  -- origin_server_ts, of history and of live events that are not timely; null for all else
CREATE INDEX events_time ON events (room_num, ts, anchor, sub) WHERE ts IS NOT NULL;
