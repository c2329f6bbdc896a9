DROP TABLE likewise_imports;
