//! What SQLite says in its own words.

use super::{Column, Dialect, SourceDialect, spell};
use crate::domain::IdKind;

/// SQLite 3.51 or newer; the one that is compiled in.
#[derive(Debug)]
pub(in crate::store) struct Sqlite;

impl Dialect for Sqlite {
    fn name(&self) -> &'static str {
        "SQLite"
    }

    fn in_process(&self) -> bool {
        true
    }

    fn clock_micros(&self) -> &'static str {
        "CAST(unixepoch('subsec') * 1000000 AS INTEGER)"
    }

    fn rows(&self, param: &str, columns: &[Column]) -> String {
        let columns = spell(columns, |index, column| {
            format!("value ->> {index} AS {}", column.name())
        });
        format!("(SELECT {columns} FROM jsonb_each({param})) AS r")
    }

    fn id_column(&self, kind: IdKind) -> &'static str {
        match kind {
            IdKind::Number => "BIGINT",
            IdKind::Uuid | IdKind::Text => "TEXT",
        }
    }

    fn join(&self) -> &'static str {
        "CROSS JOIN"
    }

    fn time(&self, param: &str) -> String {
        param.to_owned()
    }

    // The id of a behavior is one more than the largest, and the transaction has the only write lock. A column of a table
    // costs less than one of the batch.
    fn newest_behaviors(&self, number: &str) -> Option<String> {
        Some(format!(
            "(SELECT * FROM user_behaviors WHERE user_behavior_id > \
             (SELECT MAX(user_behavior_id) FROM user_behaviors) - {number}) AS r"
        ))
    }

    // The text of the seconds alone: a fraction would be rounded to milliseconds.
    fn micros(&self, column: &str) -> String {
        format!(
            "(unixepoch(substr({column}, 1, 19)) * 1000000 \
             + CAST(substr({column}, 21, 6) AS INTEGER))"
        )
    }

    fn clock(&self, seconds: i64) -> String {
        format!("strftime('%Y-%m-%d %H:%M:%f', 'now', '{seconds} seconds')")
    }

    fn open_rows(&self) -> String {
        "(SELECT * FROM sync_events INDEXED BY sync_events_due_by_priority \
         WHERE next_attempt_at IS NOT NULL) AS e"
            .to_owned()
    }

    fn tables(&self) -> &'static str {
        "SELECT name AS id FROM sqlite_schema"
    }

    // SQLite would choose a plan for the value of a bare parameter, and so prepare the statement again each time.
    fn limit_by_parameter(&self) -> &'static str {
        "LIMIT 0+$"
    }

    fn fence(&self) -> &'static str {
        " LIMIT -1"
    }

    // SQLite counts no rows. An id is given to each behavior, so the ids tell about how many there were.
    fn estimate(&self, table: &str) -> String {
        let total = match table {
            "likewise_like_counts" | "likewise_behavior_counts" => "0",
            _ => {
                "COALESCE((SELECT MAX(user_behavior_id) FROM user_behaviors) \
                 - (SELECT MIN(user_behavior_id) FROM user_behaviors) + 1, 0)"
            }
        };
        format!("SELECT '{table}' AS label, {total} AS total")
    }

    // One writer at a time, with the write lock taken at BEGIN IMMEDIATE: no row needs its own.
    fn for_update(&self, _: &str) -> String {
        String::new()
    }

    fn skip_locked(&self, _: &str) -> String {
        String::new()
    }

    fn number(&self, expression: &str) -> String {
        expression.to_owned()
    }

    fn unhex(&self, text: &str) -> String {
        format!("unhex({text})")
    }

    fn hex(&self, bytes: &str) -> String {
        format!("hex({bytes})")
    }
}

impl SourceDialect for Sqlite {
    // A table without a primary key is read by the number of the row.
    fn source_columns(&self, table: &str) -> String {
        format!(
            "SELECT name, lower(type) AS kind, pk AS key_place FROM pragma_table_info('{table}') \
             UNION ALL SELECT 'rowid', 'integer', 1 WHERE 0 = (\
             SELECT MAX(pk) FROM pragma_table_info('{table}'))"
        )
    }

    fn source_size(&self, table: &str) -> String {
        format!("SELECT 'rows' AS label, COUNT(*) AS total FROM \"{table}\"")
    }

    // Any column may hold bytes.
    fn source_text(&self, column: &str, _: &str) -> String {
        format!(
            "CASE typeof({column}) WHEN 'blob' THEN hex({column}) ELSE CAST({column} AS TEXT) END"
        )
    }

    fn source_param(&self, param: &str, kind: &str) -> String {
        match kind {
            "blob" => format!("unhex({param})"),
            _ => param.to_owned(),
        }
    }
}
