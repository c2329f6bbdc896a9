CREATE INDEX video_likes_video ON video_likes (video_id, version, user_id)
    WHERE deleted_at IS NULL;
