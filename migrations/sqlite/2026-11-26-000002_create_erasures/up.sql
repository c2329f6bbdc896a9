-- Erasures: the proof of each, and the epoch that every mark raises. Recording reads the epoch under a lock, so that an
-- event is either recorded before a mark or sees it. The id of the erased is not kept, only its digest.
CREATE TABLE likewise_erasures (
    digest TEXT NOT NULL PRIMARY KEY,
    kind TEXT NOT NULL,
    resource_type TEXT,
    epoch BIGINT NOT NULL,
    job_id TEXT NOT NULL,
    requested_by TEXT NOT NULL,
    requested_at TIMESTAMP NOT NULL,
    finished_at TIMESTAMP,
    deleted TEXT NOT NULL
);
CREATE INDEX likewise_erasures_epoch ON likewise_erasures (epoch);

CREATE TABLE likewise_erasure_epoch (
    name TEXT NOT NULL PRIMARY KEY,
    epoch BIGINT NOT NULL
);
INSERT INTO likewise_erasure_epoch (name, epoch) VALUES ('likewise', 0);
