-- The responses to requests with an idempotency key.
CREATE TABLE likewise_idempotency_keys (
    id TEXT NOT NULL PRIMARY KEY,
    caller TEXT NOT NULL,
    idempotency_key TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    event_id TEXT NOT NULL,
    version BIGINT NOT NULL,
    holder TEXT NOT NULL,
    lease_until TIMESTAMP NOT NULL,
    answer TEXT,
    created_at TIMESTAMP NOT NULL
) WITHOUT ROWID;
CREATE INDEX likewise_idempotency_keys_created ON likewise_idempotency_keys (created_at);
