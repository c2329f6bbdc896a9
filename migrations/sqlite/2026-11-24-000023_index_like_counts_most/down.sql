DROP INDEX like_counts_most;
