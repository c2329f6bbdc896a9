//! Recording a batch of new behaviors and syncing it to the read models, in one transaction: one commit a batch, and ledger
//! rows that are written once. The behavior recorder calls it while nothing is behind; `record.rs` and `sync.rs` are the two
//! steps for all other batches.
//!
//! It locks in the order of the two steps: the erasure epoch, the counts of other behaviors, the like counts, and then the
//! rows. Of two workers with the same event, the second waits for a count, and then finds the event recorded. Of two workers
//! that insert the count of one new resource, the second waits, and then begins again and locks it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::dialect::Column::{self, Number, ResourceId, Skipped, User, Word};
use super::erasures::{self, Erasures};
use super::error::StoreError;
use super::like_counts::{
    Counts, KnownCounts, LockedCounts, insert_counts, lock_present, uncounted,
};
use super::record::{
    BEHAVIOR, STORED, behavior_rows, count_new, in_order, insert_behaviors, lock_counted,
};
use super::schema::Schema;
use super::session::{Session, Sql};
use super::statement::{Param, time_text};
use super::sync::{Settled, fold_in};
use super::text::id_text;
use super::{Lease, Store, transact_owned};
use crate::domain::{
    BehaviorEvent, CommitEffect, ErasedKind, Fold, LedgerRow, LikeCount, Pair, PairState, Resource,
    Source, VersionedState,
};

/// The time limit of one transaction.
const LONGEST: Duration = Duration::from_secs(2);

/// The outcome of recording and syncing a batch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecordedAndSynced {
    /// The number of ledger rows, all completed.
    pub rows: usize,
    /// The states before the batch, of those of its pairs that had one.
    pub before: BTreeMap<Pair, PairState>,
    /// The read models after the batch.
    pub settled: Settled,
    /// The positions in the batch of the events that are not recorded because their user or resource is erased.
    pub erased: BTreeMap<usize, ErasedKind>,
}

impl RecordedAndSynced {
    /// Returns what the batch did to a pair; `None` if it has no like event of the pair.
    #[must_use]
    pub fn effect_on(&self, pair: &Pair) -> Option<CommitEffect> {
        if !self.settled.states.contains_key(pair) {
            return None;
        }
        let before = self.before.get(pair);
        Some(CommitEffect {
            before: before.map_or(VersionedState::NEVER, |state| state.newest),
            count: *self.settled.counts.get(&pair.resource)?,
        })
    }
}

impl Store {
    /// Appends behaviors that were not recorded before, brings read models and counts up to them, and inserts the ledger
    /// row of each like event as completed, in one transaction. It changes nothing if one of them cannot be recorded or
    /// synced, or is recorded already. It takes at most half of the time of other calls, and at most two seconds, so that
    /// time is left for [`record`](Self::record).
    ///
    /// # Errors
    /// If the database cannot be reached, or refuses the data, or an event is recorded already.
    pub async fn record_and_sync(
        &self,
        events: &[&BehaviorEvent],
        lease: Lease,
    ) -> Result<RecordedAndSynced, StoreError> {
        let timeout = self.timeout.min(2 * LONGEST) / 2;
        let batch = Batch {
            events: events.iter().copied().cloned().collect(),
            lease,
            erasures: Arc::clone(&self.erasures),
            known_counts: Arc::clone(&self.known_counts),
            fact_receivers: Arc::clone(&self.fact_receivers),
        };
        transact_owned!(self, timeout, batch, |session, batch| record_and_sync(
            session, batch
        ))
    }
}

/// The inputs of the transaction.
struct Batch {
    events: Vec<BehaviorEvent>,
    lease: Lease,
    erasures: Arc<Erasures>,
    known_counts: Arc<KnownCounts>,
    fact_receivers: Arc<[String]>,
}

