CREATE TABLE IF NOT EXISTS quarantined_events (
    id CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
    stream_sequence BIGINT NOT NULL,
    subject VARCHAR(1024) NOT NULL,
    message_id VARCHAR(1024),
    reason VARCHAR(1024) NOT NULL,
    payload LONGBLOB NOT NULL,
    created_at DATETIME(6) NOT NULL
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;
