//! What differs between databases where an import reads a table of the product: its columns, their values as text, and
//! its key. `mod.rs` has all other differences.

/// How one database reads a table that it knows nothing of beforehand. Names of columns are quoted.
pub(in crate::store) trait SourceDialect: Send + Sync {
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
