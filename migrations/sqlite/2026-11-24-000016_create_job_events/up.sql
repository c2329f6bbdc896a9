CREATE TABLE job_events (
    job_id TEXT NOT NULL,
    event_id TEXT NOT NULL,
    outcome TEXT,
    PRIMARY KEY (job_id, event_id)
) WITHOUT ROWID;
