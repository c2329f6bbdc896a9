CREATE TABLE IF NOT EXISTS job_events (
    job_id CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    event_id CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    outcome VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin,
    PRIMARY KEY (job_id, event_id)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;
