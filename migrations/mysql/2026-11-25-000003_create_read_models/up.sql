-- The read models: who likes what, and how many likes a resource has.
-- IF NOT EXISTS: MySQL commits each statement, and a killed migration runs again (docs/adr/0024).
CREATE TABLE IF NOT EXISTS video_likes (
    user_id BIGINT NOT NULL,
    video_id BIGINT NOT NULL,
    version BIGINT NOT NULL,
    created_at DATETIME(6) NOT NULL,
    deleted_at DATETIME(6),
    PRIMARY KEY (user_id, video_id),
    KEY video_likes_video (video_id, deleted_at, version),
    KEY video_likes_user (user_id, deleted_at, version)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

CREATE TABLE IF NOT EXISTS comment_likes (
    user_id BIGINT NOT NULL,
    comment_id BIGINT NOT NULL,
    version BIGINT NOT NULL,
    created_at DATETIME(6) NOT NULL,
    deleted_at DATETIME(6),
    PRIMARY KEY (user_id, comment_id),
    KEY comment_likes_comment (comment_id, deleted_at, version),
    KEY comment_likes_user (user_id, deleted_at, version)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

CREATE TABLE IF NOT EXISTS likewise_like_counts (
    resource_type VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    resource_id BIGINT NOT NULL,
    like_count BIGINT NOT NULL,
    revision BIGINT NOT NULL,
    updated_at DATETIME(6) NOT NULL,
    PRIMARY KEY (resource_type, resource_id),
    KEY likewise_like_counts_most (resource_type, like_count, resource_id)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;
