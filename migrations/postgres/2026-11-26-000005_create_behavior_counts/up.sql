-- How many behaviors of each type a resource has, besides likes. pruned_count of them are no longer in user_behaviors.
CREATE TABLE likewise_behavior_counts (
    resource_type TEXT COLLATE "C" NOT NULL,
    resource_id BIGINT NOT NULL,
    behavior_type TEXT COLLATE "C" NOT NULL,
    behavior_count BIGINT NOT NULL,
    pruned_count BIGINT NOT NULL,
    updated_at TIMESTAMP(6) NOT NULL,
    PRIMARY KEY (resource_type, resource_id, behavior_type)
);
