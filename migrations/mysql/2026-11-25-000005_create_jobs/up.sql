-- Work on many rows, and what a job works through: ids of events, of messages in quarantine or of dead letters.
-- IF NOT EXISTS: MySQL commits each statement, and a killed migration runs again (docs/adr/0024).
CREATE TABLE IF NOT EXISTS likewise_jobs (
    id CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
    kind VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    state VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    spec MEDIUMTEXT NOT NULL,
    requested_by VARCHAR(255) NOT NULL,
    slot VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin UNIQUE,
    total BIGINT,
    done BIGINT NOT NULL,
    changed BIGINT NOT NULL,
    position MEDIUMTEXT,
    result MEDIUMTEXT,
    error_message MEDIUMTEXT,
    lease_until DATETIME(6),
    fencing_token BIGINT NOT NULL,
    created_at DATETIME(6) NOT NULL,
    updated_at DATETIME(6) NOT NULL,
    finished_at DATETIME(6)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

CREATE TABLE IF NOT EXISTS likewise_job_events (
    job_id CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    event_id CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    outcome VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin,
    PRIMARY KEY (job_id, event_id)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;
