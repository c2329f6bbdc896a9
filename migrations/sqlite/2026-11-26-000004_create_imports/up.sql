-- The imports of existing likes, with how far each has come.
CREATE TABLE likewise_imports (
    import_id INTEGER PRIMARY KEY,
    input TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    default_time TIMESTAMP NOT NULL,
    rows_read BIGINT NOT NULL,
    rows_rejected BIGINT NOT NULL,
    events_new BIGINT NOT NULL,
    events_repeated BIGINT NOT NULL,
    started_at TIMESTAMP NOT NULL,
    updated_at TIMESTAMP NOT NULL,
    finished_at TIMESTAMP
);

-- The lane of each import, with how far it has come. An older run than `run` writes no more.
CREATE TABLE likewise_import_lanes (
    import_id BIGINT NOT NULL,
    lane BIGINT NOT NULL,
    run BIGINT NOT NULL,
    position TEXT NOT NULL,
    PRIMARY KEY (import_id, lane)
);
