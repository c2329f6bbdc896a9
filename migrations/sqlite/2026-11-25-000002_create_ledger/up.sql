-- The ledger: one row for each like event, and the history of its attempts.
CREATE TABLE sync_events (
    id TEXT NOT NULL PRIMARY KEY,
    event_type TEXT NOT NULL,
    resource_type TEXT NOT NULL,
    resource_id BIGINT NOT NULL,
    user_id BIGINT NOT NULL,
    action_type TEXT NOT NULL,
    status TEXT NOT NULL,
    version BIGINT NOT NULL,
    retry_count INTEGER NOT NULL,
    max_retries INTEGER NOT NULL,
    priority INTEGER NOT NULL,
    error_message TEXT,
    next_attempt_at TIMESTAMP,
    lease_until TIMESTAMP,
    fencing_token BIGINT NOT NULL,
    created_at TIMESTAMP NOT NULL,
    updated_at TIMESTAMP NOT NULL,
    processed_at TIMESTAMP,
    traceparent TEXT
) WITHOUT ROWID;
CREATE INDEX sync_events_due_by_priority ON sync_events (priority, next_attempt_at)
    WHERE next_attempt_at IS NOT NULL;
CREATE INDEX sync_events_created ON sync_events (created_at, id);
-- A row that completes is never in this index.
CREATE INDEX sync_events_failed ON sync_events (status, created_at, id)
    WHERE status = 'failed' OR status = 'dead';

CREATE TABLE likewise_sync_event_history (
    history_id INTEGER PRIMARY KEY,
    event_id TEXT NOT NULL,
    step TEXT NOT NULL,
    retry_count INTEGER NOT NULL,
    fencing_token BIGINT NOT NULL,
    error_message TEXT,
    operator TEXT,
    created_at TIMESTAMP NOT NULL
);
CREATE INDEX likewise_sync_event_history_event ON likewise_sync_event_history (event_id);
