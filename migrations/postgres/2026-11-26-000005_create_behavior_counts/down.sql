DROP TABLE likewise_behavior_counts;
