-- What is owed to other servers. Events and receipts are not copied: the rows say from where on the log, and the
-- table of receipts, are still to be sent. Only storage/servers writes these tables.

-- One row: up to here the log was read, and what followed from it is in the tables below.
CREATE TABLE outbox (
	id       BIGINT PRIMARY KEY,  -- 1
	position BIGINT NOT NULL
);
INSERT INTO outbox (id, position) SELECT 1, position FROM log;

-- The servers that cannot be reached, and those in the middle of something.
CREATE TABLE destinations (
	server     TEXT PRIMARY KEY,
	plan       TEXT NOT NULL,    -- JSON array: the transaction that is under way or to be repeated
	items      TEXT NOT NULL,    -- JSON array: what follows it, piece by piece
	failures   BIGINT NOT NULL,  -- in a row
	failing_ms BIGINT NOT NULL,  -- since when; 0: it is not
	retry_ms   BIGINT NOT NULL   -- when it is tried again
);

-- The rooms in which a server lags behind.
CREATE TABLE destination_rooms (
	server   TEXT NOT NULL,
	kind     BIGINT NOT NULL,    -- servers.DebtKind
	room_num BIGINT NOT NULL,
	acked    BIGINT NOT NULL,    -- what is later in the log may be owed
	PRIMARY KEY (server, kind, room_num)
);

-- EDUs that wait until their server has acknowledged them. A later one with the same key replaces the earlier.
CREATE TABLE outbox_edus (
	server     TEXT NOT NULL,
	edu_key    TEXT NOT NULL,
	position   BIGINT NOT NULL,
	type       TEXT NOT NULL,
	content    TEXT NOT NULL,    -- a JSON object
	created_ms BIGINT NOT NULL,
	PRIMARY KEY (server, edu_key)
);
CREATE INDEX outbox_edus_order ON outbox_edus (server, position);
CREATE INDEX outbox_edus_created ON outbox_edus (created_ms);
