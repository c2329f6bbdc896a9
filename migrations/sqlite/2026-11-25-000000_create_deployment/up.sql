-- The deployment: one row with its id, the generation of its data, a counter of heartbeats, and the kinds of its ids.
CREATE TABLE likewise_deployment (
    name TEXT NOT NULL PRIMARY KEY,
    id TEXT NOT NULL,
    generation TEXT NOT NULL,
    beat BIGINT NOT NULL,
    user_ids TEXT NOT NULL,
    resource_ids TEXT NOT NULL,
    created_at TIMESTAMP NOT NULL
) WITHOUT ROWID;
