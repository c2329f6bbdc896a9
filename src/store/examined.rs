//! Looking through a whole table, a bounded number of rows a step, in the order of its key. Pruning, erasures and exports do.
//!
//! It ends with the first step that reaches the last row. While likes arrive, a step always finds new rows after that one, so a
//! walk until no row is left would never end.

use diesel::prelude::QueryableByName;
use diesel::sql_types::BigInt;

use super::error::StoreError;
use super::schema::Schema;
use super::session::{Session, Sql};
use super::statement::Param;

/// The rows of one step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Examined {
    /// The key of the last of them.
    pub(super) last: i64,
    /// The key after which the next step continues; `None` at the end of the table.
    pub(super) next: Option<i64>,
}

#[derive(Debug, QueryableByName)]
struct LastRow {
    #[diesel(sql_type = BigInt)]
    last: i64,
    #[diesel(sql_type = BigInt)]
    examined: i64,
}

/// Looks at the next rows, up to `limit` of them, after this key; `None` if there are none. `last` is of [`last_key`].
pub(super) async fn examine<S: Session>(
    session: &mut S,
    last: &'static Sql,
    after: i64,
    limit: usize,
) -> Result<Option<Examined>, StoreError> {
    let params = [Param::Number(after), Param::limit(limit)];
    let rows: Vec<LastRow> = session.load(last.on(session.schema()), &params).await?;
    let row = rows.into_iter().find(|row| row.examined > 0);
    Ok(row.map(|LastRow { last, examined }| Examined {
        last,
        next: has_more(examined, limit).then_some(last),
    }))
}

/// Returns whether rows may follow those of a step.
pub(super) fn has_more(examined: i64, limit: usize) -> bool {
    usize::try_from(examined).is_ok_and(|examined| examined >= limit)
}

/// The key of the last of some rows, and their number. Parameters: the key after which, the most rows.
pub(super) fn last_key(d: &Schema, table: &str, key: &str) -> String {
    format!(
        "SELECT {} AS last, {} AS examined FROM (SELECT {key} FROM {table} \
         WHERE {key} > $1 ORDER BY {key} LIMIT $2) t",
        d.number(&format!("COALESCE(MAX(t.{key}), 0)")),
        d.number("COUNT(*)")
    )
}
