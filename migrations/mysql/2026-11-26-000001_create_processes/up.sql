-- The running processes, with what each is set up with, so that they notice differences.
-- IF NOT EXISTS: MySQL commits each statement, and a killed migration runs again (docs/adr/0024).
CREATE TABLE IF NOT EXISTS likewise_processes (
    id VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
    host VARCHAR(255) NOT NULL,
    role VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    version VARCHAR(64) NOT NULL,
    cache VARCHAR(255) NOT NULL,
    broker VARCHAR(255) NOT NULL,
    erasure_epoch BIGINT NOT NULL DEFAULT 0,
    facts TEXT NOT NULL,
    resource_types TEXT NOT NULL,
    seen_at DATETIME(6) NOT NULL
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;
