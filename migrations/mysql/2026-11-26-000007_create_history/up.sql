-- What the deployment did in each interval of ten seconds, for a day: a row for each process with what it did, and one
-- without a process for what they share. A row is JSON.
-- IF NOT EXISTS: MySQL commits each statement, and a killed migration runs again (docs/adr/0024).
CREATE TABLE IF NOT EXISTS likewise_history (
    slot DATETIME(6) NOT NULL,
    process VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    figures TEXT NOT NULL,
    PRIMARY KEY (slot, process)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;
