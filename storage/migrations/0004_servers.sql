-- Signing keys of servers: what others have published, as it is needed to check signatures and to tell it on, and what
-- this server has signed with itself. Times are milliseconds since 1970. Only storage/servers writes these tables.

CREATE TABLE server_keys (
	server         TEXT NOT NULL,
	key_id         TEXT NOT NULL,
	public_key     BYTEA NOT NULL,
	valid_until_ms BIGINT NOT NULL,   -- signatures later than this are void
	retired        BOOLEAN NOT NULL,  -- published as an old key: good for events up to valid_until_ms, for nothing else
	direct         BOOLEAN NOT NULL,  -- heard from the server itself, not from a notary
	fetched_ms     BIGINT NOT NULL,
	document_num   BIGINT NOT NULL,   -- the document that said all this
	PRIMARY KEY (server, key_id)
);

-- What servers signed and published, byte for byte: a notary has to show it.
CREATE TABLE server_key_documents (
	document_num   BIGINT PRIMARY KEY,
	server         TEXT NOT NULL,
	valid_until_ms BIGINT NOT NULL,
	json           TEXT NOT NULL
);
CREATE INDEX server_key_documents_server ON server_key_documents (server);

-- Keys of this server, so that those it does not use any more stay published.
CREATE TABLE own_keys (
	key_id     TEXT PRIMARY KEY,
	public_key BYTEA NOT NULL,
	retired_ms BIGINT NOT NULL        -- 0: in use
);
