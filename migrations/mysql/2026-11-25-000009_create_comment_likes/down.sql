DROP TABLE IF EXISTS comment_likes;
