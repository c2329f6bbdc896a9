//! Syncing a batch of like events to the read models. The sync publisher calls it for new events and for retries.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::dialect::Column::{self, Number, ResourceId, User, Word};
use super::error::StoreError;
use super::ledger_row::StoredLedgerRow;
use super::like_counts::{
    Counts, KnownCounts, LockedCounts, drop_unused_counts, lock_known_counts, write_counts,
};
use super::reads::Found;
use super::schema::{HELD, LEDGER_COLUMNS};
use super::session::{Session, Sql};
use super::statement::Param;
use super::text::id_text;
use super::{Store, transact_owned};
use super::{outbox, pair_states};
use crate::domain::{Fact, Fold, LedgerRow, LikeCount, Pair, PairState, Resource, VersionedState};

/// The read models after a batch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settled {
    /// The state of every pair of the batch.
    pub states: BTreeMap<Pair, VersionedState>,
    /// The like count of every resource of the batch.
    pub counts: BTreeMap<Resource, LikeCount>,
    /// The resources whose count this batch has changed.
    pub changed: Vec<Resource>,
}

impl From<Found> for Settled {
    /// What the database holds, as after a commit that changed no count.
    fn from(found: Found) -> Self {
        Self {
            states: found.states,
            counts: found.counts,
            changed: Vec::new(),
        }
    }
}

impl Store {
    /// Brings read models and counts up to these like events and completes their ledger rows, in one
    /// transaction. Rows that another worker has claimed since keep their status and have no effect yet.
    ///
    /// # Errors
    /// If the database cannot be reached, or refuses the data.
    pub async fn sync(
        &self,
        rows: &[LedgerRow],
        now: DateTime<Utc>,
    ) -> Result<Settled, StoreError> {
        let receivers = Arc::clone(&self.fact_receivers);
        let batch = (rows.to_vec(), Arc::clone(&self.known_counts), receivers);
        transact_owned!(self, self.timeout, batch, |session, batch| sync(
            session, &batch.0, &batch.1, &batch.2, now
        ))
    }
}

async fn sync<S: Session>(
    session: &mut S,
    rows: &[LedgerRow],
    known_counts: &KnownCounts,
    fact_receivers: &[String],
    now: DateTime<Utc>,
) -> Result<Settled, StoreError> {
    let resources: BTreeSet<Resource> = rows.iter().map(|row| row.resource.clone()).collect();
    let counts = lock_known_counts(session, known_counts, &resources, now).await?;
    let completed = complete(session, rows, now).await?;
    if completed.len() < rows.len() {
        // Rows of an erased resource are gone. Its count must not come back.
        drop_unused_counts(session, &resources).await?;
    }

    let pairs: BTreeSet<Pair> = rows.iter().map(LedgerRow::pair).collect();
    let events = completed
        .iter()
        .map(|row| (row.pair(), VersionedState::new(row.version, row.action)));
    let folded = fold_in(session, &pairs, events, counts, now).await?;
    folded
        .append_facts(session, &completed, fact_receivers, now)
        .await?;
    Ok(folded.settled())
}

/// What a fold has written.
pub(super) struct Folded {
    stored: BTreeMap<Pair, PairState>,
    fold: Fold,
    counts: Counts,
    changed: Vec<Resource>,
}

impl Folded {
    /// Appends the facts of the changes that these events made, if facts have receivers.
    pub(super) async fn append_facts<S: Session>(
        &self,
        session: &mut S,
        completed: &[&LedgerRow],
        receivers: &[String],
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        if receivers.is_empty() {
            return Ok(());
        }
        let facts = Fact::of_commit(completed, &self.stored, &self.fold, &self.counts);
        outbox::append(session, receivers, &facts, now).await
    }

    /// Returns the read models after it.
    pub(super) fn settled(self) -> Settled {
        let (stored, mut settled) = self.before_and_after();
        for (pair, state) in stored {
            settled.states.entry(pair).or_insert(state.newest);
        }
        settled
    }

    /// Returns the states that its pairs had before it, without those of new pairs, and the read models of the events' pairs
    /// after it.
    pub(super) fn before_and_after(self) -> (BTreeMap<Pair, PairState>, Settled) {
        let states = self.fold.states.into_iter();
        let settled = Settled {
            states: states.map(|(pair, state)| (pair, state.newest)).collect(),
            counts: self.counts,
            changed: self.changed,
        };
        (self.stored, settled)
    }
}

