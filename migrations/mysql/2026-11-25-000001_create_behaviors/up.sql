-- The log of accepted behaviors. Everything else can be rebuilt from it.
-- The index user_behaviors_counted finds the behaviors that likewise_behavior_counts counts. MySQL has no partial
-- indexes: likes have NULL in it, in the order of the primary key, so that an insert appends them.
-- IF NOT EXISTS: MySQL commits each statement, and a killed migration runs again (docs/adr/0024).
CREATE TABLE IF NOT EXISTS user_behaviors (
    user_behavior_id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
    event_id CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    user_id BIGINT NOT NULL,
    resource_type VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    resource_id BIGINT NOT NULL,
    behavior_type VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    version BIGINT NOT NULL,
    source VARCHAR(64) NOT NULL,
    stream_sequence BIGINT,
    import_id BIGINT,
    behavior_time DATETIME(6) NOT NULL,
    created_at DATETIME(6) NOT NULL,
    counted_resource_id BIGINT GENERATED ALWAYS AS (
        CASE WHEN behavior_type NOT IN ('like', 'unlike', 'void', 'restore') THEN resource_id END
    ) VIRTUAL,
    UNIQUE KEY user_behaviors_event (event_id),
    KEY user_behaviors_pair (user_id, resource_type, resource_id, version),
    KEY user_behaviors_counted (resource_type, counted_resource_id, behavior_type)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;
