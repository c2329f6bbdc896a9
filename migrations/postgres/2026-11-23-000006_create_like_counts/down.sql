DROP TABLE like_counts;
