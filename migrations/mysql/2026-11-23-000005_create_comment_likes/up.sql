CREATE TABLE IF NOT EXISTS comment_likes (
    user_id BIGINT NOT NULL,
    comment_id BIGINT NOT NULL,
    version BIGINT NOT NULL,
    created_at DATETIME(6) NOT NULL,
    deleted_at DATETIME(6),
    PRIMARY KEY (user_id, comment_id)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;
