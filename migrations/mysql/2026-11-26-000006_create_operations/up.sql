-- What operators did, from the newest to the oldest in the order of the index.
-- IF NOT EXISTS: MySQL commits each statement, and a killed migration runs again (docs/adr/0024).
CREATE TABLE IF NOT EXISTS likewise_operations (
    id CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
    operator VARCHAR(255) NOT NULL,
    action VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    target_type VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    target VARCHAR(255) NOT NULL,
    process VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin,
    result VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    detail TEXT,
    created_at DATETIME(6) NOT NULL,
    KEY likewise_operations_created (created_at, id)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;
