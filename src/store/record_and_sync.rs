//! Recording a batch of new behaviors and syncing it to the read models, in one transaction: one commit a batch, and ledger
//! rows that are written once. The behavior recorder calls it while nothing is behind; `record.rs` and `sync.rs` are the two
//! steps for all other batches.
//!
//! It locks in the order of the two steps: the erasure epoch, the counts of other behaviors, the like counts, and then the
//! rows. Of two workers with the same event, the second waits for a count, and then finds the event recorded.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::dialect::Column;
use super::erasures::{self, Erasures};
use super::error::StoreError;
use super::like_counts::{KnownCounts, lock_known_counts};
use super::record::{BEHAVIOR, behavior_rows, count_new, insert_behaviors, lock_counted};
use super::session::{Session, Sql};
use super::statement::Param;
use super::sync::{Settled, fold_in};
use super::{Lease, Store, transact_owned};
use crate::domain::{BehaviorEvent, ErasedKind, LedgerRow, Pair, Resource, VersionedState};

/// The time limit of one transaction.
const LONGEST: Duration = Duration::from_secs(2);

/// The outcome of recording and syncing a batch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecordedAndSynced {
    /// The number of ledger rows, all completed.
    pub rows: usize,
    /// The read models after the batch.
    pub settled: Settled,
    /// The positions in the batch of the events that are not recorded because their user or resource is erased.
    pub erased: BTreeMap<usize, ErasedKind>,
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
    let resources: BTreeSet<Resource> = rows.iter().map(|row| row.resource.clone()).collect();
    let counts = match rows.is_empty() {
        true => BTreeMap::new(),
        false => lock_known_counts(session, &batch.known_counts, &resources, lease.now).await?,
    };
    let schema = session.schema();
    let params = [
        behavior_rows(&kept),
        Param::time(lease.now),
        Param::Number(lease.max_retries.into()),
    ];
    let inserted = session
        .execute(INSERT_NEW_BEHAVIORS.on(schema), &params[..2])
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
    session
        .execute(INSERT_COMPLETED.on(schema), &params)
        .await?;
    let pairs: BTreeSet<Pair> = rows.iter().map(LedgerRow::pair).collect();
    let events = rows
        .iter()
        .map(|row| (row.pair(), VersionedState::new(row.version, row.action)));
    let folded = fold_in(session, &pairs, events, counts, lease.now).await?;
    let completed: Vec<&LedgerRow> = rows.iter().collect();
    folded
        .append_facts(session, &completed, &batch.fact_receivers, lease.now)
        .await?;
    done.rows = rows.len();
    done.settled = folded.settled();
    Ok(done)
}

/// Ends the transaction, so that the batch takes two steps.
fn recorded_already() -> StoreError {
    StoreError::Refused("an event of the batch is recorded already".to_owned())
}

/// Parameters: rows of [`BEHAVIOR`], now.
static INSERT_NEW_BEHAVIORS: Sql = Sql::new(|d| insert_behaviors(d, &d.on_unexpected("event_id")));

/// The columns of [`BEHAVIOR`] that the ledger has.
const LISTED: &[Column] = BEHAVIOR.split_at(7).0;

/// The ledger rows of like events, closed. Parameters: rows of [`BEHAVIOR`], now, the most retries.
static INSERT_COMPLETED: Sql = Sql::new(|d| {
    let (rows, now) = (d.rows("$1", LISTED), d.time("$2"));
    format!(
        "INSERT INTO sync_events (id, event_type, resource_type, resource_id, user_id, \
         action_type, status, version, retry_count, max_retries, priority, fencing_token, \
         created_at, updated_at, processed_at, traceparent) \
         SELECT r.event_id, CONCAT(r.resource_type, '_like'), r.resource_type, r.resource_id, \
         r.user_id, r.behavior_type, 'completed', r.version, 0, $3, 0, {first}, {now}, {now}, {now}, \
         r.traceparent FROM {rows} WHERE r.behavior_type IN ('like', 'unlike')",
        first = LedgerRow::FIRST_TOKEN,
    )
});
