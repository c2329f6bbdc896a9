-- How many behaviors of each type a resource has, besides likes. pruned_count of them are no longer in user_behaviors.
-- IF NOT EXISTS: MySQL commits each statement, and a killed migration runs again (docs/adr/0024).
CREATE TABLE IF NOT EXISTS likewise_behavior_counts (
    resource_type VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    resource_id BIGINT NOT NULL,
    behavior_type VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    behavior_count BIGINT NOT NULL,
    pruned_count BIGINT NOT NULL,
    updated_at DATETIME(6) NOT NULL,
    PRIMARY KEY (resource_type, resource_id, behavior_type)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;
