//! Writing down failed attempts on ledger rows. The sync publisher calls it.

use chrono::{DateTime, Utc};

use super::dialect::Column::{self, Number, Text, Time, Word};
use super::error::StoreError;
use super::schema::HELD;
use super::session::{Session, Sql};
use super::statement::{Param, time_text};
use super::text::id_text;
use super::{Store, transact};
use crate::domain::{LedgerRow, Verdict};

/// One failed attempt on a ledger row.
#[derive(Debug, Clone)]
pub struct FailedAttempt {
    /// The row, as it was claimed.
    pub row: LedgerRow,
    /// The verdict on it: another attempt later, or none.
    pub verdict: Verdict,
    /// Why it failed.
    pub error: String,
}

impl Store {
    /// Writes down failed attempts; of rows that another worker has claimed since, nothing.
    ///
    /// # Errors
    /// If the database cannot be reached.
    pub async fn fail(
        &self,
        attempts: &[FailedAttempt],
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        transact!(self, |session| fail(session, attempts, now))
    }
}

async fn fail<S: Session>(
    session: &mut S,
    attempts: &[FailedAttempt],
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let rows: Vec<_> = attempts
        .iter()
        .map(|attempt| {
            (
                id_text(attempt.row.event_id),
                attempt.row.fencing_token,
                attempt.verdict.status().as_str(),
                attempt.verdict.step().as_str(),
                i32::from(attempt.verdict.is_counted()),
                attempt.verdict.next_attempt_at().map(time_text),
                &attempt.error,
            )
        })
        .collect();
    let params = [Param::rows(&rows), Param::time(now)];
    let schema = session.schema();
    session.execute(APPEND_HISTORY.on(schema), &params).await?;
    session.execute(FAIL.on(schema), &params).await.map(drop)
}

/// The columns of a failed attempt.
const FAILED: [Column; 7] = [
    Word("event_id"),
    Number("token"),
    Word("next_status"),
    Word("step"),
    Number("counted"),
    Time("due_at"),
    Text("error"),
];

/// Appends the attempts that [`FAIL`] ends to the events' history, before it does. Parameters: rows of [`FAILED`],
/// now.
static APPEND_HISTORY: Sql = Sql::new(|d| {
    let (rows, join, now) = (d.rows("$1", &FAILED), d.join(), d.time("$2"));
    format!(
        "INSERT INTO likewise_sync_event_history (event_id, step, retry_count, fencing_token, \
         error_message, created_at) SELECT r.event_id, r.step, e.retry_count + r.counted, \
         r.token, r.error, {now} FROM {rows} {join} sync_events e ON {HELD}"
    )
});

/// Parameters: rows of [`FAILED`], now.
static FAIL: Sql = Sql::new(|d| {
    let (rows, now) = (d.rows("$1", &FAILED), d.time("$2"));
    let closed_at = format!("CASE WHEN r.next_status = 'dead' THEN {now} END");
    d.update(
        "sync_events",
        &rows,
        HELD,
        &[
            ("status", "r.next_status"),
            ("retry_count", "e.retry_count + r.counted"),
            ("error_message", "r.error"),
            ("next_attempt_at", "r.due_at"),
            ("lease_until", "NULL"),
            ("updated_at", &now),
            ("processed_at", &closed_at),
        ],
    )
});
