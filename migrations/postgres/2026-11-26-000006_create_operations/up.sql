-- What operators did, from the newest to the oldest in the order of the index.
CREATE TABLE likewise_operations (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    operator TEXT NOT NULL,
    action TEXT COLLATE "C" NOT NULL,
    target_type TEXT COLLATE "C" NOT NULL,
    target TEXT NOT NULL,
    process TEXT COLLATE "C",
    result TEXT COLLATE "C" NOT NULL,
    detail TEXT,
    created_at TIMESTAMP(6) NOT NULL
);
CREATE INDEX likewise_operations_created ON likewise_operations (created_at, id);
