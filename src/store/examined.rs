//! Looking through a whole table, a bounded number of rows a step, in the order of its numeric key. Pruning, erasures and
//! exports do.

use super::error::StoreError;
use super::schema::Schema;
use super::session::{Session, Sql};
use super::statement::Param;

/// Returns the key of the last of the next rows, up to `limit` of them, after this key; `None` at the end of the table.
/// `last` is of [`last_key`].
pub(super) async fn examine<S: Session>(
    session: &mut S,
    last: &'static Sql,
    after: i64,
    limit: usize,
) -> Result<Option<i64>, StoreError> {
    let params = [Param::Number(after), Param::limit(limit)];
    let last = session.total(last.on(session.schema()), &params).await?;
    Ok((last > after).then_some(last))
}

/// The key of the last of some rows, or 0. Parameters: the key after which, the most rows.
pub(super) fn last_key(d: &Schema, table: &str, key: &str) -> String {
    format!(
        "SELECT 'last' AS label, {} AS total FROM (SELECT {key} FROM {table} \
         WHERE {key} > $1 ORDER BY {key} LIMIT $2) t",
        d.number(&format!("COALESCE(MAX(t.{key}), 0)"))
    )
}
