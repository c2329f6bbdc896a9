DROP TABLE likewise_like_counts;
DROP TABLE comment_likes;
DROP TABLE video_likes;
