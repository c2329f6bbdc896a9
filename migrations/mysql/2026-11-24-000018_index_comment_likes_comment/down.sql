DROP INDEX comment_likes_comment ON comment_likes;
