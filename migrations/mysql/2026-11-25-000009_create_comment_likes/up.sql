-- Who likes which comment. The service derives the table of each resource type from that of the videos.
-- IF NOT EXISTS: MySQL commits each statement, and a killed migration runs again (docs/adr/0024).
CREATE TABLE IF NOT EXISTS comment_likes (
    user_id BIGINT NOT NULL,
    comment_id BIGINT NOT NULL,
    version BIGINT NOT NULL,
    created_at DATETIME(6) NOT NULL,
    deleted_at DATETIME(6),
    voided_at DATETIME(6),
    PRIMARY KEY (user_id, comment_id),
    KEY comment_likes_comment (comment_id, deleted_at, voided_at, created_at),
    KEY comment_likes_user (user_id, deleted_at, created_at)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;
