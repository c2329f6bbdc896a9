-- It replaces sync_events_created: the rows that have not failed are together, newest last.
-- MySQL knows no CREATE INDEX IF NOT EXISTS.
SET @statement = IF(
    EXISTS (
        SELECT 1 FROM information_schema.statistics
        WHERE table_schema = DATABASE() AND table_name = 'sync_events' AND index_name = 'sync_events_failed'
    ),
    'DO 0',
    'CREATE INDEX sync_events_failed ON sync_events (failure_status, created_at)'
);
PREPARE change_table FROM @statement;
EXECUTE change_table;
DEALLOCATE PREPARE change_table;
