ALTER TABLE user_behaviors DROP COLUMN stream_sequence;
