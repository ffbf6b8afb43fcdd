-- Users of this server, their devices and tokens, and what they keep here. Times are milliseconds since 1970;
-- positions come from the committer. Only storage/users writes these tables.

CREATE TABLE users (
	user_id        TEXT PRIMARY KEY,
	password_hash  TEXT NOT NULL,     -- '': cannot log in with a password
	admin          BOOLEAN NOT NULL,
	guest          BOOLEAN NOT NULL,
	user_type      TEXT NOT NULL,     -- '', or 'bot' or 'support' as given by a provisioning program
	created_ms     BIGINT NOT NULL,
	deactivated_ms BIGINT NOT NULL,   -- 0: active
	erased         BOOLEAN NOT NULL   -- deactivated, and asked that others no longer see what was written
);

-- Accounts that have ended and may still be in rooms, which are left after the end is stored.
CREATE TABLE departures (
	user_id TEXT PRIMARY KEY
);

CREATE TABLE devices (
	user_id      TEXT NOT NULL,
	device_id    TEXT NOT NULL,
	display_name TEXT NOT NULL,
	created_ms   BIGINT NOT NULL,
	seen_ms      BIGINT NOT NULL,     -- 0: not since its login
	seen_ip      TEXT NOT NULL,
	PRIMARY KEY (user_id, device_id)
);

-- A device has one token; a new login replaces it. Tokens are stored as their SHA-256 only.
CREATE TABLE access_tokens (
	user_id    TEXT NOT NULL,
	device_id  TEXT NOT NULL,
	token_hash BYTEA NOT NULL,
	PRIMARY KEY (user_id, device_id)
);
CREATE UNIQUE INDEX access_tokens_hash ON access_tokens (token_hash);

-- The last time each device was added, renamed or removed. Rows of removed devices stay, so that who shares
-- a room learns of the removal.
CREATE TABLE device_changes (
	user_id   TEXT NOT NULL,
	device_id TEXT NOT NULL,
	position  BIGINT NOT NULL,
	PRIMARY KEY (user_id, device_id)
);
CREATE INDEX device_changes_position ON device_changes (position);

CREATE TABLE profiles (
	user_id  TEXT NOT NULL,
	field    TEXT NOT NULL,
	value    TEXT,                    -- JSON; null: removed
	position BIGINT NOT NULL,
	PRIMARY KEY (user_id, field)
);
CREATE INDEX profiles_position ON profiles (position);

CREATE TABLE account_data (
	user_id  TEXT NOT NULL,
	room_id  TEXT NOT NULL,           -- '': global
	type     TEXT NOT NULL,
	content  TEXT NOT NULL,           -- a JSON object
	position BIGINT NOT NULL,
	PRIMARY KEY (user_id, room_id, type)
);
CREATE INDEX account_data_position ON account_data (user_id, position);

-- A filter's ID is made from its content, so equal filters of a user are one row.
CREATE TABLE filters (
	user_id   TEXT NOT NULL,
	filter_id TEXT NOT NULL,
	content   TEXT NOT NULL,
	PRIMARY KEY (user_id, filter_id)
);

CREATE TABLE registration_tokens (
	token        TEXT PRIMARY KEY,
	uses_allowed BIGINT,              -- null: no limit
	completed    BIGINT NOT NULL,
	expires_ms   BIGINT NOT NULL      -- 0: never
);

CREATE TABLE login_tokens (
	token_hash BYTEA PRIMARY KEY,
	user_id    TEXT NOT NULL,
	expires_ms BIGINT NOT NULL
);
CREATE INDEX login_tokens_expiry ON login_tokens (expires_ms);
