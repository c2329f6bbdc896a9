CREATE TABLE sync_event_history (
    history_id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event_id TEXT COLLATE "C" NOT NULL,
    step TEXT COLLATE "C" NOT NULL,
    retry_count INTEGER NOT NULL,
    fencing_token BIGINT NOT NULL,
    error_message TEXT,
    operator TEXT,
    created_at TIMESTAMP(6) NOT NULL
);
