-- The deployment: one row with its id, the generation of its data, a counter of heartbeats, and the kinds of its ids.
-- IF NOT EXISTS: MySQL commits each statement, and a killed migration runs again (docs/adr/0024).
CREATE TABLE IF NOT EXISTS likewise_deployment (
    name VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
    id CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    generation VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    beat BIGINT NOT NULL,
    user_ids VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    resource_ids VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    created_at DATETIME(6) NOT NULL
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;
