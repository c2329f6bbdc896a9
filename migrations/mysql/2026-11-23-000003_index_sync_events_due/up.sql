-- MySQL knows no CREATE INDEX IF NOT EXISTS.
SET @statement = IF(
    EXISTS (
        SELECT 1 FROM information_schema.statistics
        WHERE table_schema = DATABASE() AND table_name = 'sync_events' AND index_name = 'sync_events_due'
    ),
    'DO 0',
    'CREATE INDEX sync_events_due ON sync_events (next_attempt_at)'
);
PREPARE create_index FROM @statement;
EXECUTE create_index;
DEALLOCATE PREPARE create_index;
