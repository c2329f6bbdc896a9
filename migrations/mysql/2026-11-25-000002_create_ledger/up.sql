-- The ledger: one row for each like event, and the history of its attempts.
-- IF NOT EXISTS: MySQL commits each statement, and a killed migration runs again (docs/adr/0024).
CREATE TABLE IF NOT EXISTS sync_events (
    id CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
    event_type VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    resource_type VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    resource_id BIGINT NOT NULL,
    user_id BIGINT NOT NULL,
    action_type VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    status VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    version BIGINT NOT NULL,
    retry_count INT NOT NULL,
    max_retries INT NOT NULL,
    priority INT NOT NULL,
    error_message TEXT,
    next_attempt_at DATETIME(6),
    lease_until DATETIME(6),
    fencing_token BIGINT NOT NULL,
    created_at DATETIME(6) NOT NULL,
    updated_at DATETIME(6) NOT NULL,
    processed_at DATETIME(6),
    traceparent VARCHAR(55) CHARACTER SET ascii COLLATE ascii_bin,
    -- MySQL has no partial index. This column is NULL unless the row failed or is dead, so a row that completes
    -- does not move in sync_events_failed. It is invisible: SELECT * omits it.
    failure_status VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin
        GENERATED ALWAYS AS (CASE WHEN status IN ('failed', 'dead') THEN status END) STORED INVISIBLE,
    KEY sync_events_due_by_priority (priority, next_attempt_at),
    KEY sync_events_failed (failure_status, created_at)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

CREATE TABLE IF NOT EXISTS likewise_sync_event_history (
    history_id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
    event_id CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    step VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    retry_count INT NOT NULL,
    fencing_token BIGINT NOT NULL,
    error_message TEXT,
    operator VARCHAR(255),
    created_at DATETIME(6) NOT NULL,
    KEY likewise_sync_event_history_event (event_id)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;
