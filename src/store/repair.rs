//! Repairs: correct the discrepancies that audits find, under the locks of the live pipeline. Called by
//! `admin/audit.rs`.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use diesel::prelude::QueryableByName;
use diesel::sql_types::BigInt;

use super::behavior_counts::recount;
use super::comparisons::{BROKEN, COUNTED};
use super::dialect::Column::{ResourceId, Time, Word};
use super::discrepancy::{Discrepancy, Finding, Subject};
use super::error::StoreError;
use super::ids::AnyId;
use super::ledger_row::StoredLedgerRow;
use super::like_counts::{drop_unused_counts, lock_counts, write_counts};
use super::pair_states::{PAIR, logged_states, states, write_states, write_voided};
use super::schema::{LEDGER_COLUMNS, likes_table};
use super::session::{LikesSql, Session, Sql};
use super::statement::{Param, time_text};
use super::text::id_text;
use super::{Store, history, transact};
use crate::domain::{EntryId, Id, LedgerRow, Pair, PairState, Resource, Step};

/// The outcome of a repair.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Repaired {
    /// The number of written and deleted rows.
    pub rows: usize,
    /// The cache entries that may be stale: those of changed pairs and counts.
    pub entries: Vec<EntryId>,
}

impl Store {
    /// Repairs those of the discrepancies that still exist, in one transaction under the locks of the live
    /// pipeline: ledger and behaviors from each other, read models from the behaviors, counts from the read
    /// models and from the behaviors.
    ///
    /// # Errors
    /// If the database cannot be reached.
    pub async fn repair(
        &self,
        found: &[Discrepancy],
        now: DateTime<Utc>,
    ) -> Result<Repaired, StoreError> {
        transact!(self, |session| repair(session, found, now))
    }
}

async fn repair<S: Session>(
    session: &mut S,
    found: &[Discrepancy],
    now: DateTime<Utc>,
) -> Result<Repaired, StoreError> {
    let d = session.schema();
    let without_ledger_row = events(found, Finding::MissingLedgerRow);
    let without_behavior = events(found, Finding::MissingBehavior);
    let broken = events(found, Finding::BrokenLedgerRow);
    if !broken.is_empty() {
        let params = [Param::rows(&broken), Param::time(now)];
        session.execute(REPAIR_LEDGER.on(d), &params).await?;
    }
    if !without_ledger_row.is_empty() {
        let params = [Param::rows(&without_ledger_row), Param::time(now)];
        session.execute(RESTORE_LEDGER.on(d), &params).await?;
    }
    let restored: Vec<_> = without_ledger_row.iter().chain(&without_behavior).collect();
    let mut pairs: BTreeSet<Pair> = found
        .iter()
        .filter_map(|one| match &one.subject {
            Subject::Pair(pair) => Some(pair.clone()),
            _ => None,
        })
        .collect();
    if !restored.is_empty() {
        let rows = restore_behaviors(session, &restored, now).await?;
        pairs.extend(rows.iter().map(LedgerRow::pair));
    }
    let counts = resources(found, Finding::WrongCount);
    let recounted = recount(session, &resources(found, Finding::WrongBehaviorCount), now).await?;
    let refolded = refold(session, &pairs, &counts, now).await?;
    let events = without_ledger_row.len() + without_behavior.len() + broken.len();
    let of_pairs = pairs.iter().flat_map(EntryId::of_pair);
    let entries: BTreeSet<EntryId> = of_pairs
        .chain(counts.into_iter().map(EntryId::Count))
        .collect();
    Ok(Repaired {
        rows: events + recounted + refolded,
        entries: entries.into_iter().collect(),
    })
}

/// The resources of one finding.
fn resources(found: &[Discrepancy], finding: Finding) -> BTreeSet<Resource> {
    let of_finding = found.iter().filter(|one| one.finding == finding);
    of_finding
        .filter_map(|one| match &one.subject {
            Subject::Resource(resource) => Some(resource.clone()),
            _ => None,
        })
        .collect()
}

/// The events of one finding, as a batch.
fn events(found: &[Discrepancy], finding: Finding) -> Vec<(&String,)> {
    let of_finding = found.iter().filter(|one| one.finding == finding);
    of_finding
        .filter_map(|one| match &one.subject {
            Subject::Event(id) => Some((id,)),
            _ => None,
        })
        .collect()
}

