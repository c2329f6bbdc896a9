-- MySQL knows no ADD COLUMN IF NOT EXISTS.
SET @statement = IF(
    EXISTS (
        SELECT 1 FROM information_schema.columns
        WHERE table_schema = DATABASE() AND table_name = 'user_behaviors' AND column_name = 'stream_sequence'
    ),
    'DO 0',
    'ALTER TABLE user_behaviors ADD COLUMN stream_sequence BIGINT'
);
PREPARE change_table FROM @statement;
EXECUTE change_table;
DEALLOCATE PREPARE change_table;
