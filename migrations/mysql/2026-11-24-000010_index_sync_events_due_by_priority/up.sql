-- MySQL knows no CREATE INDEX IF NOT EXISTS.
SET @statement = IF(
    EXISTS (
        SELECT 1 FROM information_schema.statistics
        WHERE table_schema = DATABASE() AND table_name = 'sync_events' AND index_name = 'sync_events_due_by_priority'
    ),
    'DO 0',
    'CREATE INDEX sync_events_due_by_priority ON sync_events (priority, next_attempt_at)'
);
PREPARE change_table FROM @statement;
EXECUTE change_table;
DEALLOCATE PREPARE change_table;