/// Restores the behaviors of ledger rows, and adds the restoration to the history. Returns the rows.
async fn restore_behaviors<S: Session>(
    session: &mut S,
    ids: &[&(&String,)],
    now: DateTime<Utc>,
) -> Result<Vec<LedgerRow>, StoreError> {
    let d = session.schema();
    let rows: Vec<StoredLedgerRow> = session.load(LEDGER_ROWS.on(d), &[Param::rows(ids)]).await?;
    // A row that cannot be read is not an event of this service. Nothing can be derived from it.
    let rows: Vec<_> = rows
        .iter()
        .filter_map(|row| row.ledger_row().ok().map(|(_, row)| row))
        .collect();
    let behaviors: Vec<_> = rows
        .iter()
        .map(|row| (id_text(row.event_id), time_text(row.version.moment())))
        .collect();
    let params = [Param::rows(&behaviors)];
    session.execute(RESTORE_BEHAVIORS.on(d), &params).await?;
    let entries: Vec<_> = rows
        .iter()
        .map(|row| {
            let (id, step) = (id_text(row.event_id), Step::Restored);
            (
                id,
                step,
                row.retry_count,
                row.fencing_token,
                None,
                Some("audit"),
            )
        })
        .collect();
    history::append(session, &entries, now).await?;
    Ok(rows)
}

/// Writes the fold of their events into the rows of these pairs, and counts these resources again. Returns the
/// number of written and deleted rows.
async fn refold<S: Session>(
    session: &mut S,
    pairs: &BTreeSet<Pair>,
    recount: &BTreeSet<Resource>,
    now: DateTime<Utc>,
) -> Result<usize, StoreError> {
    let resources: BTreeSet<Resource> = pairs
        .iter()
        .map(|pair| pair.resource.clone())
        .chain(recount.iter().cloned())
        .collect();
    if resources.is_empty() {
        return Ok(0);
    }
    let mut locked = lock_counts(session, &resources, now).await?;
    let before = |resource: &Resource| {
        let count = locked.counts.get(resource);
        count.map_or(0, |count| count.like_count)
    };
    let stored: BTreeMap<Pair, PairState> = states(session, pairs).await?.into_iter().collect();
    let folded = logged_states(session, pairs).await?;
    let mut changes: BTreeMap<Resource, i64> = BTreeMap::new();
    let weight = |state: Option<&PairState>| state.map_or(0, |state| state.weight());
    let differing: Vec<&Pair> = pairs
        .iter()
        .filter(|pair| stored.get(pair) != folded.get(pair))
        .collect();
    for pair in &differing {
        *changes.entry(pair.resource.clone()).or_default() +=
            weight(folded.get(pair)) - weight(stored.get(pair));
    }
    let wrong = || {
        folded
            .iter()
            .filter(|(pair, state)| stored.get(pair) != Some(state))
    };
    let mut rows = write_states(session, wrong()).await?;
    write_voided(session, wrong()).await?;
    let strays = differing.into_iter();
    let strays: Vec<&Pair> = strays.filter(|pair| !folded.contains_key(pair)).collect();
    rows += delete_likes(session, &strays).await?;
    // A difference may not change a count that is wrong already: it could fall below zero.
    let mut recount = recount.clone();
    recount.extend(changes.iter().filter_map(|(resource, change)| {
        let count = before(resource);
        (count + change < 0).then(|| resource.clone())
    }));
    // Counted rows include the changes.
    for (resource, likes) in count_likes(session, &recount).await? {
        let count = before(&resource);
        changes.insert(resource, likes - count);
        rows += usize::from(likes != count);
    }
    write_counts(session, &mut locked, &changes, now).await?;
    drop_unused_counts(session, &resources).await?;
    Ok(rows)
}

/// Deletes the read model rows of these pairs. Returns their number.
pub(super) async fn delete_likes<S: Session>(
    session: &mut S,
    pairs: &[&Pair],
) -> Result<usize, StoreError> {
    for resource_type in session.schema().resource_types().iter() {
        let rows: Vec<_> = pairs
            .iter()
            .filter(|pair| pair.resource.resource_type == resource_type)
            .map(|pair| (&pair.resource.id, &pair.user_id))
            .collect();
        if !rows.is_empty() {
            let statement = DELETE_LIKES.on(session.schema(), resource_type);
            session.execute(statement, &[Param::rows(&rows)]).await?;
        }
    }
    Ok(pairs.len())
}

/// Counts the rows of these resources that count.
async fn count_likes<S: Session>(
    session: &mut S,
    resources: &BTreeSet<Resource>,
) -> Result<BTreeMap<Resource, i64>, StoreError> {
    let mut likes = BTreeMap::new();
    for resource_type in session.schema().resource_types().iter() {
        let wanted: Vec<_> = resources
            .iter()
            .filter(|resource| resource.resource_type == resource_type)
            .map(|resource| (&resource.id,))
            .collect();
        if wanted.is_empty() {
            continue;
        }
        let statement = COUNT_LIKES.on(session.schema(), resource_type);
        let rows: Vec<LikesRow> = session.load(statement, &[Param::rows(&wanted)]).await?;
        likes.extend(rows.into_iter().map(|row| {
            let id = row.resource_id;
            (Resource { resource_type, id }, row.likes)
        }));
    }
    Ok(likes)
}

