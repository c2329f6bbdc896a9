-- MySQL knows no CREATE INDEX IF NOT EXISTS.
SET @statement = IF(
    EXISTS (
        SELECT 1 FROM information_schema.statistics
        WHERE table_schema = DATABASE() AND table_name = 'like_counts' AND index_name = 'like_counts_most'
    ),
    'DO 0',
    'CREATE INDEX like_counts_most ON like_counts (resource_type, like_count, resource_id)'
);
PREPARE change_table FROM @statement;
EXECUTE change_table;
DEALLOCATE PREPARE change_table;
