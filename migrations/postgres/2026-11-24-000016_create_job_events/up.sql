CREATE TABLE job_events (
    job_id TEXT COLLATE "C" NOT NULL,
    event_id TEXT COLLATE "C" NOT NULL,
    outcome TEXT COLLATE "C",
    PRIMARY KEY (job_id, event_id)
);
