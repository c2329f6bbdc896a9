DROP INDEX video_likes_video ON video_likes;
