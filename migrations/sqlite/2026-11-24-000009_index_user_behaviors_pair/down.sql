DROP INDEX user_behaviors_pair;
