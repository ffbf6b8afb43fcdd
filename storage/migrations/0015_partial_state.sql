-- Joins of this server to rooms whose members it learned, or will learn, later. Only storage/rooms writes these tables.

-- A row stays when its room is whole: states that were stored meanwhile have its hole.
CREATE TABLE partial_joins (
	hole     BIGINT PRIMARY KEY,  -- names the unknown members in states
	room_num BIGINT NOT NULL,
	join_num BIGINT NOT NULL,     -- event number
	servers  TEXT NOT NULL,       -- JSON array: in the room before the join, the one through which we came first
	root     BIGINT,              -- of the members before the join; null: not known yet
	joined   BIGINT NOT NULL,     -- of these members, by membership
	invited  BIGINT NOT NULL,
	until    BIGINT               -- position from which on the room is whole, or left; null: it is partial
);
CREATE INDEX partial_joins_until ON partial_joins (until);
CREATE INDEX partial_joins_room ON partial_joins (room_num, hole);

-- Events of partial rooms that are to be checked again, in the order in which they came.
CREATE TABLE partial_events (
	room_num  BIGINT NOT NULL,
	event_num BIGINT NOT NULL,
	ord       BIGINT NOT NULL,
	PRIMARY KEY (room_num, event_num)
);
