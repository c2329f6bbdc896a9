DROP INDEX like_counts_most ON like_counts;
