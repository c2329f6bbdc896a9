-- MySQL knows no DROP INDEX IF EXISTS.
SET @statement = IF(
    EXISTS (
        SELECT 1 FROM information_schema.statistics
        WHERE table_schema = DATABASE() AND table_name = 'sync_events' AND index_name = 'sync_events_created'
    ),
    'DROP INDEX sync_events_created ON sync_events',
    'DO 0'
);
PREPARE change_table FROM @statement;
EXECUTE change_table;
DEALLOCATE PREPARE change_table;
