DROP INDEX video_likes_user;
