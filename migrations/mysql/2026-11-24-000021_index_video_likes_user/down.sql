DROP INDEX video_likes_user ON video_likes;
