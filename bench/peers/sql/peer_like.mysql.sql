-- Stores a like or an unlike: behavior, completed ledger row, read model and count. Returns twice the like count, and one more
-- if the event changed it. In autocommit, the statement that calls it is one transaction.
CREATE OR REPLACE FUNCTION peer_like(
    p_event CHAR(36) CHARSET ascii,
    p_user BIGINT,
    p_video BIGINT,
    p_action VARCHAR(16) CHARSET ascii,
    p_version BIGINT,
    p_at DATETIME(6)
) RETURNS BIGINT MODIFIES SQL DATA
BEGIN
    DECLARE delta BIGINT DEFAULT 0;
    DECLARE total BIGINT DEFAULT 0;
    DECLARE CONTINUE HANDLER FOR NOT FOUND BEGIN END;
    INSERT INTO user_behaviors (event_id, user_id, resource_type, resource_id, behavior_type, version, source,
        behavior_time, created_at)
        VALUES (p_event, p_user, 'video', p_video, p_action, p_version, 'peer', p_at, p_at);
    INSERT INTO sync_events (id, event_type, resource_type, resource_id, user_id, action_type, status, version,
        retry_count, max_retries, priority, fencing_token, created_at, updated_at, processed_at)
        VALUES (p_event, 'video_like', 'video', p_video, p_user, p_action, 'completed', p_version, 0, 5, 0, 1,
            p_at, p_at, p_at);
    IF p_action = 'like' THEN
        INSERT IGNORE INTO video_likes (user_id, video_id, version, created_at)
            VALUES (p_user, p_video, p_version, p_at);
        SET delta = ROW_COUNT();
        IF delta = 0 THEN
            UPDATE video_likes SET deleted_at = NULL, created_at = p_at, version = p_version
                WHERE user_id = p_user AND video_id = p_video AND deleted_at IS NOT NULL AND version < p_version;
            SET delta = ROW_COUNT();
        END IF;
    ELSE
        UPDATE video_likes SET deleted_at = p_at, version = p_version
            WHERE user_id = p_user AND video_id = p_video AND deleted_at IS NULL AND version < p_version;
        SET delta = -ROW_COUNT();
    END IF;
    IF delta <> 0 THEN
        INSERT INTO likewise_like_counts (resource_type, resource_id, like_count, revision, updated_at)
            VALUES ('video', p_video, delta, 1, p_at)
            ON DUPLICATE KEY UPDATE like_count = like_count + delta, revision = revision + 1, updated_at = p_at;
    END IF;
    SELECT like_count INTO total FROM likewise_like_counts WHERE resource_type = 'video' AND resource_id = p_video;
    RETURN 2 * total + ABS(delta);
END
