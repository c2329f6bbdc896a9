-- Who likes which video. The service derives the table of each resource type from that of the videos.
-- IF NOT EXISTS: MySQL commits each statement, and a killed migration runs again (docs/adr/0024).
CREATE TABLE IF NOT EXISTS video_likes (
    user_id BIGINT NOT NULL,
    video_id BIGINT NOT NULL,
    version BIGINT NOT NULL,
    created_at DATETIME(6) NOT NULL,
    deleted_at DATETIME(6),
    voided_at DATETIME(6),
    PRIMARY KEY (user_id, video_id),
    KEY video_likes_video (video_id, deleted_at, voided_at, created_at),
    KEY video_likes_user (user_id, deleted_at, created_at)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;
