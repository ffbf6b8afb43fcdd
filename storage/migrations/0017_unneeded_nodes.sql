-- State nodes that perhaps no state needs, until that is certain. Times are milliseconds since 1970. Only storage/rooms
-- writes these tables.

-- From this number on, a room may have nodes that no state needs: some were stored before anything named them, or while its
-- states were to be found anew.
CREATE TABLE state_doubts (
	room_num  BIGINT NOT NULL,
	first_num BIGINT NOT NULL,
	noted_ms  BIGINT,          -- when its nodes that nothing seemed to need were all in state_notes; null: they are not
	PRIMARY KEY (room_num, first_num)
);
INSERT INTO state_doubts (room_num, first_num) SELECT room_num, MIN(hole) FROM partial_joins GROUP BY room_num;

CREATE TABLE state_notes (
	room_num BIGINT NOT NULL,
	node_num BIGINT NOT NULL,
	PRIMARY KEY (room_num, node_num)
);

-- The few events with a state that are in no timeline: with events_order, all of a room that name a root.
CREATE INDEX events_astray ON events (room_num, event_num) WHERE anchor IS NULL AND state_before IS NOT NULL;
