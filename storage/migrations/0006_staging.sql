-- Transactions of other servers. Only storage/servers writes these tables.

-- A row is stored before its transaction is answered, and kept for a while after its events are in their rooms, so that a
-- repeat is answered alike and not worked on again.
CREATE TABLE staged_transactions (
	txn_num     BIGINT PRIMARY KEY,  -- in the order in which they came
	origin      TEXT NOT NULL,
	txn_id      TEXT NOT NULL,
	received_ms BIGINT NOT NULL,
	starts      BIGINT NOT NULL,     -- so often the server has started with the work not done
	answer      TEXT NOT NULL,
	work        TEXT                 -- JSON: what is to be done; null: nothing any more
);
CREATE UNIQUE INDEX staged_transactions_id ON staged_transactions (origin, txn_id);
CREATE INDEX staged_transactions_work ON staged_transactions (txn_num) WHERE work IS NOT NULL;
CREATE INDEX staged_transactions_done ON staged_transactions (received_ms) WHERE work IS NULL;

-- Events that were being worked on when something panicked.
CREATE TABLE suspect_events (
	room_id  TEXT NOT NULL,
	event_id TEXT NOT NULL,
	panics   BIGINT NOT NULL,
	seen_ms  BIGINT NOT NULL,
	PRIMARY KEY (room_id, event_id)
);
