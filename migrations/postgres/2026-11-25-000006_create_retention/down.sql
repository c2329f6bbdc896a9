DROP TABLE likewise_retention;