async fn record_and_sync<S: Session>(
    session: &mut S,
    batch: &Batch,
) -> Result<RecordedAndSynced, StoreError> {
    let lease = batch.lease;
    erasures::share(session, &batch.erasures).await?;
    let mut kept: Vec<&BehaviorEvent> = batch.events.iter().collect();
    let erased = batch.erasures.of_events(&kept);
    let mut place = 0..;
    kept.retain(|_| {
        place
            .next()
            .is_none_or(|place| !erased.contains_key(&place))
    });
    let mut done = RecordedAndSynced {
        erased,
        ..RecordedAndSynced::default()
    };
    if kept.is_empty() {
        return Ok(done);
    }
    let rows: Vec<LedgerRow> = kept
        .iter()
        .filter_map(|event| LedgerRow::born(event, lease.max_retries))
        .collect();
    let has_others = rows.len() < kept.len();
    if has_others && !lock_counted(session, &kept, lease.now).await?.is_empty() {
        return Err(recorded_already());
    }
    let known = &batch.known_counts;
    let counts = lock_like_counts(session, known, &rows, lease.now).await?;
    let schema = session.schema();
    let (inserts, behaviors) = match kept.iter().all(|event| is_plain(event)) {
        true => (&OF_PLAIN_EVENTS, plain_rows(schema, &kept)),
        false => (&OF_ANY_EVENTS, behavior_rows(&kept)),
    };
    let params = [
        behaviors,
        Param::time(lease.now),
        Param::Number(lease.max_retries.into()),
        Param::Number(Param::count(kept.len())),
    ];
    let inserted = session
        .execute(inserts.behaviors.on(schema), &params[..2])
        .await?;
    if inserted < kept.len() {
        return Err(recorded_already());
    }
    if has_others {
        count_new(session, &kept, BTreeSet::new(), &BTreeSet::new()).await?;
    }
    if rows.is_empty() {
        return Ok(done);
    }
    session.execute(inserts.ledger.on(schema), &params).await?;
    let pairs: BTreeSet<Pair> = rows.iter().map(LedgerRow::pair).collect();
    let events = rows.iter().map(event_of);
    let folded = fold_in(session, &pairs, events, counts, lease.now).await?;
    let completed: Vec<&LedgerRow> = rows.iter().collect();
    folded
        .append_facts(session, &completed, &batch.fact_receivers, lease.now)
        .await?;
    done.rows = rows.len();
    (done.before, done.settled) = folded.before_and_after();
    Ok(done)
}

/// Ends the transaction, so that the batch takes two steps.
fn recorded_already() -> StoreError {
    StoreError::Refused("an event of the batch is recorded already".to_owned())
}

fn event_of(row: &LedgerRow) -> (Pair, VersionedState) {
    let state = VersionedState::new(row.version, row.action);
    (row.pair(), state)
}

/// Locks the like counts of the resources of these rows, and inserts those of new resources.
async fn lock_like_counts<S: Session>(
    session: &mut S,
    known: &KnownCounts,
    rows: &[LedgerRow],
    now: DateTime<Utc>,
) -> Result<LockedCounts, StoreError> {
    let mut resources: BTreeSet<Resource> = rows.iter().map(|row| row.resource.clone()).collect();
    let new = uncounted(session, known, &resources).await?;
    let inserted = first_counts(rows, &new);
    if !new.is_empty() {
        insert_counts(session, &inserted, now).await?;
        resources.retain(|resource| !new.contains(resource));
    }
    let mut locked = match resources.is_empty() {
        true => LockedCounts::default(),
        false => lock_present(session, &resources, now).await?,
    };
    let never = |resource| (resource, LikeCount::NEVER);
    locked.counts.extend(new.into_iter().map(never));
    locked.inserted = inserted;
    Ok(locked)
}

/// Returns the counts of new resources after these rows, if none of their pairs has a state yet. The fold reads the states once
/// the counts are locked. If the final count differs, it is written.
fn first_counts(rows: &[LedgerRow], new: &BTreeSet<Resource>) -> Counts {
    let of_new = rows.iter().filter(|row| new.contains(&row.resource));
    let changes = Fold::of(|_| None, of_new.map(event_of)).count_changes;
    let first = |(resource, change)| Some((resource, LikeCount::NEVER.after(change)?));
    changes.into_iter().filter_map(first).collect()
}

