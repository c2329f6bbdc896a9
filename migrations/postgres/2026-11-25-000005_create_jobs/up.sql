-- Work on many rows, and what a job works through: ids of events, of messages in quarantine or of dead letters.
CREATE TABLE likewise_jobs (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    kind TEXT COLLATE "C" NOT NULL,
    state TEXT COLLATE "C" NOT NULL,
    spec TEXT NOT NULL,
    requested_by TEXT NOT NULL,
    slot TEXT COLLATE "C" UNIQUE,
    total BIGINT,
    done BIGINT NOT NULL,
    changed BIGINT NOT NULL,
    position TEXT,
    result TEXT,
    error_message TEXT,
    lease_until TIMESTAMP(6),
    fencing_token BIGINT NOT NULL,
    created_at TIMESTAMP(6) NOT NULL,
    updated_at TIMESTAMP(6) NOT NULL,
    finished_at TIMESTAMP(6)
);

CREATE TABLE likewise_job_events (
    job_id TEXT COLLATE "C" NOT NULL,
    event_id TEXT COLLATE "C" NOT NULL,
    outcome TEXT COLLATE "C",
    PRIMARY KEY (job_id, event_id)
);
