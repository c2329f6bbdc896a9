CREATE INDEX comment_likes_comment ON comment_likes (comment_id, version, user_id)
    WHERE deleted_at IS NULL;