/// Folds like events that are recorded into the read models of these pairs, among which are theirs, and into the counts
/// of their resources.
pub(super) async fn fold_in<S: Session>(
    session: &mut S,
    pairs: &BTreeSet<Pair>,
    events: impl Iterator<Item = (Pair, VersionedState)>,
    mut locked: LockedCounts,
    now: DateTime<Utc>,
) -> Result<Folded, StoreError> {
    let stored: BTreeMap<Pair, PairState> = pair_states::states(session, pairs)
        .await?
        .into_iter()
        .collect();
    let mut fold = Fold::of(|pair| stored.get(pair).copied(), events);
    let unclear = fold.unclear();
    if !unclear.is_empty() {
        fold.clarify(&pair_states::logged_states(session, &unclear).await?);
    }

    let written = fold.changed.iter().map(|pair| (pair, &fold.states[pair]));
    pair_states::write_states(session, written).await?;
    let changes = &fold.count_changes;
    let changed = write_counts(session, &mut locked, changes, now).await?;
    Ok(Folded {
        stored,
        fold,
        counts: locked.counts,
        changed,
    })
}

/// Completes those of the rows that this worker still holds. Returns the rows that are completed now, and so have an
/// effect; not those that another worker has claimed since, which may end dead.
async fn complete<'a, S: Session>(
    session: &mut S,
    rows: &'a [LedgerRow],
    now: DateTime<Utc>,
) -> Result<Vec<&'a LedgerRow>, StoreError> {
    let held: Vec<_> = rows
        .iter()
        .map(|row| {
            (
                id_text(row.event_id),
                row.fencing_token,
                &row.user_id,
                row.resource.resource_type.as_str(),
                &row.resource.id,
                row.action.as_str(),
                row.version,
            )
        })
        .collect();
    let params = [Param::rows(&held), Param::time(now)];
    let schema = session.schema();
    let done = session.execute(COMPLETE.on(schema), &params).await?;
    let ids: BTreeSet<_> = held.into_iter().map(|row| (row.0,)).collect();
    // Of two rows of one event, which may differ in their versions, only one is in the ledger.
    if done == ids.len() && done == rows.len() {
        return Ok(rows.iter().collect());
    }
    let ids: Vec<_> = ids.into_iter().collect();
    let found: Vec<StoredLedgerRow> = session
        .load(COMPLETED.on(schema), &[Param::rows(&ids)])
        .await?;
    // Only what the ledger says has an effect, whatever the message said that brought the row.
    let mut completed = BTreeMap::new();
    for row in &found {
        let (_, row) = row.ledger_row()?;
        completed.insert(row.event_id, row);
    }
    let is_completed = |row: &&LedgerRow| {
        let listed = completed.get(&row.event_id);
        listed.is_some_and(|listed| listed.is_of_one_content_with(row))
    };
    Ok(rows.iter().filter(is_completed).collect())
}

/// The columns of a ledger row that a worker holds, with its content.
const HELD_ROW: [Column; 7] = [
    Word("event_id"),
    Number("token"),
    User("user_id"),
    Word("resource_type"),
    ResourceId("resource_id"),
    Word("action_type"),
    Number("version"),
];

/// Matches ledger rows with the content that the batch has of them.
const HELD_CONTENT: &str = "e.user_id = r.user_id AND e.resource_type = r.resource_type \
    AND e.resource_id = r.resource_id AND e.action_type = r.action_type AND e.version = r.version";

/// Completes rows that this worker holds and whose content is the batch's. Parameters: rows of [`HELD_ROW`], now.
static COMPLETE: Sql = Sql::new(|d| {
    let (rows, now) = (d.rows("$1", &HELD_ROW), d.time("$2"));
    d.update(
        "sync_events",
        &rows,
        &format!("{HELD} AND {HELD_CONTENT}"),
        &[
            ("status", "'completed'"),
            ("processed_at", &now),
            ("updated_at", &now),
            ("next_attempt_at", "NULL"),
            ("lease_until", "NULL"),
        ],
    )
});

/// The ledger rows of these events that are completed. Parameters: rows `(event_id)`.
static COMPLETED: Sql = Sql::new(|d| {
    let (rows, join) = (d.rows("$1", &[Word("event_id")]), d.join());
    format!(
        "SELECT {LEDGER_COLUMNS} FROM {rows} {join} sync_events e ON e.id = r.event_id \
         WHERE e.status = 'completed'"
    )
});
