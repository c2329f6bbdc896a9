-- Messages that are no valid event, with the reason.
-- IF NOT EXISTS: MySQL commits each statement, and a killed migration runs again (docs/adr/0024).
CREATE TABLE IF NOT EXISTS likewise_quarantined_events (
    id CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
    stream_sequence BIGINT NOT NULL,
    subject VARCHAR(1024) NOT NULL,
    message_id VARCHAR(1024),
    traceparent VARCHAR(55) CHARACTER SET ascii COLLATE ascii_bin,
    reason VARCHAR(1024) NOT NULL,
    payload LONGBLOB NOT NULL,
    created_at DATETIME(6) NOT NULL,
    resolution VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin,
    resolved_by VARCHAR(255),
    resolved_at DATETIME(6),
    KEY likewise_quarantined_events_unresolved (resolved_at, subject(64))
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;
