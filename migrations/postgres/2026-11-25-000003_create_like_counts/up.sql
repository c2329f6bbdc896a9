-- How many likes a resource has.
CREATE TABLE likewise_like_counts (
    resource_type TEXT COLLATE "C" NOT NULL,
    resource_id BIGINT NOT NULL,
    like_count BIGINT NOT NULL,
    revision BIGINT NOT NULL,
    updated_at TIMESTAMP(6) NOT NULL,
    PRIMARY KEY (resource_type, resource_id)
);
CREATE INDEX likewise_like_counts_most ON likewise_like_counts (resource_type, like_count, resource_id);
