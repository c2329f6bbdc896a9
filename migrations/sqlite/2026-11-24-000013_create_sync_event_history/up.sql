CREATE TABLE sync_event_history (
    history_id INTEGER PRIMARY KEY,
    event_id TEXT NOT NULL,
    step TEXT NOT NULL,
    retry_count INTEGER NOT NULL,
    fencing_token BIGINT NOT NULL,
    error_message TEXT,
    operator TEXT,
    created_at TIMESTAMP NOT NULL
);
