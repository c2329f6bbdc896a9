-- The read models: who likes what, and how many likes a resource has.
CREATE TABLE video_likes (
    user_id BIGINT NOT NULL,
    video_id BIGINT NOT NULL,
    version BIGINT NOT NULL,
    created_at TIMESTAMP(6) NOT NULL,
    deleted_at TIMESTAMP(6),
    PRIMARY KEY (user_id, video_id)
);
CREATE INDEX video_likes_video ON video_likes (video_id, version, user_id) WHERE deleted_at IS NULL;
CREATE INDEX video_likes_user ON video_likes (user_id, version, video_id) WHERE deleted_at IS NULL;

CREATE TABLE comment_likes (
    user_id BIGINT NOT NULL,
    comment_id BIGINT NOT NULL,
    version BIGINT NOT NULL,
    created_at TIMESTAMP(6) NOT NULL,
    deleted_at TIMESTAMP(6),
    PRIMARY KEY (user_id, comment_id)
);
CREATE INDEX comment_likes_comment ON comment_likes (comment_id, version, user_id) WHERE deleted_at IS NULL;
CREATE INDEX comment_likes_user ON comment_likes (user_id, version, comment_id) WHERE deleted_at IS NULL;

CREATE TABLE likewise_like_counts (
    resource_type TEXT COLLATE "C" NOT NULL,
    resource_id BIGINT NOT NULL,
    like_count BIGINT NOT NULL,
    revision BIGINT NOT NULL,
    updated_at TIMESTAMP(6) NOT NULL,
    PRIMARY KEY (resource_type, resource_id)
);
CREATE INDEX likewise_like_counts_most ON likewise_like_counts (resource_type, like_count, resource_id);
