DROP TABLE IF EXISTS likewise_like_counts;
DROP TABLE IF EXISTS comment_likes;
DROP TABLE IF EXISTS video_likes;
