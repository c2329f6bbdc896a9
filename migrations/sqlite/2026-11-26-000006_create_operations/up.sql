-- What operators did, from the newest to the oldest in the order of the index.
CREATE TABLE likewise_operations (
    id TEXT NOT NULL PRIMARY KEY,
    operator TEXT NOT NULL,
    action TEXT NOT NULL,
    target_type TEXT NOT NULL,
    target TEXT NOT NULL,
    process TEXT,
    result TEXT NOT NULL,
    detail TEXT,
    created_at TIMESTAMP NOT NULL
);
CREATE INDEX likewise_operations_created ON likewise_operations (created_at, id);
