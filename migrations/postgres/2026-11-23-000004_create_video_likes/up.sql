CREATE TABLE video_likes (
    user_id BIGINT NOT NULL,
    video_id BIGINT NOT NULL,
    version BIGINT NOT NULL,
    created_at TIMESTAMP(6) NOT NULL,
    deleted_at TIMESTAMP(6),
    PRIMARY KEY (user_id, video_id)
);
