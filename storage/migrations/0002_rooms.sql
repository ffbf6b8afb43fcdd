-- Rooms, their events, states and members. Row numbers (room_num, event_num, node_num) come from
-- the server's one counter; positions from the committer. Only storage/rooms writes these tables.

CREATE TABLE rooms (
	room_num BIGINT PRIMARY KEY,
	room_id  TEXT NOT NULL UNIQUE,
	version  TEXT NOT NULL
);

-- What a room's owner needs to go on: one row per room, replaced with every live event.
-- A room known only by an invite or a knock has none.
CREATE TABLE room_heads (
	room_num    BIGINT PRIMARY KEY,
	position    BIGINT NOT NULL,  -- of the room's last live event
	root        BIGINT NOT NULL,  -- current state
	depth       BIGINT NOT NULL,  -- greatest depth of the extremities
	extremities TEXT NOT NULL,    -- JSON array of event numbers
	joined      BIGINT NOT NULL,  -- members by membership in the current state
	invited     BIGINT NOT NULL
);

-- (anchor, sub) is the order of a room: a live event has (its position, 0), history filled in before
-- a live event at P has (P, -1), (P, -2), ... What is in no timeline has no anchor.
CREATE TABLE events (
	event_num    BIGINT PRIMARY KEY,
	room_num     BIGINT NOT NULL,
	event_id     TEXT NOT NULL,
	kind         BIGINT NOT NULL,  -- rooms.Kind
	position     BIGINT,           -- live events only
	anchor       BIGINT,
	sub          BIGINT NOT NULL,
	type         TEXT NOT NULL,
	state_key    TEXT,             -- null: not a state event
	sender       TEXT NOT NULL,
	state_before BIGINT,           -- root; null: unknown
	state_with   BIGINT,           -- root after it, for the events that follow it; null: as before it
	auth         TEXT,             -- accepted state only: JSON array of the numbers of its auth events
	redacted_by  BIGINT,           -- event number of the redaction
	relayed      BOOLEAN,          -- true: another server sent it into the room through us, so we pass it on
	txn_key      BIGINT,           -- keyed hash of (user, device, path, transaction ID)
	txn_device   TEXT,
	txn_id       TEXT,
	json         TEXT NOT NULL
);

-- Room versions 1 and 2 let the sender choose the ID: it is unique within its room only.
CREATE UNIQUE INDEX events_id ON events (event_id, room_num);
CREATE INDEX events_order ON events (room_num, anchor, sub) WHERE anchor IS NOT NULL;
CREATE INDEX events_position ON events (position) WHERE position IS NOT NULL;
CREATE INDEX events_auth ON events (room_num, event_num) WHERE auth IS NOT NULL;
CREATE UNIQUE INDEX events_txn ON events (txn_key) WHERE txn_key IS NOT NULL;

-- Where history is missing: prev events of timeline events that are in no timeline themselves.
CREATE TABLE gaps (
	room_num  BIGINT NOT NULL,
	prev_id   TEXT NOT NULL,
	event_num BIGINT NOT NULL,  -- the event that follows it
	PRIMARY KEY (room_num, prev_id, event_num)
);
CREATE INDEX gaps_event ON gaps (room_num, event_num);

-- Each move of a room's current state: the root from this position on.
CREATE TABLE room_states (
	room_num BIGINT NOT NULL,
	position BIGINT NOT NULL,
	root     BIGINT NOT NULL,
	PRIMARY KEY (room_num, position)
);

CREATE TABLE state_nodes (
	node_num BIGINT PRIMARY KEY,
	room_num BIGINT NOT NULL,
	data     BYTEA NOT NULL
);

-- The present membership of every user that ever had one.
CREATE TABLE memberships (
	room_num   BIGINT NOT NULL,
	user_id    TEXT NOT NULL,
	membership TEXT NOT NULL,
	event_num  BIGINT NOT NULL,
	position   BIGINT NOT NULL,   -- 0: from before this server knew the room
	stripped   TEXT,              -- invites and knocks: JSON array of stripped state events
	forgotten  BOOLEAN NOT NULL,
	PRIMARY KEY (room_num, user_id)
);
CREATE INDEX memberships_user ON memberships (user_id, position);

-- Every membership a user has had, by the position from which it held.
CREATE TABLE membership_history (
	room_num   BIGINT NOT NULL,
	user_id    TEXT NOT NULL,
	position   BIGINT NOT NULL,
	membership TEXT NOT NULL,
	event_num  BIGINT NOT NULL,
	PRIMARY KEY (room_num, user_id, position)
);

-- A redaction that came before its target. It is judged when both are there.
CREATE TABLE pending_redactions (
	room_num  BIGINT NOT NULL,
	redacts   TEXT NOT NULL,
	event_num BIGINT NOT NULL,
	PRIMARY KEY (room_num, redacts, event_num)
);

CREATE TABLE receipts (
	room_num BIGINT NOT NULL,
	user_id  TEXT NOT NULL,
	type     TEXT NOT NULL,
	thread   TEXT NOT NULL,       -- '' for an unthreaded receipt
	event_id TEXT NOT NULL,
	ts       BIGINT NOT NULL,
	position BIGINT NOT NULL,
	PRIMARY KEY (room_num, user_id, type, thread)
);
CREATE INDEX receipts_position ON receipts (room_num, position);

CREATE TABLE aliases (
	alias    TEXT PRIMARY KEY,
	room_num BIGINT NOT NULL,
	creator  TEXT NOT NULL
);
CREATE INDEX aliases_room ON aliases (room_num);

-- The rooms that are or were published, with what the directory shows and searches. Written by the
-- room's owner, with the state event that changes it.
CREATE TABLE directory (
	room_num        BIGINT PRIMARY KEY,
	listed          BOOLEAN NOT NULL,
	name            TEXT NOT NULL,
	topic           TEXT NOT NULL,
	canonical_alias TEXT NOT NULL,
	avatar_url      TEXT NOT NULL,
	join_rule       TEXT NOT NULL,
	room_type       TEXT NOT NULL,
	world_readable  BOOLEAN NOT NULL,
	guest_can_join  BOOLEAN NOT NULL,
	search          TEXT NOT NULL  -- name, topic and alias in lower case
);
