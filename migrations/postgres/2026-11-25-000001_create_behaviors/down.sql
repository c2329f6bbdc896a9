DROP TABLE user_behaviors;
