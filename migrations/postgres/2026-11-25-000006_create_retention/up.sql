-- The time up to which pruning has deleted rows of a table.
CREATE TABLE likewise_retention (
    pruned_table TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    pruned_before TIMESTAMP(6) NOT NULL
);
