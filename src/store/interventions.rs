//! Operators' interventions in ledger rows: retry and discard. Called for single events (`admin/ledger.rs`) and by
//! each step of a job on rows (`jobs.rs`).

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};

use super::claim::MARK_DEAD;
use super::dialect::Column::Word;
use super::error::StoreError;
use super::history;
use super::ledger_row::StoredLedgerRow;
use super::schema::LEDGER_COLUMNS;
use super::session::{IdRow, Session, Sql};
use super::statement::Param;
use super::text::id_text;
use super::{Store, transact};
use crate::domain::{LedgerRow, Priority, Step};

/// An operator's intervention.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intervention {
    /// Retry or discard.
    pub action: InterventionKind,
    /// The operator.
    pub operator: String,
    /// The priority of rows that are retried.
    pub priority: Priority,
    /// Now.
    pub now: DateTime<Utc>,
}

/// The kinds of interventions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InterventionKind {
    /// Makes failed and dead rows due now, with all their attempts.
    Retry,
    /// Closes rows that are failed, dead, or under no lease as dead, for this reason.
    Discard(String),
}

impl Store {
    /// Retries or discards the events whose status allows it. Returns their rows as they were before. A repetition of the
    /// same intervention, whose answer was lost, changes nothing.
    ///
    /// # Errors
    /// If the database cannot be reached.
    pub async fn intervene(
        &self,
        event_ids: &[String],
        intervention: &Intervention,
    ) -> Result<Vec<LedgerRow>, StoreError> {
        transact!(self, |session| intervene(session, event_ids, intervention))
    }
}

pub(super) async fn intervene<S: Session>(
    session: &mut S,
    event_ids: &[String],
    intervention: &Intervention,
) -> Result<Vec<LedgerRow>, StoreError> {
    let d = session.schema();
    let now = || Param::time(intervention.now);
    let ids: Vec<_> = event_ids.iter().map(|id| (id,)).collect();
    let params = [Param::rows(&ids), now()];
    let (eligible, step, reason) = match &intervention.action {
        InterventionKind::Retry => (RETRIABLE.on(d), Step::Retried, None),
        InterventionKind::Discard(reason) => (DISCARDABLE.on(d), Step::Discarded, Some(reason)),
    };
    let eligible: Vec<StoredLedgerRow> = session.load(eligible, &params).await?;
    // A worker that claims an unreadable row closes it.
    let rows: Vec<LedgerRow> = eligible
        .iter()
        .filter_map(|row| row.ledger_row().ok().map(|(_, row)| row))
        .collect();
    let done = done(session, &ids, step, intervention.now).await?;
    let fresh: Vec<&LedgerRow> = rows
        .iter()
        .filter(|row| !done.contains(&id_text(row.event_id)))
        .collect();
    if fresh.is_empty() {
        return Ok(rows);
    }
    let entries: Vec<history::Entry<'_>> = fresh
        .iter()
        .map(|row| {
            (
                id_text(row.event_id),
                step,
                row.retry_count,
                row.fencing_token,
                reason.map(String::as_str),
                Some(intervention.operator.as_str()),
            )
        })
        .collect();
    history::append(session, &entries, intervention.now).await?;
    let error = reason.map(|reason| format!("discarded by {}: {reason}", intervention.operator));
    let changed: Vec<_> = fresh
        .iter()
        .map(|row| (id_text(row.event_id), &error))
        .collect();
    let priority = Param::Number(intervention.priority.as_number());
    let params = [Param::rows(&changed), now(), priority];
    let change = match intervention.action {
        InterventionKind::Retry => RETRY.on(d),
        InterventionKind::Discard(_) => MARK_DEAD.on(d),
    };
    session.execute(change, &params).await?;
    Ok(rows)
}

/// Returns the events that this intervention has changed: the answer to its commit was lost.
async fn done<S: Session>(
    session: &mut S,
    ids: &[(&String,)],
    step: Step,
    now: DateTime<Utc>,
) -> Result<BTreeSet<String>, StoreError> {
    let params = [
        Param::rows(ids),
        Param::time(now),
        Param::Text(step.as_str().to_owned()),
    ];
    let done: Vec<IdRow> = session.load(DONE.on(session.schema()), &params).await?;
    Ok(done.into_iter().map(|row| row.id).collect())
}

/// Parameters: rows `(event_id)`, the time of an entry, its step.
static DONE: Sql = Sql::new(|d| {
    format!(
        "SELECT h.event_id AS id FROM {} {} likewise_sync_event_history h \
         ON h.event_id = r.event_id WHERE h.step = $3 AND h.created_at = {}",
        d.rows("$1", &[Word("event_id")]),
        d.join(),
        d.time("$2")
    )
});

/// Locks rows that can be retried. Parameters: rows `(event_id)`.
static RETRIABLE: Sql = Sql::new(|d| {
    let (ids, join) = (d.rows("$1", &[Word("event_id")]), d.join());
    format!(
        "SELECT {LEDGER_COLUMNS} FROM {ids} {join} sync_events e ON e.id = r.event_id \
         WHERE e.status IN ('failed', 'dead'){}",
        d.for_update("e")
    )
});

/// Locks rows that can be discarded. Parameters: rows `(event_id)`, now.
static DISCARDABLE: Sql = Sql::new(|d| {
    let (ids, join) = (d.rows("$1", &[Word("event_id")]), d.join());
    format!(
        "SELECT {LEDGER_COLUMNS} FROM {ids} {join} sync_events e ON e.id = r.event_id \
         WHERE e.status IN ('failed', 'dead') OR (e.status IN ('pending', 'processing') \
         AND e.next_attempt_at <= {}){}",
        d.time("$2"),
        d.for_update("e")
    )
});

/// Parameters: rows `(event_id)`, now, the priority.
static RETRY: Sql = Sql::new(|d| {
    let now = d.time("$2");
    d.update(
        "sync_events",
        &d.rows("$1", &[Word("event_id")]),
        "e.id = r.event_id",
        &[
            ("status", "'failed'"),
            ("retry_count", "0"),
            ("priority", "$3"),
            ("next_attempt_at", &now),
            ("lease_until", "NULL"),
            ("fencing_token", "e.fencing_token + 1"),
            ("updated_at", &now),
            ("processed_at", "NULL"),
        ],
    )
});
