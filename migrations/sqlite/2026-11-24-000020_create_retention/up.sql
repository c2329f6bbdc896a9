CREATE TABLE retention (
    pruned_table TEXT NOT NULL PRIMARY KEY,
    pruned_before TIMESTAMP NOT NULL
);
