-- The time up to which pruning has deleted rows of a table.
-- IF NOT EXISTS: MySQL commits each statement, and a killed migration runs again (docs/adr/0024).
CREATE TABLE IF NOT EXISTS likewise_retention (
    pruned_table VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
    pruned_before DATETIME(6) NOT NULL
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;
