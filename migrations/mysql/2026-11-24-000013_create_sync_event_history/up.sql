CREATE TABLE IF NOT EXISTS sync_event_history (
    history_id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
    event_id CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    step VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    retry_count INT NOT NULL,
    fencing_token BIGINT NOT NULL,
    error_message TEXT,
    operator VARCHAR(255),
    created_at DATETIME(6) NOT NULL
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;
