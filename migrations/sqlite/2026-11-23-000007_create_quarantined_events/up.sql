CREATE TABLE quarantined_events (
    id TEXT NOT NULL PRIMARY KEY,
    stream_sequence BIGINT NOT NULL,
    subject TEXT NOT NULL,
    message_id TEXT,
    reason TEXT NOT NULL,
    payload BLOB NOT NULL,
    created_at TIMESTAMP NOT NULL
);
