-- One row: up to here other servers were told, or are owed to be told, of the devices of users of this server. Only
-- storage/servers writes it.
CREATE TABLE device_lists_told (
	id       BIGINT PRIMARY KEY,  -- 1
	position BIGINT NOT NULL
);
INSERT INTO device_lists_told (id, position) SELECT 1, position FROM log;
