CREATE INDEX comment_likes_user ON comment_likes (user_id, version, comment_id)
    WHERE deleted_at IS NULL;
