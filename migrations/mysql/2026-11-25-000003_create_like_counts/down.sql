DROP TABLE IF EXISTS likewise_like_counts;
