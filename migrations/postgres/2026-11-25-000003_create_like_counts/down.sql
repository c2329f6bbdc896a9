DROP TABLE likewise_like_counts;
