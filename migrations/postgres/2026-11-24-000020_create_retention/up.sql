CREATE TABLE retention (
    pruned_table TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    pruned_before TIMESTAMP(6) NOT NULL
);
