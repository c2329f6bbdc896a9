-- Erasures: the proof of each, and the epoch that every mark raises. Recording holds a shared lock on the epoch, so that
-- an event is either recorded before a mark or sees it. The id of the erased is not kept, only its digest.
-- IF NOT EXISTS: MySQL commits each statement, and a killed migration runs again (docs/adr/0024).
CREATE TABLE IF NOT EXISTS likewise_erasures (
    digest CHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
    kind VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    resource_type VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin,
    epoch BIGINT NOT NULL,
    job_id CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    requested_by VARCHAR(255) NOT NULL,
    requested_at DATETIME(6) NOT NULL,
    finished_at DATETIME(6),
    deleted MEDIUMTEXT NOT NULL,
    KEY likewise_erasures_epoch (epoch)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

CREATE TABLE IF NOT EXISTS likewise_erasure_epoch (
    name VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
    epoch BIGINT NOT NULL
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

INSERT INTO likewise_erasure_epoch (name, epoch) VALUES ('likewise', 0)
    ON DUPLICATE KEY UPDATE epoch = likewise_erasure_epoch.epoch;
