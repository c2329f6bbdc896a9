DROP INDEX video_likes_video;
