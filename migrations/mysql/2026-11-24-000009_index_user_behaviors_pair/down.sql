DROP INDEX user_behaviors_pair ON user_behaviors;
