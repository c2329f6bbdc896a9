CREATE TABLE comment_likes (
    user_id BIGINT NOT NULL,
    comment_id BIGINT NOT NULL,
    version BIGINT NOT NULL,
    created_at TIMESTAMP(6) NOT NULL,
    deleted_at TIMESTAMP(6),
    PRIMARY KEY (user_id, comment_id)
);
