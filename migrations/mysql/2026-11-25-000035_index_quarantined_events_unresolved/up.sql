-- MySQL knows no CREATE INDEX IF NOT EXISTS.
SET @statement = IF(
    EXISTS (
        SELECT 1 FROM information_schema.statistics
        WHERE table_schema = DATABASE() AND table_name = 'quarantined_events'
        AND index_name = 'quarantined_events_unresolved'
    ),
    'DO 0',
    'CREATE INDEX quarantined_events_unresolved ON quarantined_events (resolved_at, subject(64))'
);
PREPARE change_table FROM @statement;
EXECUTE change_table;
DEALLOCATE PREPARE change_table;
