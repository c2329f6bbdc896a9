-- The imports of existing likes, with how far each has come.
-- IF NOT EXISTS: MySQL commits each statement, and a killed migration runs again (docs/adr/0024).
CREATE TABLE IF NOT EXISTS likewise_imports (
    import_id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
    input VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL UNIQUE,
    name TEXT NOT NULL,
    default_time DATETIME(6) NOT NULL,
    rows_read BIGINT NOT NULL,
    rows_rejected BIGINT NOT NULL,
    events_new BIGINT NOT NULL,
    events_repeated BIGINT NOT NULL,
    started_at DATETIME(6) NOT NULL,
    updated_at DATETIME(6) NOT NULL,
    finished_at DATETIME(6)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

-- The lanes of each import, which write side by side, with how far each has come. An older run than `run` writes no more.
CREATE TABLE IF NOT EXISTS likewise_import_lanes (
    import_id BIGINT NOT NULL,
    lane BIGINT NOT NULL,
    run BIGINT NOT NULL,
    position MEDIUMTEXT NOT NULL,
    PRIMARY KEY (import_id, lane)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;
