-- The ledger: one row for each like event, and the history of its attempts.
CREATE TABLE sync_events (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    event_type TEXT COLLATE "C" NOT NULL,
    resource_type TEXT COLLATE "C" NOT NULL,
    resource_id BIGINT NOT NULL,
    user_id BIGINT NOT NULL,
    action_type TEXT COLLATE "C" NOT NULL,
    status TEXT COLLATE "C" NOT NULL,
    version BIGINT NOT NULL,
    retry_count INTEGER NOT NULL,
    max_retries INTEGER NOT NULL,
    priority INTEGER NOT NULL,
    error_message TEXT,
    next_attempt_at TIMESTAMP(6),
    lease_until TIMESTAMP(6),
    fencing_token BIGINT NOT NULL,
    created_at TIMESTAMP(6) NOT NULL,
    updated_at TIMESTAMP(6) NOT NULL,
    processed_at TIMESTAMP(6),
    traceparent TEXT COLLATE "C"
);
CREATE INDEX sync_events_due_by_priority ON sync_events (priority, next_attempt_at)
    WHERE next_attempt_at IS NOT NULL;
CREATE INDEX sync_events_created ON sync_events (created_at, id);
-- A row that completes is never in this index.
CREATE INDEX sync_events_failed ON sync_events (status, created_at, id)
    WHERE status = 'failed' OR status = 'dead';

CREATE TABLE likewise_sync_event_history (
    history_id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event_id TEXT COLLATE "C" NOT NULL,
    step TEXT COLLATE "C" NOT NULL,
    retry_count INTEGER NOT NULL,
    fencing_token BIGINT NOT NULL,
    error_message TEXT,
    operator TEXT,
    created_at TIMESTAMP(6) NOT NULL
);
CREATE INDEX likewise_sync_event_history_event ON likewise_sync_event_history (event_id);
