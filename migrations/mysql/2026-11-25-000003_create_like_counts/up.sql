-- How many likes a resource has.
-- IF NOT EXISTS: MySQL commits each statement, and a killed migration runs again (docs/adr/0024).
CREATE TABLE IF NOT EXISTS likewise_like_counts (
    resource_type VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    resource_id BIGINT NOT NULL,
    like_count BIGINT NOT NULL,
    revision BIGINT NOT NULL,
    updated_at DATETIME(6) NOT NULL,
    PRIMARY KEY (resource_type, resource_id),
    KEY likewise_like_counts_most (resource_type, like_count, resource_id)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;
