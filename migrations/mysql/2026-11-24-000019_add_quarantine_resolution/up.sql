-- MySQL knows no ADD COLUMN IF NOT EXISTS.
SET @statement = IF(
    EXISTS (
        SELECT 1 FROM information_schema.columns
        WHERE table_schema = DATABASE() AND table_name = 'quarantined_events' AND column_name = 'resolution'
    ),
    'DO 0',
    'ALTER TABLE quarantined_events
    ADD COLUMN resolution VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin,
    ADD COLUMN resolved_by VARCHAR(255),
    ADD COLUMN resolved_at DATETIME(6)'
);
PREPARE change_table FROM @statement;
EXECUTE change_table;
DEALLOCATE PREPARE change_table;
