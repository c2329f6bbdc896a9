//! Claiming ledger rows that are due, and renewing the leases on them. The retry scheduler calls both.

use chrono::{DateTime, Utc};

use super::dialect::Column::{self, Number, Text, Time, Word};
use super::error::StoreError;
use super::ledger_row::StoredLedgerRow;
use super::schema::{HELD, LEDGER_COLUMNS};
use super::session::{Session, Sql};
use super::statement::{Param, time_text};
use super::text::id_text;
use super::{Lease, Store, history, transact};
use crate::domain::{Claim, LedgerRow, Priority, Status, Step};

/// The rows that a claim took.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Claimed {
    /// The rows that are now this worker's.
    pub rows: Vec<LedgerRow>,
    /// The rows that it closed, because they had been abandoned once too often.
    pub dead: Vec<LedgerRow>,
    /// The ids of the rows that it closed because no worker can read them, each with the reason.
    pub unreadable: Vec<(String, String)>,
}

impl Store {
    /// Claims up to `limit` rows that are due, the more urgent first: those that wait for their next
    /// attempt, and those whose lease has expired. An abandoned attempt counts as a failed one, except if
    /// the lease expired while writes failed because of the infrastructure; rows that may not be tried again
    /// are closed as dead instead. Rows of resource types that this process does not serve are left to others.
    ///
    /// # Errors
    /// If the database cannot be reached.
    pub async fn claim(&self, lease: Lease, limit: usize) -> Result<Claimed, StoreError> {
        // Until its worker could renew it again, a lease that expired says nothing of the worker.
        let impaired_at = self.condition().impaired_at();
        let excused_until = impaired_at.map(|impaired| impaired + lease.renew_every());
        transact!(self, |session| claim(session, lease, limit, excused_until))
    }

    /// Renews the lease on those of these rows that this worker still holds, but not on rows that a
    /// transaction has locked.
    ///
    /// # Errors
    /// If the database cannot be reached.
    pub async fn renew(&self, rows: &[LedgerRow], lease: Lease) -> Result<(), StoreError> {
        transact!(self, |session| renew(session, rows, lease))
    }
}

async fn claim<S: Session>(
    session: &mut S,
    lease: Lease,
    limit: usize,
    excused_until: Option<DateTime<Utc>>,
) -> Result<Claimed, StoreError> {
    let schema = session.schema();
    let mut claims = Vec::new();
    let mut unreadable = Vec::new();
    let excuses = |row: &StoredLedgerRow| {
        let lapsed = row.next_attempt_at;
        excused_until.is_some_and(|until| lapsed.is_some_and(|lapsed| lapsed <= until))
    };
    // Each priority by itself: in the order of the index, so that no more rows are locked
    // than are taken.
    for priority in Priority::DESCENDING {
        let params = [
            Param::time(lease.now),
            Param::limit(limit - claims.len()),
            Param::Number(priority.as_number()),
        ];
        let due: Vec<StoredLedgerRow> = session.load(DUE.on(schema), &params).await?;
        for row in &due {
            let away = excuses(row);
            match row.ledger_row() {
                Ok((status, row)) => claims.push(Claim::of(status, row, away)),
                Err(error) => unreadable.push((row.id.clone(), error.to_string())),
            }
        }
        if claims.len() == limit {
            break;
        }
    }
    if !claims.is_empty() {
        let until = time_text(lease.until());
        let rows: Vec<_> = claims
            .iter()
            .map(|claim| claim_columns(claim, &until))
            .collect();
        let params = [Param::rows(&rows), Param::time(lease.now)];
        session.execute(CLAIM.on(schema), &params).await?;
    }
    // A row that nobody can work on must not keep the others from being claimed.
    if !unreadable.is_empty() {
        let params = [Param::rows(&unreadable), Param::time(lease.now)];
        session.execute(MARK_DEAD.on(schema), &params).await?;
    }
    let abandoned: Vec<_> = claims.iter().filter_map(abandoned).collect();
    history::append(session, &abandoned, lease.now).await?;
    let (rows, dead): (Vec<_>, Vec<_>) = claims
        .into_iter()
        .partition(|claim| claim.status == Status::Processing);
    Ok(Claimed {
        rows: rows.into_iter().map(|claim| claim.row).collect(),
        dead: dead.into_iter().map(|claim| claim.row).collect(),
        unreadable,
    })
}

/// The columns that a claim writes, for a lease that ends then.
#[allow(clippy::type_complexity, reason = "the columns of a batch")]
fn claim_columns<'a>(
    claim: &'a Claim,
    lease_end: &'a str,
) -> (
    String,
    &'static str,
    i32,
    Option<&'a str>,
    Option<&'a str>,
    i64,
    Option<&'static str>,
) {
    let lease_end = claim.status.is_open().then_some(lease_end);
    (
        id_text(claim.row.event_id),
        claim.status.as_str(),
        claim.row.retry_count,
        lease_end,
        lease_end,
        claim.row.fencing_token,
        claim.error,
    )
}

