-- The responses to requests with an idempotency key.
CREATE TABLE likewise_idempotency_keys (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    caller TEXT NOT NULL,
    idempotency_key TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    event_id TEXT COLLATE "C" NOT NULL,
    version BIGINT NOT NULL,
    holder TEXT COLLATE "C" NOT NULL,
    lease_until TIMESTAMP(6) NOT NULL,
    answer TEXT,
    created_at TIMESTAMP(6) NOT NULL
);
CREATE INDEX likewise_idempotency_keys_created ON likewise_idempotency_keys (created_at);
