-- The running processes, with what each is set up with, so that they notice differences.
CREATE TABLE likewise_processes (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    host TEXT NOT NULL,
    role TEXT COLLATE "C" NOT NULL,
    version TEXT NOT NULL,
    cache TEXT NOT NULL,
    broker TEXT NOT NULL,
    erasure_epoch BIGINT NOT NULL DEFAULT 0,
    facts TEXT NOT NULL,
    resource_types TEXT NOT NULL,
    seen_at TIMESTAMP(6) NOT NULL
);
