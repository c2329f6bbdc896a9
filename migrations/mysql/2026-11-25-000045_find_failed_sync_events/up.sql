-- MySQL knows no partial index. This column is NULL unless the row is failed or dead, so that an index on it
-- tells them apart, and a row which completes does not move in that index. SELECT * leaves it out.
-- MySQL knows no ADD COLUMN IF NOT EXISTS.
SET @statement = IF(
    EXISTS (
        SELECT 1 FROM information_schema.columns
        WHERE table_schema = DATABASE() AND table_name = 'sync_events' AND column_name = 'failure_status'
    ),
    'DO 0',
    'ALTER TABLE sync_events ADD COLUMN failure_status VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin
    GENERATED ALWAYS AS (CASE WHEN status IN (''failed'', ''dead'') THEN status END) STORED INVISIBLE'
);
PREPARE change_table FROM @statement;
EXECUTE change_table;
DEALLOCATE PREPARE change_table;
