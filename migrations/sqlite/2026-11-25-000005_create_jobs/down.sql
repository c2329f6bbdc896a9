DROP TABLE likewise_job_events;
DROP TABLE likewise_jobs;
