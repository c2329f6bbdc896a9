//! What differs between databases where an import reads a table of the product: its columns, their values as text, and
//! its key. `dialect.rs` has all other differences.

use super::dialect::{Mysql, Postgres, Sqlite};

/// How one database reads a table that it knows nothing of beforehand. Names of columns are quoted.
pub(super) trait SourceDialect: Send + Sync {
    /// This name, quoted.
    fn quoted(&self, name: &str) -> String {
        format!("\"{name}\"")
    }

    /// The columns of a table, as `(name, kind, key_place)`, in its order.
    fn source_columns(&self, table: &str) -> String;

    /// About how many rows a table has, as a row `(label, total)`.
    fn source_size(&self, table: &str) -> String;

    /// The value of a column of this type, as text. A time with a time zone becomes a Unix time.
    fn source_text(&self, column: &str, kind: &str) -> String;

    /// The value of a column of the key, as text that [`source_param`](Self::source_param) takes.
    fn source_key(&self, column: &str, kind: &str) -> String {
        self.source_text(column, kind)
    }

    /// This parameter, as a value of a column of the key of this type.
    fn source_param(&self, param: &str, kind: &str) -> String;

    /// Whether the value of a column of the key is bound as a number.
    fn is_bound_as_number(&self, kind: &str) -> bool {
        kind.contains("int")
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
             WHERE k.table_schema = c.table_schema AND k.table_name = c.table_name \
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
