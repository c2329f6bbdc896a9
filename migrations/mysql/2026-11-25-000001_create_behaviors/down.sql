DROP TABLE IF EXISTS user_behaviors;
