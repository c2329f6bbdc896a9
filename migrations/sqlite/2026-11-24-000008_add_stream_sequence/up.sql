ALTER TABLE user_behaviors ADD COLUMN stream_sequence BIGINT;
