//! The history of events: each step of each attempt. Claims, operators and repairs append to it.

use chrono::{DateTime, Utc};

use super::dialect::Column::{Number, Text, Word};
use super::error::StoreError;
use super::session::{Session, Sql};
use super::statement::Param;
use crate::domain::Step;

/// An entry: the event's id, the step, its failed attempts, its fencing token, the error, and the operator.
pub(super) type Entry<'a> = (String, Step, i32, i64, Option<&'a str>, Option<&'a str>);

/// Appends entries.
pub(super) async fn append<S: Session>(
    session: &mut S,
    entries: &[Entry<'_>],
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    if entries.is_empty() {
        return Ok(());
    }
    let rows: Vec<_> = entries
        .iter()
        .map(|(id, step, retries, token, error, operator)| {
            (id, step.as_str(), retries, token, error, operator)
        })
        .collect();
    let params = [Param::rows(&rows), Param::time(now)];
    let statement = APPEND.on(session.schema());
    session.execute(statement, &params).await.map(drop)
}

/// Parameters: rows `(event_id, step, retry_count, token, error, operator)`, now.
static APPEND: Sql = Sql::new(|d| {
    let columns = [
        Word("event_id"),
        Word("step"),
        Number("retry_count"),
        Number("token"),
        Text("error"),
        Text("operator"),
    ];
    let (rows, now) = (d.rows("$1", &columns), d.time("$2"));
    format!(
        "INSERT INTO likewise_sync_event_history (event_id, step, retry_count, fencing_token, \
         error_message, operator, created_at) SELECT r.event_id, r.step, r.retry_count, \
         r.token, r.error, r.operator, {now} FROM {rows}"
    )
});
