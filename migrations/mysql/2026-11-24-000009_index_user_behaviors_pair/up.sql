-- MySQL knows no CREATE INDEX IF NOT EXISTS.
SET @statement = IF(
    EXISTS (
        SELECT 1 FROM information_schema.statistics
        WHERE table_schema = DATABASE() AND table_name = 'user_behaviors' AND index_name = 'user_behaviors_pair'
    ),
    'DO 0',
    'CREATE INDEX user_behaviors_pair ON user_behaviors (user_id, resource_type, resource_id, version)'
);
PREPARE change_table FROM @statement;
EXECUTE change_table;
DEALLOCATE PREPARE change_table;
