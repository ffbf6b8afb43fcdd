-- The log has one row. Every group of writes moves it, in its own transaction, by compare-and-set on
-- group_number; so the row tells whether a group whose COMMIT was never answered is there.
CREATE TABLE log (
	id           BIGINT PRIMARY KEY,  -- 1
	position     BIGINT NOT NULL,     -- the last one given
	group_number BIGINT NOT NULL,     -- the last group committed
	next_number  BIGINT NOT NULL,     -- row numbers below this may have been given out
	incarnation  TEXT NOT NULL,       -- renewed when a backup is restored
	secret       BYTEA NOT NULL,      -- 16 random bytes, never renewed
	server_name  TEXT NOT NULL        -- of whom the rest speaks; '' until a server has opened it; stays once something is stored
);
