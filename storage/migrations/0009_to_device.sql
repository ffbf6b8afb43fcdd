-- Messages to devices of this server. Times are milliseconds since 1970; positions come from the committer. Only
-- storage/users writes these tables.

-- What a device has not acknowledged yet. A device has at most one message of a position. There is a row only as long
-- as the device is there.
CREATE TABLE to_device (
	user_id   TEXT NOT NULL,
	device_id TEXT NOT NULL,
	position  BIGINT NOT NULL,
	sender    TEXT NOT NULL,
	type      TEXT NOT NULL,
	content   TEXT NOT NULL,          -- a JSON object
	PRIMARY KEY (user_id, device_id, position)
);

-- What was taken in a while ago, so that a repeat of it is known: transactions of clients and messages of other servers,
-- as keyed hashes.
CREATE TABLE to_device_known (
	known_key BIGINT PRIMARY KEY,
	at_ms     BIGINT NOT NULL
);
CREATE INDEX to_device_known_time ON to_device_known (at_ms);
