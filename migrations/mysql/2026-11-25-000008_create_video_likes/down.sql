DROP TABLE IF EXISTS video_likes;