/// The number of users who like a resource.
#[derive(Debug, QueryableByName)]
struct LikesRow {
    #[diesel(sql_type = AnyId)]
    resource_id: Id,
    #[diesel(sql_type = BigInt)]
    likes: i64,
}

/// Moves broken ledger rows into a state from which they are closed. Parameters: rows `(event_id)`, now.
static REPAIR_LEDGER: Sql = Sql::new(|d| {
    let now = d.time("$2");
    let due = format!(
        "CASE WHEN e.status IN ('completed', 'dead') THEN NULL \
         ELSE COALESCE(e.next_attempt_at, {now}) END"
    );
    d.update(
        "sync_events",
        &d.rows("$1", &[Word("event_id")]),
        &format!("e.id = r.event_id AND ({BROKEN})"),
        // The status comes last: MySQL reads the values that it has set already.
        &[
            ("next_attempt_at", &due),
            ("lease_until", "NULL"),
            (
                "processed_at",
                "CASE WHEN e.status IN ('completed', 'dead') \
                 THEN COALESCE(e.processed_at, e.updated_at) END",
            ),
            (
                "error_message",
                "CASE WHEN e.status = 'dead' \
                 THEN COALESCE(e.error_message, 'the reason is not known') \
                 ELSE e.error_message END",
            ),
            ("fencing_token", "e.fencing_token + 1"),
            ("updated_at", &now),
            (
                "status",
                "CASE WHEN e.status IN ('pending', 'processing', 'failed', 'completed', \
                 'dead') THEN e.status ELSE 'failed' END",
            ),
        ],
    )
});

/// Inserts a completed ledger row for behaviors. Parameters: rows `(event_id)`, now.
static RESTORE_LEDGER: Sql = Sql::new(|d| {
    let (now, join) = (d.time("$2"), d.join());
    format!(
        "INSERT INTO sync_events (id, event_type, resource_type, resource_id, user_id, \
         action_type, status, version, retry_count, max_retries, priority, fencing_token, \
         created_at, updated_at, processed_at) SELECT b.event_id, \
         CONCAT(b.resource_type, '_like'), b.resource_type, b.resource_id, b.user_id, \
         b.behavior_type, 'completed', b.version, 0, 0, 0, 1, b.created_at, {now}, {now} \
         FROM {} {join} user_behaviors b ON b.event_id = r.event_id WHERE true {}",
        d.rows("$1", &[Word("event_id")]),
        d.on_conflict("sync_events", &["id"], &[])
    )
});

/// Inserts the behavior of ledger rows. Parameters: rows `(event_id, happened_at)`.
static RESTORE_BEHAVIORS: Sql = Sql::new(|d| {
    format!(
        "INSERT INTO user_behaviors (event_id, user_id, resource_type, resource_id, \
         behavior_type, version, source, behavior_time, created_at) SELECT e.id, e.user_id, \
         e.resource_type, e.resource_id, e.action_type, e.version, 'audit', r.happened_at, \
         e.created_at FROM {} {} sync_events e ON e.id = r.event_id WHERE true {}",
        d.rows("$1", &[Word("event_id"), Time("happened_at")]),
        d.join(),
        d.on_conflict("user_behaviors", &["event_id"], &[])
    )
});

/// The ledger rows of these events. Parameters: rows `(event_id)`.
static LEDGER_ROWS: Sql = Sql::new(|d| {
    let (ids, join) = (d.rows("$1", &[Word("event_id")]), d.join());
    format!("SELECT {LEDGER_COLUMNS} FROM {ids} {join} sync_events e ON e.id = r.event_id")
});

/// Parameters: rows of [`PAIR`].
static DELETE_LIKES: LikesSql = LikesSql::new(|d, resource_type| {
    let (table, id) = likes_table(resource_type);
    let key = [("user_id", "r.user_id"), (&*id, "r.resource_id")];
    d.delete(&table, &d.rows("$1", &PAIR), &key)
});

/// The number of users who like each resource. Parameters: rows `(resource_id)`.
static COUNT_LIKES: LikesSql = LikesSql::new(|d, resource_type| {
    let (table, id) = likes_table(resource_type);
    format!(
        "SELECT r.resource_id, COUNT(l.user_id) AS likes FROM {} LEFT JOIN {table} l \
         ON l.{id} = r.resource_id AND {COUNTED} GROUP BY r.resource_id",
        d.rows("$1", &[ResourceId("resource_id")])
    )
});
