-- Facts that wait for the stream or for a webhook: a row for each fact and receiver. Dead rows wait for an operator.
-- IF NOT EXISTS: MySQL commits each statement, and a killed migration runs again (docs/adr/0024).
CREATE TABLE IF NOT EXISTS likewise_outbox (
    id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
    receiver VARCHAR(255) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    event_id CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    fact VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    user_id BIGINT NOT NULL,
    resource_type VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    resource_id BIGINT NOT NULL,
    like_count BIGINT NOT NULL,
    version BIGINT NOT NULL,
    traceparent VARCHAR(55) CHARACTER SET ascii COLLATE ascii_bin,
    created_at DATETIME(6) NOT NULL,
    attempts INT NOT NULL DEFAULT 0,
    next_attempt_at DATETIME(6),
    last_error VARCHAR(1024),
    dead_at DATETIME(6),
    KEY likewise_outbox_receiver (receiver, dead_at, id)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;
