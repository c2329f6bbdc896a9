DROP INDEX comment_likes_user;
