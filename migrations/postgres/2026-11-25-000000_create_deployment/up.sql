-- The deployment: one row, which names it and says what its ids are.
CREATE TABLE likewise_deployment (
    name TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    id TEXT COLLATE "C" NOT NULL,
    user_ids TEXT COLLATE "C" NOT NULL,
    resource_ids TEXT COLLATE "C" NOT NULL,
    created_at TIMESTAMP(6) NOT NULL
);
