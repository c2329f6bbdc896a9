-- Who likes which comment. The service derives the table of each resource type from that of the videos.
CREATE TABLE comment_likes (
    user_id BIGINT NOT NULL,
    comment_id BIGINT NOT NULL,
    version BIGINT NOT NULL,
    created_at TIMESTAMP(6) NOT NULL,
    deleted_at TIMESTAMP(6),
    voided_at TIMESTAMP(6),
    PRIMARY KEY (user_id, comment_id)
);
CREATE INDEX comment_likes_comment ON comment_likes (comment_id, created_at, user_id)
    WHERE deleted_at IS NULL AND voided_at IS NULL;
CREATE INDEX comment_likes_user ON comment_likes (user_id, created_at, comment_id) WHERE deleted_at IS NULL;
