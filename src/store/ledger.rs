//! The ledger in numbers: its health for operators, rows of each status, and open rows.

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDateTime, Utc};
use diesel::prelude::QueryableByName;
use diesel::sql_types::{BigInt, Integer, Nullable, Text, Timestamp};
use serde::Serialize;
use utoipa::ToSchema;

use super::error::StoreError;
use super::ids::AnyId;
use super::ledger_filter::{FAILURES, is_failure};
use super::pool::SEARCH_TIMEOUT;
use super::schema::Schema;
use super::session::{IdRow, Session, Sql, TotalRow};
use super::statement::{Param, Statement};
use super::text::word;
use super::time::InUtc;
use super::{Sample, Store, read};
use crate::domain::{Action, Id, ResourceType, Status};

/// A row of `sync_events`, as operators see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema, QueryableByName)]
pub struct LedgerEntry {
    /// The event's id.
    #[diesel(sql_type = Text, column_name = id)]
    pub event_id: String,
    /// The user who liked or unliked.
    #[schema(value_type = i64)]
    #[diesel(sql_type = AnyId)]
    pub user_id: Id,
    /// The kind of resource.
    #[schema(value_type = ResourceType)]
    #[diesel(sql_type = Text)]
    pub resource_type: String,
    /// The resource's id.
    #[schema(value_type = i64)]
    #[diesel(sql_type = AnyId)]
    pub resource_id: Id,
    /// What the user did.
    #[schema(value_type = Action)]
    #[diesel(sql_type = Text, column_name = action_type)]
    pub action: String,
    /// How far it has come.
    #[schema(value_type = Status)]
    #[diesel(sql_type = Text)]
    pub status: String,
    /// Its place among the events of the pair.
    #[diesel(sql_type = BigInt)]
    pub version: i64,
    /// Failed attempts.
    #[diesel(sql_type = Integer)]
    pub retry_count: i32,
    /// The number of failed attempts after which it is dead.
    #[diesel(sql_type = Integer)]
    pub max_retries: i32,
    /// Which due rows go first.
    #[diesel(sql_type = Integer)]
    pub priority: i32,
    /// Why the last attempt failed.
    #[diesel(sql_type = Nullable<Text>)]
    pub error_message: Option<String>,
    /// When it is due, if it is open.
    #[diesel(sql_type = Nullable<Timestamp>, deserialize_as = InUtc<Option<NaiveDateTime>>)]
    pub next_attempt_at: Option<DateTime<Utc>>,
    /// Until when a worker holds it.
    #[diesel(sql_type = Nullable<Timestamp>, deserialize_as = InUtc<Option<NaiveDateTime>>)]
    pub lease_until: Option<DateTime<Utc>>,
    /// The claim that holds it.
    #[diesel(sql_type = BigInt)]
    pub fencing_token: i64,
    /// When it was recorded.
    #[diesel(sql_type = Timestamp, deserialize_as = InUtc<NaiveDateTime>)]
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    #[diesel(sql_type = Timestamp, deserialize_as = InUtc<NaiveDateTime>)]
    pub updated_at: DateTime<Utc>,
    /// When it was closed.
    #[diesel(sql_type = Nullable<Timestamp>, deserialize_as = InUtc<Option<NaiveDateTime>>)]
    pub processed_at: Option<DateTime<Utc>>,
    /// Its place in the trace that its caller or publisher sent (W3C Trace Context); null without one.
    #[diesel(sql_type = Nullable<Text>)]
    pub traceparent: Option<String>,
}

/// The columns of a [`LedgerEntry`], from a row `e`.
pub(super) const ENTRY_COLUMNS: &str = "e.id, e.user_id, e.resource_type, e.resource_id, \
    e.action_type, e.status, e.version, e.retry_count, e.max_retries, e.priority, e.error_message, \
    e.next_attempt_at, e.lease_until, e.fencing_token, e.created_at, e.updated_at, e.processed_at, \
    e.traceparent";

/// The ledger at a glance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct LedgerHealth {
    /// Rows of each status. Without `completed` if nothing is known of their number.
    pub rows: BTreeMap<Status, i64>,
    /// Whether the number of completed rows is an estimate of the database: beyond 10,000 rows, counting them
    /// would take too long.
    pub completed_is_estimate: bool,
    /// Open rows that are due.
    pub due: i64,
    /// When the oldest open row was recorded.
    pub oldest_open_at: Option<DateTime<Utc>>,
    /// The most frequent errors of the last 10,000 failed and the last 10,000 dead rows, with how many rows have
    /// each.
    pub errors: Vec<ErrorCount>,
}

