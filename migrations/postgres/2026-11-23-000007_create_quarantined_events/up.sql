CREATE TABLE quarantined_events (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    stream_sequence BIGINT NOT NULL,
    subject TEXT NOT NULL,
    message_id TEXT,
    reason TEXT NOT NULL,
    payload BYTEA NOT NULL,
    created_at TIMESTAMP(6) NOT NULL
);
