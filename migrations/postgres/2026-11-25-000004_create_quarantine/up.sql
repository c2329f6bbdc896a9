-- Messages that are no valid event, with the reason.
CREATE TABLE likewise_quarantined_events (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    stream_sequence BIGINT NOT NULL,
    subject TEXT NOT NULL,
    message_id TEXT,
    traceparent TEXT COLLATE "C",
    reason TEXT NOT NULL,
    payload BYTEA NOT NULL,
    created_at TIMESTAMP(6) NOT NULL,
    resolution TEXT COLLATE "C",
    resolved_by TEXT,
    resolved_at TIMESTAMP(6)
);
-- LIKE with a prefix can only use an index with this operator class.
CREATE INDEX likewise_quarantined_events_unresolved ON likewise_quarantined_events (subject text_pattern_ops)
    WHERE resolved_at IS NULL;