/// How many rows have an error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema, QueryableByName)]
pub struct ErrorCount {
    /// The error.
    #[diesel(sql_type = Text)]
    pub error_message: String,
    /// The number of rows.
    #[diesel(sql_type = BigInt, column_name = total)]
    pub rows: i64,
}

impl Store {
    /// Returns the number of ledger rows that are neither completed nor dead.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn open_rows(&self) -> Result<i64, StoreError> {
        read!(self, self.timeout, |session| session
            .total(OPEN_ROWS.on(session.schema()), &[]))
    }

    /// Returns a resource type that this process does not serve, and of which an open row has been due since before this
    /// time; `None` if there is no such row.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn unserved_type(&self, before: DateTime<Utc>) -> Result<Option<String>, StoreError> {
        let params = [Param::time(before)];
        let rows: Vec<IdRow> = read!(self, self.timeout, |session| async {
            session.load(UNSERVED.on(session.schema()), &params).await
        })?;
        Ok(rows.into_iter().next().map(|row| row.id))
    }

    /// Returns the number of ledger rows of each status. A status without rows is absent. Reads the whole ledger.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn ledger_summary(&self) -> Result<BTreeMap<Status, i64>, StoreError> {
        read!(self, self.timeout, |session| by_status(
            session,
            SUMMARY.on(session.schema()),
            &[]
        ))
    }

    /// Returns the number of rows of each status, and when the oldest open row was recorded. The cost follows the number of
    /// open and failed rows, not the size of the ledger.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn ledger_counts(&self) -> Result<LedgerCounts, StoreError> {
        read!(self, SEARCH_TIMEOUT, |session| counts(session))
    }

    /// Returns a summary of the ledger whose cost follows the number of open and failed rows, not the size of the
    /// ledger.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn ledger_health(&self, now: DateTime<Utc>) -> Result<LedgerHealth, StoreError> {
        read!(self, SEARCH_TIMEOUT, |session| health(session, now))
    }
}

/// Loads totals with a status as their label.
pub(super) async fn by_status<S: Session>(
    session: &mut S,
    statement: &Statement,
    params: &[Param],
) -> Result<BTreeMap<Status, i64>, StoreError> {
    let rows: Vec<TotalRow> = session.load(statement, params).await?;
    rows.iter()
        .map(|row| Ok((word(&row.label, "sync_events")?, row.total)))
        .collect()
}

/// The number of rows that are counted exactly; of more rows the database estimates the number.
const COUNTED_EXACTLY: usize = 10_000;

/// The number of the last failed rows, and of the last dead ones, whose errors are counted.
const ERRORS_COUNTED: usize = 10_000;

/// The most errors that a summary names.
const MOST_ERRORS: usize = 10;

/// The number of rows of each status, and the oldest open one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerCounts {
    /// As [`LedgerHealth::rows`].
    pub rows: BTreeMap<Status, i64>,
    /// As [`LedgerHealth::completed_is_estimate`].
    pub completed_is_estimate: bool,
    /// As [`LedgerHealth::oldest_open_at`].
    pub oldest_open_at: Option<DateTime<Utc>>,
}

async fn counts<S: Session>(session: &mut S) -> Result<LedgerCounts, StoreError> {
    let d = session.schema();
    let mut rows = by_status(session, OPEN_BY_STATUS.on(d), &[]).await?;
    rows.retain(|_, total| *total > 0);
    let few = session.total(FEW_ROWS.on(d), &[]).await?;
    let is_estimate = few > Param::count(COUNTED_EXACTLY);
    let all = match is_estimate {
        true => session.total(ESTIMATE.on(d), &[]).await?,
        false => few,
    };
    let completed = all - rows.values().sum::<i64>();
    if completed > 0 {
        rows.insert(Status::Completed, completed);
    }
    let oldest: Vec<OldestRow> = session.load(OLDEST_OPEN.on(d), &[]).await?;
    Ok(LedgerCounts {
        rows,
        completed_is_estimate: is_estimate,
        oldest_open_at: oldest.into_iter().find_map(|row| row.created_at),
    })
}

