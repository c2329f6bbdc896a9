DROP TABLE likewise_processes;
