CREATE INDEX like_counts_most ON like_counts (resource_type, like_count, resource_id);