async fn health<S: Session>(
    session: &mut S,
    now: DateTime<Utc>,
) -> Result<LedgerHealth, StoreError> {
    let counts = counts(session).await?;
    let d = session.schema();
    Ok(LedgerHealth {
        rows: counts.rows,
        completed_is_estimate: counts.completed_is_estimate,
        oldest_open_at: counts.oldest_open_at,
        due: session.total(DUE.on(d), &[Param::time(now)]).await?,
        errors: session
            .load(ERRORS.on(d), &[Param::limit(MOST_ERRORS)])
            .await?,
    })
}

#[derive(Debug, QueryableByName)]
struct OldestRow {
    #[diesel(sql_type = Nullable<Timestamp>, deserialize_as = InUtc<Option<NaiveDateTime>>)]
    created_at: Option<DateTime<Utc>>,
}

static OPEN_ROWS: Sql = Sql::new(|d| {
    format!(
        "SELECT 'open' AS label, COUNT(*) AS total FROM {}",
        d.open_rows()
    )
});

/// A resource type of open rows that this process does not serve. Parameters: when they were due.
static UNSERVED: Sql = Sql::new(|d| {
    format!(
        "SELECT e.resource_type AS id FROM {} WHERE e.next_attempt_at <= {} AND NOT ({}) LIMIT 1",
        d.open_rows(),
        d.time("$1"),
        d.serves("e.resource_type")
    )
});

static SUMMARY: Sql = Sql::new(|_| {
    "SELECT status AS label, COUNT(*) AS total FROM sync_events GROUP BY status".to_owned()
});

/// The number of rows of each status but `completed`.
static OPEN_BY_STATUS: Sql = Sql::new(|d| {
    let failures = FAILURES.map(|status| {
        let failure = is_failure(d, status);
        format!(" UNION ALL SELECT '{status}', COUNT(*) FROM sync_events e WHERE {failure}")
    });
    format!(
        "SELECT e.status AS label, COUNT(*) AS total FROM {} \
         WHERE e.status IN ('pending', 'processing') GROUP BY e.status{}",
        d.open_rows(),
        failures.concat()
    )
});

/// The number of rows, up to one more than [`COUNTED_EXACTLY`].
static FEW_ROWS: Sql = Sql::new(|_| {
    let most = COUNTED_EXACTLY + 1;
    format!(
        "SELECT 'rows' AS label, COUNT(*) AS total FROM \
         (SELECT 1 AS one FROM sync_events LIMIT {most}) AS few"
    )
});

/// The database's estimate of the number of rows.
static ESTIMATE: Sql = Sql::new(|d| d.estimate("sync_events"));

/// The number of open rows that are due. Parameters: now.
static DUE: Sql = Sql::new(|d| {
    let (open, now) = (d.open_rows(), d.time("$1"));
    format!("SELECT 'due' AS label, COUNT(*) AS total FROM {open} WHERE e.next_attempt_at <= {now}")
});

/// When the oldest open row was recorded.
static OLDEST_OPEN: Sql = Sql::new(|d| {
    format!(
        "SELECT MIN(e.created_at) AS created_at FROM {}",
        d.open_rows()
    )
});

/// The most frequent errors of the last failed and dead rows. Parameters: the most errors.
static ERRORS: Sql = Sql::new(|d| {
    let last = FAILURES.map(|status| {
        format!(
            "SELECT * FROM (SELECT e.error_message FROM sync_events e WHERE {} \
             ORDER BY e.created_at DESC, e.id DESC LIMIT {ERRORS_COUNTED}) AS {status}_rows",
            is_failure(d, status)
        )
    });
    format!(
        "SELECT COALESCE(u.error_message, '') AS error_message, COUNT(*) AS total FROM ({}) AS u \
         GROUP BY COALESCE(u.error_message, '') ORDER BY COUNT(*) DESC LIMIT $1",
        last.join(" UNION ALL ")
    )
});

/// Returns the statements whose cost must not follow the size of the tables, each with a name.
pub(super) fn bounded(d: &'static Schema, sample: &Sample) -> Vec<(String, String)> {
    let now = [Param::time(sample.now)];
    let most = [Param::limit(MOST_ERRORS)];
    let all: [(&str, &'static Sql, &[Param]); 6] = [
        ("open rows", &OPEN_ROWS, &[]),
        ("type without a worker", &UNSERVED, &now),
        ("summary: due", &DUE, &now),
        ("summary: oldest open", &OLDEST_OPEN, &[]),
        ("summary: by status", &OPEN_BY_STATUS, &[]),
        ("summary: errors", &ERRORS, &most),
    ];
    all.map(|(name, sql, params)| (name.to_owned(), sql.on(d).spelled(params)))
        .to_vec()
}
