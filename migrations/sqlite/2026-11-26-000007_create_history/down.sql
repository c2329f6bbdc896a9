DROP TABLE likewise_history;
