DROP TABLE likewise_operations;
