-- The imports of existing likes, with how far each has come.
CREATE TABLE likewise_imports (
    import_id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    input TEXT COLLATE "C" NOT NULL UNIQUE,
    name TEXT NOT NULL,
    default_time TIMESTAMP(6) NOT NULL,
    rows_read BIGINT NOT NULL,
    rows_rejected BIGINT NOT NULL,
    events_new BIGINT NOT NULL,
    events_repeated BIGINT NOT NULL,
    started_at TIMESTAMP(6) NOT NULL,
    updated_at TIMESTAMP(6) NOT NULL,
    finished_at TIMESTAMP(6)
);

-- The lanes of each import, which write side by side, with how far each has come. An older run than `run` writes no more.
CREATE TABLE likewise_import_lanes (
    import_id BIGINT NOT NULL,
    lane BIGINT NOT NULL,
    run BIGINT NOT NULL,
    position TEXT NOT NULL,
    PRIMARY KEY (import_id, lane)
);
