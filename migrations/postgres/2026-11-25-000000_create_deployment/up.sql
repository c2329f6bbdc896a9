-- The deployment: one row with its id, the generation of its data, a counter of heartbeats, and the kinds of its ids.
CREATE TABLE likewise_deployment (
    name TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    id TEXT COLLATE "C" NOT NULL,
    generation TEXT COLLATE "C" NOT NULL,
    beat BIGINT NOT NULL,
    user_ids TEXT COLLATE "C" NOT NULL,
    resource_ids TEXT COLLATE "C" NOT NULL,
    created_at TIMESTAMP(6) NOT NULL
);
