-- Invites that were rejected, and knocks that were taken back, while no server of the room could be reached: one of them is
-- still to hear of it.
CREATE TABLE unheard_leaves (
	room_num BIGINT NOT NULL,
	user_id  TEXT NOT NULL,
	servers  TEXT NOT NULL,    -- JSON array: who may be in the room
	since_ms BIGINT NOT NULL,
	PRIMARY KEY (room_num, user_id)
);
