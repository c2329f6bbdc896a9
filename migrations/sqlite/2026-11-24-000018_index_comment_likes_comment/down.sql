DROP INDEX comment_likes_comment;
