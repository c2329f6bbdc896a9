//! What the deployment did in each interval, for a day. `actors/history_keeper.rs` writes it, `admin/history.rs` reads it.

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDateTime, Utc};
use diesel::prelude::QueryableByName;
use diesel::sql_types::{Text as SqlText, Timestamp};
use serde::{Deserialize, Serialize};

use super::dialect::Column::{Text, Time, Word};
use super::error::StoreError;
use super::session::{Session, Sql};
use super::statement::{Param, time_text};
use super::{Store, read, transact};
use crate::domain::Status;

/// What one process did in an interval.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ProcessCounts {
    /// The length of the interval, in seconds: longer than usual after an outage of the process.
    pub seconds: f64,
    /// Likes and unlikes accepted.
    pub accepted: u64,
    /// Ledger rows completed.
    pub completed: u64,
    /// Failed attempts on ledger rows.
    pub failed: u64,
    /// Completed likes by the bucket of their time from acceptance to completion.
    pub latencies: Vec<u64>,
}

/// What the processes of the deployment share, at the end of an interval.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct DeploymentCounts {
    /// The process that counts. The first one that writes the row does.
    pub counted_by: String,
    /// When it counted; `None` until then.
    pub counted_at: Option<DateTime<Utc>>,
    /// How long that took, in seconds.
    pub took_seconds: f64,
    /// The ledger rows of each status; absent without rows.
    pub ledger: BTreeMap<Status, i64>,
    /// The age of the oldest open row, in seconds; `None` without open rows.
    pub oldest_open_seconds: Option<f64>,
    /// The messages of the stream that no worker has acknowledged; `None` without NATS.
    pub consumer_lag: Option<u64>,
}

/// A row of the history.
#[derive(Debug, Clone, PartialEq)]
pub enum HistoryRow {
    /// What a process did.
    Process(DateTime<Utc>, ProcessCounts),
    /// What the processes share.
    Deployment(DateTime<Utc>, DeploymentCounts),
}

/// The process in the row of what the processes share.
const SHARED: &str = "";

impl Store {
    /// Writes what a process did in these intervals, each named by its start. An interval is written once.
    ///
    /// # Errors
    /// If the database cannot be reached.
    pub async fn note_history(
        &self,
        process: &str,
        intervals: &[(DateTime<Utc>, ProcessCounts)],
    ) -> Result<(), StoreError> {
        let rows: Vec<_> = intervals
            .iter()
            .map(|(slot, counts)| (time_text(*slot), process, json(counts)))
            .collect();
        transact!(self, |session| note(session, &rows))
    }

    /// Has this process count what the processes share in an interval, unless another one does. Returns whether it does.
    ///
    /// # Errors
    /// If the database cannot be reached.
    pub async fn claim_history(
        &self,
        slot: DateTime<Utc>,
        process: &str,
    ) -> Result<bool, StoreError> {
        transact!(self, |session| claim(session, slot, process))
    }

    /// Writes what the processes share in a claimed interval, and deletes rows from before `keep_from`.
    ///
    /// # Errors
    /// If the database cannot be reached.
    pub async fn set_history(
        &self,
        slot: DateTime<Utc>,
        counts: &DeploymentCounts,
        keep_from: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        transact!(self, |session| set(session, slot, counts, keep_from))
    }

    /// Returns the rows of the intervals that start within `from..until`, by their start.
    ///
    /// # Errors
    /// If the database cannot be read, or holds an unreadable row.
    pub async fn history(
        &self,
        from: DateTime<Utc>,
        until: DateTime<Utc>,
    ) -> Result<Vec<HistoryRow>, StoreError> {
        let params = [Param::time(from), Param::time(until)];
        let rows: Vec<Row> = read!(self, self.timeout, |session| async {
            session.load(READ.on(session.schema()), &params).await
        })?;
        rows.into_iter().map(Row::row).collect()
    }

    /// Returns what the processes shared when they were last counted, since this time.
    ///
    /// # Errors
    /// If the database cannot be read, or holds an unreadable row.
    pub async fn last_counts(
        &self,
        since: DateTime<Utc>,
    ) -> Result<Option<DeploymentCounts>, StoreError> {
        let params = [Param::time(since), Param::Text(SHARED.to_owned())];
        let rows: Vec<Row> = read!(self, self.timeout, |session| async {
            session.load(LAST.on(session.schema()), &params).await
        })?;
        for row in rows {
            if let HistoryRow::Deployment(_, counts) = row.row()?
                && counts.counted_at.is_some()
            {
                return Ok(Some(counts));
            }
        }
        Ok(None)
    }
}

