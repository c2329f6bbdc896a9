-- What the deployment did in each interval of ten seconds, for a day: a row for each process with what it did, and one
-- without a process for what they share. A row is JSON.
CREATE TABLE likewise_history (
    slot TIMESTAMP NOT NULL,
    process TEXT NOT NULL,
    figures TEXT NOT NULL,
    PRIMARY KEY (slot, process)
) WITHOUT ROWID;