/// The entry that a claim appends to the event's history if the attempt before it was abandoned.
fn abandoned(claim: &Claim) -> Option<history::Entry<'_>> {
    let error = claim.error?;
    let step = match claim.status {
        Status::Dead => Step::Dead,
        _ => Step::Abandoned,
    };
    Some((
        id_text(claim.row.event_id),
        step,
        claim.row.retry_count,
        claim.row.fencing_token - 1,
        Some(error),
        None,
    ))
}

async fn renew<S: Session>(
    session: &mut S,
    rows: &[LedgerRow],
    lease: Lease,
) -> Result<(), StoreError> {
    let schema = session.schema();
    let held: Vec<_> = rows
        .iter()
        .map(|row| (id_text(row.event_id), row.fencing_token))
        .collect();
    // Rows that an attempt has locked cannot be claimed meanwhile, and must not be waited for.
    let params = [Param::rows(&held)];
    let free: Vec<StoredLedgerRow> = session.load(RENEWABLE.on(schema), &params).await?;
    if free.is_empty() {
        return Ok(());
    }
    let free: Vec<_> = free.iter().map(StoredLedgerRow::claimed_as).collect();
    let params = [
        Param::rows(&free),
        Param::time(lease.now),
        Param::time(lease.until()),
    ];
    session.execute(RENEW.on(schema), &params).await.map(drop)
}

/// The columns of a row that a worker holds.
const CLAIMED: [Column; 2] = [Word("event_id"), Number("token")];

/// Rows of one priority that are due, of the resource types that this process serves, locked. Parameters: now, the most rows,
/// the priority.
pub(super) static DUE: Sql = Sql::new(|d| {
    format!(
        "SELECT {LEDGER_COLUMNS} FROM sync_events e WHERE e.priority = $3 \
         AND e.next_attempt_at <= {} AND {} ORDER BY e.next_attempt_at LIMIT $2{}",
        d.time("$1"),
        d.serves("e.resource_type"),
        d.skip_locked("e")
    )
});

/// Parameters: rows `(event_id, next_status, attempts, due_at, leased_until, token, error)`, now.
static CLAIM: Sql = Sql::new(|d| {
    let columns = [
        Word("event_id"),
        Word("next_status"),
        Number("attempts"),
        Time("due_at"),
        Time("leased_until"),
        Number("token"),
        Text("error"),
    ];
    let (rows, now) = (d.rows("$1", &columns), d.time("$2"));
    let closed_at = format!("CASE WHEN r.next_status = 'dead' THEN {now} END");
    d.update(
        "sync_events",
        &rows,
        "e.id = r.event_id",
        &[
            ("status", "r.next_status"),
            ("retry_count", "r.attempts"),
            ("next_attempt_at", "r.due_at"),
            ("lease_until", "r.leased_until"),
            ("fencing_token", "r.token"),
            ("error_message", "COALESCE(r.error, e.error_message)"),
            ("updated_at", &now),
            ("processed_at", &closed_at),
        ],
    )
});

/// Closes rows as dead. Parameters: rows `(event_id, error)`, now.
pub(super) static MARK_DEAD: Sql = Sql::new(|d| {
    let (rows, now) = (
        d.rows("$1", &[Word("event_id"), Text("error")]),
        d.time("$2"),
    );
    d.update(
        "sync_events",
        &rows,
        "e.id = r.event_id",
        &[
            ("status", "'dead'"),
            ("error_message", "r.error"),
            ("next_attempt_at", "NULL"),
            ("lease_until", "NULL"),
            ("fencing_token", "e.fencing_token + 1"),
            ("updated_at", &now),
            ("processed_at", &now),
        ],
    )
});

/// Those of the rows that a worker holds and no transaction has locked, locked. Parameters: rows of [`CLAIMED`].
static RENEWABLE: Sql = Sql::new(|d| {
    let (rows, join) = (d.rows("$1", &CLAIMED), d.join());
    format!(
        "SELECT {LEDGER_COLUMNS} FROM {rows} {join} sync_events e ON {HELD}{}",
        d.skip_locked("e")
    )
});

/// Parameters: rows of [`CLAIMED`], now, the end of the lease.
static RENEW: Sql = Sql::new(|d| {
    let (rows, now, lease_end) = (d.rows("$1", &CLAIMED), d.time("$2"), d.time("$3"));
    d.update(
        "sync_events",
        &rows,
        HELD,
        &[
            ("next_attempt_at", &lease_end),
            ("lease_until", &lease_end),
            ("updated_at", &now),
        ],
    )
});
