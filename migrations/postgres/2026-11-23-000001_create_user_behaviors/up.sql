CREATE TABLE user_behaviors (
    user_behavior_id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event_id TEXT COLLATE "C" NOT NULL UNIQUE,
    user_id BIGINT NOT NULL,
    resource_type TEXT COLLATE "C" NOT NULL,
    resource_id BIGINT NOT NULL,
    behavior_type TEXT COLLATE "C" NOT NULL,
    version BIGINT NOT NULL,
    source TEXT COLLATE "C" NOT NULL,
    behavior_time TIMESTAMP(6) NOT NULL,
    created_at TIMESTAMP(6) NOT NULL
);
