DROP TABLE IF EXISTS like_counts;
DROP TABLE IF EXISTS comment_likes;
DROP TABLE IF EXISTS video_likes;
