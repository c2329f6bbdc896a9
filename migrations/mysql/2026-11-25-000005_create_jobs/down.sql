DROP TABLE IF EXISTS likewise_job_events;
DROP TABLE IF EXISTS likewise_jobs;
