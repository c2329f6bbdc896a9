//! What PostgreSQL says in its own words.

use super::{Column, Dialect, SourceDialect, spell};
use crate::domain::IdKind;

/// PostgreSQL 14 or newer.
#[derive(Debug)]
pub(in crate::store) struct Postgres;

impl Dialect for Postgres {
    fn name(&self) -> &'static str {
        "PostgreSQL"
    }

    fn clock_micros(&self) -> &'static str {
        "(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000)::bigint"
    }

    fn rows(&self, param: &str, columns: &[Column]) -> String {
        let columns = spell(columns, |index, column| {
            let (name, cast) = match column {
                Column::Number(name) => (name, "::bigint"),
                Column::Uuid(name) => (name, "::uuid"),
                Column::User(name)
                | Column::ResourceId(name)
                | Column::Key(name)
                | Column::Word(name)
                | Column::Text(name) => (name, ""),
                Column::Time(name) => (name, "::timestamp"),
                Column::Skipped => (&"", ""),
            };
            format!("(value ->> {index}){cast} AS {name}")
        });
        format!("(SELECT {columns} FROM json_array_elements({param}::json)) AS r")
    }

    fn id(&self, kind: IdKind, param: &str) -> String {
        match kind {
            IdKind::Uuid => format!("{param}::uuid"),
            IdKind::Number | IdKind::Text => param.to_owned(),
        }
    }

    fn id_column(&self, kind: IdKind) -> &'static str {
        match kind {
            IdKind::Number => "BIGINT",
            IdKind::Uuid => "UUID",
            IdKind::Text => "TEXT COLLATE \"C\"",
        }
    }

    fn join(&self) -> &'static str {
        "JOIN"
    }

    fn time(&self, param: &str) -> String {
        format!("{param}::timestamp")
    }

    // Without the fence, PostgreSQL may read rows by their age and hope to meet open ones soon.
    fn open_rows(&self) -> String {
        format!(
            "(SELECT * FROM sync_events WHERE next_attempt_at IS NOT NULL{}) AS e",
            self.fence()
        )
    }

    fn tables(&self) -> &'static str {
        // The information schema hides tables without permissions.
        "SELECT c.relname::text AS id FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE n.nspname = current_schema() AND c.relkind IN ('r', 'p', 'v', 'm', 'f')"
    }

    fn fence(&self) -> &'static str {
        " OFFSET 0"
    }

    fn estimate(&self, table: &str) -> String {
        format!(
            "SELECT '{table}' AS label, reltuples::bigint AS total FROM pg_class \
             WHERE oid = '{table}'::regclass"
        )
    }

    fn micros(&self, column: &str) -> String {
        format!("(EXTRACT(EPOCH FROM {column}) * 1000000)::bigint")
    }

    fn clock(&self, seconds: i64) -> String {
        format!("(clock_timestamp() AT TIME ZONE 'UTC' + INTERVAL '{seconds} seconds')")
    }

    fn for_update(&self, alias: &str) -> String {
        format!(" FOR UPDATE OF {alias}")
    }

    fn skip_locked(&self, alias: &str) -> String {
        format!(" FOR UPDATE OF {alias} SKIP LOCKED")
    }

    // A row lock would write the row at each batch. The number names this use of advisory locks, the object id the
    // tables of this deployment.
    fn share_marks(&self) -> Option<&'static str> {
        Some(
            "SELECT pg_advisory_xact_lock_shared(1818982765, 'likewise_erasure_epoch'::regclass::oid::int)",
        )
    }

    fn lock_marks(&self) -> Option<&'static str> {
        Some(
            "SELECT pg_advisory_xact_lock(1818982765, 'likewise_erasure_epoch'::regclass::oid::int)",
        )
    }

    fn number(&self, expression: &str) -> String {
        format!("({expression})::bigint")
    }

    fn unhex(&self, text: &str) -> String {
        format!("decode({text}, 'hex')")
    }

    fn hex(&self, bytes: &str) -> String {
        format!("encode({bytes}, 'hex')")
    }
}

impl SourceDialect for Postgres {
    fn source_columns(&self, table: &str) -> String {
        format!(
            "SELECT a.attname::text AS name, format_type(a.atttypid, NULL) AS kind, \
             COALESCE(array_position(i.indkey::smallint[], a.attnum) + 1, 0)::bigint AS key_place \
             FROM pg_attribute a LEFT JOIN pg_index i ON i.indrelid = a.attrelid AND i.indisprimary \
             WHERE a.attrelid = to_regclass('\"{table}\"') AND a.attnum > 0 AND NOT a.attisdropped \
             ORDER BY a.attnum"
        )
    }

    fn source_size(&self, table: &str) -> String {
        format!(
            "SELECT 'rows' AS label, reltuples::bigint AS total FROM pg_class \
             WHERE oid = to_regclass('\"{table}\"')"
        )
    }

    fn source_text(&self, column: &str, kind: &str) -> String {
        match kind {
            "bytea" => format!("encode({column}, 'hex')"),
            "timestamp with time zone" => format!("EXTRACT(EPOCH FROM {column})::text"),
            _ => format!("{column}::text"),
        }
    }

    fn source_key(&self, column: &str, kind: &str) -> String {
        match kind {
            "bytea" => self.source_text(column, kind),
            _ => format!("{column}::text"),
        }
    }

    fn source_param(&self, param: &str, kind: &str) -> String {
        match kind {
            "bytea" => format!("decode({param}, 'hex')"),
            _ => format!("{param}::{kind}"),
        }
    }

    // The cast reads text.
    fn is_bound_as_number(&self, _: &str) -> bool {
        false
    }
}
