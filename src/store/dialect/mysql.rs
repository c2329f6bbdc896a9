//! What MySQL and MariaDB say in their own words.

use super::{Column, Dialect, SourceDialect, join, spell};
use crate::domain::{IdKind, Priority};

/// MySQL 8 and MariaDB 10.6, or newer: the first versions with both `JSON_TABLE` and `SKIP LOCKED`.
#[derive(Debug)]
pub(in crate::store) struct Mysql;

impl Mysql {
    /// MySQL has no type of UUIDs, and MariaDB orders its own otherwise than their text.
    const UUID: &'static str = "CHAR(36) CHARACTER SET ascii COLLATE ascii_bin";

    const KEY: &'static str = "VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin";
}

impl Dialect for Mysql {
    fn name(&self) -> &'static str {
        "MySQL"
    }

    fn clock_micros(&self) -> &'static str {
        "TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6))"
    }

    // The client asks for the rows that were found, and so for those that `ON DUPLICATE KEY UPDATE` meets.
    fn counts_only_new_rows(&self) -> bool {
        false
    }

    fn rows(&self, param: &str, columns: &[Column]) -> String {
        let columns = spell(columns, |index, column| {
            // The character set is that of the tables' columns, so that joins can use their keys.
            let (name, r#type) = match column {
                Column::Number(name) => (name, "BIGINT"),
                Column::User(name) | Column::ResourceId(name) | Column::Key(name) => {
                    (name, Self::KEY)
                }
                Column::Uuid(name) => (name, Self::UUID),
                Column::Word(name) => (name, "VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin"),
                Column::Text(name) => (name, "LONGTEXT CHARACTER SET utf8mb4"),
                Column::Time(name) => (name, "DATETIME(6)"),
                Column::Skipped => (&"", ""),
            };
            format!("{name} {type} PATH '$[{index}]'")
        });
        format!("JSON_TABLE({param}, '$[*]' COLUMNS ({columns})) AS r")
    }

    fn id_column(&self, kind: IdKind) -> &'static str {
        match kind {
            IdKind::Number => "BIGINT",
            IdKind::Uuid => Self::UUID,
            IdKind::Text => Self::KEY,
        }
    }

    // The batch first, row by row: the optimizer cannot know how long it is.
    fn join(&self) -> &'static str {
        "STRAIGHT_JOIN"
    }

    fn time(&self, param: &str) -> String {
        format!("CAST({param} AS DATETIME(6))")
    }

    // MariaDB reads a row of the batch from its start for each column.
    fn moment_of_version(&self) -> Option<&'static str> {
        Some("(TIMESTAMP '1970-01-01 00:00:00.000000' + INTERVAL r.version MICROSECOND)")
    }

    fn open_rows(&self) -> String {
        // The index begins with the priority, of which there are few.
        let priorities = join(&Priority::DESCENDING, |priority| {
            priority.as_number().to_string()
        });
        format!(
            "(SELECT * FROM sync_events FORCE INDEX (sync_events_due_by_priority) \
             WHERE priority IN ({priorities}) AND next_attempt_at IS NOT NULL) AS e"
        )
    }

    fn failure_status(&self) -> &'static str {
        "e.failure_status"
    }

    fn walks(&self) -> &'static [&'static str] {
        &[
            "e.failure_status IS NULL",
            "e.failure_status = 'failed'",
            "e.failure_status = 'dead'",
        ]
    }

    fn walk_of_completed(&self) -> &'static str {
        "e.failure_status IS NULL"
    }

    // No partial indexes: the column is NULL for behaviors that are not counted.
    fn counted_resource(&self) -> &'static str {
        "b.counted_resource_id"
    }

    fn tables(&self) -> &'static str {
        "SELECT table_name AS id FROM information_schema.tables WHERE table_schema = DATABASE()"
    }

    fn fence(&self) -> &'static str {
        ""
    }

    fn estimate(&self, table: &str) -> String {
        format!(
            "SELECT '{table}' AS label, CAST(COALESCE(MAX(table_rows), 0) AS SIGNED) AS total \
             FROM information_schema.tables \
             WHERE table_schema = DATABASE() AND table_name = '{table}'"
        )
    }

    fn micros(&self, column: &str) -> String {
        format!("TIMESTAMPDIFF(MICROSECOND, '1970-01-01', {column})")
    }

    fn clock(&self, seconds: i64) -> String {
        format!("(UTC_TIMESTAMP(6) + INTERVAL {seconds} SECOND)")
    }

    // MariaDB knows no FOR UPDATE OF; a batch has no rows to lock.
    fn for_update(&self, _: &str) -> String {
        " FOR UPDATE".to_owned()
    }

    // A row is locked when it is read, and the join reads the rows in the order of the batch. ORDER BY would only sort the
    // answer.
    fn for_update_in_order(&self, alias: &str, _: &str) -> String {
        self.for_update(alias)
    }

    fn skip_locked(&self, _: &str) -> String {
        " FOR UPDATE SKIP LOCKED".to_owned()
    }

    // MariaDB knows no FOR SHARE.
    fn for_share(&self) -> &'static str {
        " LOCK IN SHARE MODE"
    }

    fn on_conflict(&self, table: &str, key: &[&str], set: &[(&str, String)]) -> String {
        if set.is_empty() {
            // IGNORE would let pass whatever else is wrong with the row.
            let column = key[0];
            return format!("ON DUPLICATE KEY UPDATE {column} = {table}.{column}");
        }
        let set = join(set, |(column, value)| format!("{column} = {value}"));
        format!("ON DUPLICATE KEY UPDATE {set}")
    }

    // The statement counts rows that it finds like those that it inserts.
    fn on_unexpected(&self, _: &str) -> String {
        String::new()
    }

    // MySQL 8.0.20 prefers an alias, which MariaDB does not know.
    fn incoming(&self, column: &str) -> String {
        format!("VALUES({column})")
    }

    fn number(&self, expression: &str) -> String {
        format!("CAST({expression} AS SIGNED)")
    }

    fn unhex(&self, text: &str) -> String {
        format!("UNHEX({text})")
    }

    fn hex(&self, bytes: &str) -> String {
        format!("HEX({bytes})")
    }

    fn update(&self, table: &str, rows: &str, on: &str, set: &[(&str, &str)]) -> String {
        let set = join(set, |(column, value)| format!("e.{column} = {value}"));
        format!("UPDATE {rows} STRAIGHT_JOIN {table} AS e ON {on} SET {set}")
    }

    fn delete(&self, table: &str, rows: &str, key: &[(&str, &str)]) -> String {
        let on: Vec<_> = key
            .iter()
            .map(|(column, value)| format!("e.{column} = {value}"))
            .collect();
        let on = on.join(" AND ");
        format!("DELETE e FROM {rows} STRAIGHT_JOIN {table} AS e ON {on}")
    }
}