fn json(counts: &impl Serialize) -> String {
    serde_json::to_string(counts)
        .unwrap_or_else(|error| unreachable!("counts are always JSON: {error}"))
}

async fn note<S: Session>(
    session: &mut S,
    rows: &[(String, &str, String)],
) -> Result<(), StoreError> {
    let statement = NOTE.on(session.schema());
    session.execute(statement, &[Param::rows(rows)]).await?;
    Ok(())
}

async fn claim<S: Session>(
    session: &mut S,
    slot: DateTime<Utc>,
    process: &str,
) -> Result<bool, StoreError> {
    let counts = DeploymentCounts {
        counted_by: process.to_owned(),
        ..DeploymentCounts::default()
    };
    note(session, &[(time_text(slot), SHARED, json(&counts))]).await?;
    let key = [Param::time(slot), Param::Text(SHARED.to_owned())];
    let rows: Vec<Row> = session.load(ONE.on(session.schema()), &key).await?;
    let row = rows.into_iter().next().map(Row::row).transpose()?;
    Ok(matches!(row, Some(HistoryRow::Deployment(_, counts)) if counts.counted_by == process))
}

async fn set<S: Session>(
    session: &mut S,
    slot: DateTime<Utc>,
    counts: &DeploymentCounts,
    keep_from: DateTime<Utc>,
) -> Result<(), StoreError> {
    let d = session.schema();
    let params = [
        Param::time(slot),
        Param::Text(SHARED.to_owned()),
        Param::Text(json(counts)),
    ];
    session.execute(SET.on(d), &params).await?;
    session
        .execute(FORGET.on(d), &[Param::time(keep_from)])
        .await?;
    Ok(())
}

#[derive(Debug, QueryableByName)]
struct Row {
    #[diesel(sql_type = Timestamp)]
    slot: NaiveDateTime,
    #[diesel(sql_type = SqlText)]
    process: String,
    #[diesel(sql_type = SqlText)]
    figures: String,
}

impl Row {
    fn row(self) -> Result<HistoryRow, StoreError> {
        let unreadable = |error: serde_json::Error| StoreError::Unreadable {
            table: "likewise_history",
            reason: error.to_string(),
        };
        let slot = self.slot.and_utc();
        if self.process == SHARED {
            let counts = serde_json::from_str(&self.figures).map_err(unreadable)?;
            return Ok(HistoryRow::Deployment(slot, counts));
        }
        let counts = serde_json::from_str(&self.figures).map_err(unreadable)?;
        Ok(HistoryRow::Process(slot, counts))
    }
}

/// Parameters: rows `(slot, process, figures)`.
static NOTE: Sql = Sql::new(|d| {
    format!(
        "INSERT INTO likewise_history (slot, process, figures) \
         SELECT r.slot, r.process, r.figures FROM {} WHERE true {}",
        d.rows("$1", &[Time("slot"), Word("process"), Text("figures")]),
        d.on_conflict("likewise_history", &["slot", "process"], &[])
    )
});

/// Parameters: the slot, the process.
static ONE: Sql = Sql::new(|d| {
    format!(
        "SELECT slot, process, figures FROM likewise_history WHERE slot = {} AND process = $2",
        d.time("$1")
    )
});

/// Parameters: the slot, the process, the figures.
static SET: Sql = Sql::new(|d| {
    format!(
        "UPDATE likewise_history SET figures = $3 WHERE slot = {} AND process = $2",
        d.time("$1")
    )
});

/// Parameters: the first slot to keep.
static FORGET: Sql =
    Sql::new(|d| format!("DELETE FROM likewise_history WHERE slot < {}", d.time("$1")));

/// Parameters: the first slot, the slot after the last.
static READ: Sql = Sql::new(|d| {
    format!(
        "SELECT slot, process, figures FROM likewise_history WHERE slot >= {} AND slot < {} \
         ORDER BY slot, process",
        d.time("$1"),
        d.time("$2")
    )
});

/// Parameters: the first slot, the process.
static LAST: Sql = Sql::new(|d| {
    format!(
        "SELECT slot, process, figures FROM likewise_history WHERE slot >= {} AND process = $2 \
         ORDER BY slot DESC LIMIT 20",
        d.time("$1")
    )
});
