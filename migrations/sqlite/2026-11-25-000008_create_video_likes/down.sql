DROP TABLE video_likes;
