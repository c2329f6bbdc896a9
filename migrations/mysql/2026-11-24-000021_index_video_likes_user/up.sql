-- MySQL knows no CREATE INDEX IF NOT EXISTS.
SET @statement = IF(
    EXISTS (
        SELECT 1 FROM information_schema.statistics
        WHERE table_schema = DATABASE() AND table_name = 'video_likes' AND index_name = 'video_likes_user'
    ),
    'DO 0',
    'CREATE INDEX video_likes_user ON video_likes (user_id, deleted_at, version)'
);
PREPARE change_table FROM @statement;
EXECUTE change_table;
DEALLOCATE PREPARE change_table;
