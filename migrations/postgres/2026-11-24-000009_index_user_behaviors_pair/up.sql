CREATE INDEX user_behaviors_pair ON user_behaviors (user_id, resource_type, resource_id, version);
