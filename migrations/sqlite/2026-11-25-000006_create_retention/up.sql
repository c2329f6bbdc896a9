-- The time up to which pruning has deleted rows of a table.
CREATE TABLE likewise_retention (
    pruned_table TEXT NOT NULL PRIMARY KEY,
    pruned_before TIMESTAMP NOT NULL
);
