-- The log of accepted behaviors. Everything else can be rebuilt from it.
CREATE TABLE user_behaviors (
    user_behavior_id INTEGER PRIMARY KEY,
    event_id TEXT NOT NULL UNIQUE,
    user_id BIGINT NOT NULL,
    resource_type TEXT NOT NULL,
    resource_id BIGINT NOT NULL,
    behavior_type TEXT NOT NULL,
    version BIGINT NOT NULL,
    source TEXT NOT NULL,
    stream_sequence BIGINT,
    import_id BIGINT,
    behavior_time TIMESTAMP NOT NULL,
    created_at TIMESTAMP NOT NULL
);
CREATE INDEX user_behaviors_pair ON user_behaviors (user_id, resource_type, resource_id, version);
-- The behaviors that likewise_behavior_counts counts.
CREATE INDEX user_behaviors_counted ON user_behaviors (resource_type, resource_id, behavior_type)
WHERE behavior_type NOT IN ('like', 'unlike', 'void', 'restore');
