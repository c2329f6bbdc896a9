-- Messages that are no valid event, with the reason.
CREATE TABLE likewise_quarantined_events (
    id TEXT NOT NULL PRIMARY KEY,
    stream_sequence BIGINT NOT NULL,
    subject TEXT NOT NULL,
    message_id TEXT,
    traceparent TEXT,
    reason TEXT NOT NULL,
    payload BLOB NOT NULL,
    created_at TIMESTAMP NOT NULL,
    resolution TEXT,
    resolved_by TEXT,
    resolved_at TIMESTAMP
);
-- LIKE ignores case, so it can only use an index that ignores case.
CREATE INDEX likewise_quarantined_events_unresolved ON likewise_quarantined_events (subject COLLATE NOCASE)
    WHERE resolved_at IS NULL;