/// Returns whether [`PLAIN`] holds all columns of an event: this service accepted it, its time is that of its version, and it
/// has no trace.
fn is_plain(event: &BehaviorEvent) -> bool {
    event.source == Source::Api
        && event.trace.is_none()
        && event.occurred_at == event.version.moment()
}

/// Returns a batch of plain events as rows of [`PLAIN`]. The time is NULL where the database computes it from the version.
fn plain_rows(d: &Schema, events: &[&BehaviorEvent]) -> Param {
    let has_text = d.moment_of_version().is_none();
    let rows: Vec<_> = in_order(events)
        .into_iter()
        .map(|(_, event)| {
            (
                &event.user_id,
                &event.resource.id,
                event.version,
                event.stream_sequence,
                event.behavior.as_str(),
                event.resource.resource_type.as_str(),
                id_text(event.event_id),
                has_text.then(|| time_text(event.occurred_at)),
            )
        })
        .collect();
    Param::rows(&rows)
}

/// The statements that insert a batch.
struct Inserts {
    /// The new behaviors. Parameters: rows, now.
    behaviors: Sql,
    /// The ledger rows of like events, closed. Executed after `behaviors`. Parameters: rows, now, the most retries, the number
    /// of rows.
    ledger: Sql,
}

/// Takes rows of [`BEHAVIOR`].
static OF_ANY_EVENTS: Inserts = Inserts {
    behaviors: Sql::new(|d| {
        let own = ("r.source", "r.behavior_time");
        insert_behaviors(d, STORED, own, &d.on_unexpected("event_id"))
    }),
    ledger: Sql::new(|d| insert_completed(d, &d.rows("$1", &LISTED), "r.traceparent")),
};

/// The columns of [`BEHAVIOR`] that plain events have.
const PLAIN: &[Column] = BEHAVIOR.split_at(8).0;

/// Takes rows of [`PLAIN`].
static OF_PLAIN_EVENTS: Inserts = Inserts {
    behaviors: Sql::new(|d| {
        let (columns, time) = match d.moment_of_version() {
            Some(time) => (PLAIN.split_at(7).0, time),
            None => (PLAIN, "r.behavior_time"),
        };
        let source = format!("'{}'", Source::API);
        let given = (source.as_str(), time);
        insert_behaviors(d, columns, given, &d.on_unexpected("event_id"))
    }),
    ledger: Sql::new(|d| {
        let listed = || d.rows("$1", LISTED.split_at(7).0);
        let rows = d.newest_behaviors("$4").unwrap_or_else(listed);
        insert_completed(d, &rows, "NULL")
    }),
};

/// The columns of [`BEHAVIOR`] that the ledger has.
const LISTED: [Column; 10] = [
    User("user_id"),
    ResourceId("resource_id"),
    Number("version"),
    Skipped,
    Word("behavior_type"),
    Word("resource_type"),
    Word("event_id"),
    Skipped,
    Skipped,
    Word("traceparent"),
];

/// Inserts the closed ledger rows of a table `r` of behaviors, with this trace. Parameters: those of [`Inserts::ledger`].
fn insert_completed(d: &Schema, rows: &str, trace: &str) -> String {
    let now = d.time("$2");
    format!(
        "INSERT INTO sync_events (id, event_type, resource_type, resource_id, user_id, \
         action_type, status, version, retry_count, max_retries, priority, fencing_token, \
         created_at, updated_at, processed_at, traceparent) \
         SELECT r.event_id, CONCAT(r.resource_type, '_like'), r.resource_type, r.resource_id, \
         r.user_id, r.behavior_type, 'completed', r.version, 0, $3, 0, {first}, {now}, {now}, {now}, \
         {trace} FROM {rows} WHERE r.behavior_type IN ('like', 'unlike')",
        first = LedgerRow::FIRST_TOKEN,
    )
}
