-- Facts that wait for the stream or for a webhook: a row for each fact and receiver. Dead rows wait for an operator.
CREATE TABLE likewise_outbox (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    receiver TEXT COLLATE "C" NOT NULL,
    event_id TEXT COLLATE "C" NOT NULL,
    fact TEXT COLLATE "C" NOT NULL,
    user_id BIGINT NOT NULL,
    resource_type TEXT COLLATE "C" NOT NULL,
    resource_id BIGINT NOT NULL,
    like_count BIGINT NOT NULL,
    version BIGINT NOT NULL,
    traceparent TEXT COLLATE "C",
    created_at TIMESTAMP(6) NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    next_attempt_at TIMESTAMP(6),
    last_error TEXT,
    dead_at TIMESTAMP(6)
);
CREATE INDEX likewise_outbox_receiver ON likewise_outbox (receiver, dead_at, id);
