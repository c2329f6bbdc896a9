DROP TABLE IF EXISTS likewise_retention;
