-- The deployment: one row, which names it and says what its ids are.
CREATE TABLE likewise_deployment (
    name TEXT NOT NULL PRIMARY KEY,
    id TEXT NOT NULL,
    user_ids TEXT NOT NULL,
    resource_ids TEXT NOT NULL,
    created_at TIMESTAMP NOT NULL
) WITHOUT ROWID;
