DROP TABLE likewise_import_lanes;
DROP TABLE likewise_imports;
