-- Who likes which video. The service derives the table of each resource type from that of the videos.
CREATE TABLE video_likes (
    user_id BIGINT NOT NULL,
    video_id BIGINT NOT NULL,
    version BIGINT NOT NULL,
    created_at TIMESTAMP(6) NOT NULL,
    deleted_at TIMESTAMP(6),
    voided_at TIMESTAMP(6),
    PRIMARY KEY (user_id, video_id)
);
CREATE INDEX video_likes_video ON video_likes (video_id, created_at, user_id)
    WHERE deleted_at IS NULL AND voided_at IS NULL;
CREATE INDEX video_likes_user ON video_likes (user_id, created_at, video_id) WHERE deleted_at IS NULL;
