DROP INDEX comment_likes_user ON comment_likes;
