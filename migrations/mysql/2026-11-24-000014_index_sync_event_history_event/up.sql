-- MySQL knows no CREATE INDEX IF NOT EXISTS.
SET @statement = IF(
    EXISTS (
        SELECT 1 FROM information_schema.statistics
        WHERE table_schema = DATABASE() AND table_name = 'sync_event_history' AND index_name = 'sync_event_history_event'
    ),
    'DO 0',
    'CREATE INDEX sync_event_history_event ON sync_event_history (event_id)'
);
PREPARE change_table FROM @statement;
EXECUTE change_table;
DEALLOCATE PREPARE change_table;
