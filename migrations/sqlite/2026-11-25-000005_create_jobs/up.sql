-- Work on many rows, and what a job works through: ids of events, of messages in quarantine or of dead letters.
CREATE TABLE likewise_jobs (
    id TEXT NOT NULL PRIMARY KEY,
    kind TEXT NOT NULL,
    state TEXT NOT NULL,
    spec TEXT NOT NULL,
    requested_by TEXT NOT NULL,
    slot TEXT UNIQUE,
    total BIGINT,
    done BIGINT NOT NULL,
    changed BIGINT NOT NULL,
    position TEXT,
    result TEXT,
    error_message TEXT,
    lease_until TIMESTAMP,
    fencing_token BIGINT NOT NULL,
    created_at TIMESTAMP NOT NULL,
    updated_at TIMESTAMP NOT NULL,
    finished_at TIMESTAMP
);

CREATE TABLE likewise_job_events (
    job_id TEXT NOT NULL,
    event_id TEXT NOT NULL,
    outcome TEXT,
    PRIMARY KEY (job_id, event_id)
) WITHOUT ROWID;