impl Mysql {
    fn is_binary(kind: &str) -> bool {
        kind.contains("binary") || kind.contains("blob")
    }
}

impl SourceDialect for Mysql {
    fn quoted(&self, name: &str) -> String {
        format!("`{name}`")
    }

    fn source_columns(&self, table: &str) -> String {
        format!(
            "SELECT CAST(c.column_name AS CHAR) AS name, LOWER(CAST(c.data_type AS CHAR)) AS kind, \
             CAST(COALESCE((SELECT k.ordinal_position FROM information_schema.key_column_usage k \
             WHERE k.table_schema = DATABASE() AND k.table_name = '{table}' \
             AND k.constraint_name = 'PRIMARY' AND k.column_name = c.column_name), 0) AS SIGNED) \
             AS key_place FROM information_schema.columns c WHERE c.table_schema = DATABASE() \
             AND c.table_name = '{table}' ORDER BY c.ordinal_position"
        )
    }

    fn source_size(&self, table: &str) -> String {
        format!(
            "SELECT 'rows' AS label, CAST(COALESCE(MAX(table_rows), 0) AS SIGNED) AS total \
             FROM information_schema.tables \
             WHERE table_schema = DATABASE() AND table_name = '{table}'"
        )
    }

    fn source_text(&self, column: &str, kind: &str) -> String {
        match kind {
            // Its text depends on the time zone of the session.
            "timestamp" => format!("CAST(UNIX_TIMESTAMP({column}) AS CHAR)"),
            "bit" => format!("CAST({column} + 0 AS CHAR)"),
            kind if Self::is_binary(kind) => format!("HEX({column})"),
            _ => format!("CAST({column} AS CHAR)"),
        }
    }

    fn source_key(&self, column: &str, kind: &str) -> String {
        match kind {
            "timestamp" => format!("CAST({column} AS CHAR)"),
            _ => self.source_text(column, kind),
        }
    }

    fn source_param(&self, param: &str, kind: &str) -> String {
        match Self::is_binary(kind) {
            true => format!("UNHEX({param})"),
            false => param.to_owned(),
        }
    }
}
