CREATE INDEX video_likes_user ON video_likes (user_id, version, video_id)
    WHERE deleted_at IS NULL;
