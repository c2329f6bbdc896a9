-- Facts that wait for the stream or for a webhook: a row for each fact and receiver. Dead rows wait for an operator.
-- AUTOINCREMENT: the id of a deleted row names no other row.
CREATE TABLE likewise_outbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    receiver TEXT NOT NULL,
    event_id TEXT NOT NULL,
    fact TEXT NOT NULL,
    user_id BIGINT NOT NULL,
    resource_type TEXT NOT NULL,
    resource_id BIGINT NOT NULL,
    like_count BIGINT NOT NULL,
    version BIGINT NOT NULL,
    traceparent TEXT,
    created_at TIMESTAMP NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    next_attempt_at TIMESTAMP,
    last_error TEXT,
    dead_at TIMESTAMP
);
CREATE INDEX likewise_outbox_receiver ON likewise_outbox (receiver, dead_at, id);
