//! Recording a batch of behaviors, the ledger row of each like event, and the counts of other behaviors. The behavior
//! recorder calls it, and so does the direct path of a like when there is no NATS.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::behavior_counts;
use super::dialect::Column::{self, Number, ResourceId, Text, Time, User, Word};
use super::erasures::{self, Erasures};
use super::error::StoreError;
use super::schema::Schema;
use super::session::{IdRow, Session, Sql, TotalRow};
use super::statement::{Param, time_text};
use super::{Lease, Store, transact_owned};
use crate::domain::{BehaviorEvent, ErasedKind, LedgerRow};
use crate::store::text::id_text;

/// The outcome of recording a batch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recorded {
    /// The ledger rows of the batch's like events, for the sync publisher.
    pub rows: Vec<LedgerRow>,
    /// The positions in the batch of the events whose id belongs to an event of other content, which was
    /// recorded before or comes earlier in the batch.
    pub conflicts: Vec<usize>,
    /// The positions of the events that are not recorded because their user or resource is erased.
    pub erased: BTreeMap<usize, ErasedKind>,
}

impl Store {
    /// Appends behaviors, and for each like event its ledger row, `pending` under the lease, and adds other
    /// behaviors to the counts of their resources, in one transaction. An event that was recorded before stays as it
    /// is; an event of other content under its id is not recorded, and neither is one whose user or resource is erased.
    ///
    /// # Errors
    /// If the database cannot be reached, or refuses the data.
    pub async fn record(
        &self,
        events: &[&BehaviorEvent],
        lease: Lease,
    ) -> Result<Recorded, StoreError> {
        let events: Vec<BehaviorEvent> = events.iter().copied().cloned().collect();
        let batch = (events, lease, Arc::clone(&self.erasures));
        transact_owned!(self, self.timeout, batch, |session, batch| async {
            let (events, lease, erasures) = batch;
            let events: Vec<_> = events.iter().collect();
            record(session, &events, *lease, erasures).await
        })
    }
}

async fn record<S: Session>(
    session: &mut S,
    events: &[&BehaviorEvent],
    lease: Lease,
    erasures: &Erasures,
) -> Result<Recorded, StoreError> {
    erasures::share(session, erasures).await?;
    let erased = erasures.of_events(events);
    if erased.is_empty() {
        return insert(session, events, lease).await;
    }
    let kept: Vec<usize> = (0..events.len())
        .filter(|place| !erased.contains_key(place))
        .collect();
    let mut recorded = Recorded::default();
    if !kept.is_empty() {
        let events: Vec<_> = kept.iter().map(|place| events[*place]).collect();
        recorded = insert(session, &events, lease).await?;
    }
    for conflict in &mut recorded.conflicts {
        *conflict = kept[*conflict];
    }
    recorded.erased = erased;
    Ok(recorded)
}

async fn insert<S: Session>(
    session: &mut S,
    events: &[&BehaviorEvent],
    lease: Lease,
) -> Result<Recorded, StoreError> {
    let schema = session.schema();
    let params = [
        behavior_rows(events),
        Param::time(lease.now),
        Param::time(lease.until()),
        Param::Number(lease.max_retries.into()),
    ];
    let likes = events.iter().filter(|event| event.action().is_some());
    let likes = likes.count();
    let known = match likes < events.len() {
        true => lock_counted(session, events, lease.now).await?,
        false => BTreeSet::new(),
    };
    let recorded = session
        .execute(INSERT_BEHAVIORS.on(schema), &params)
        .await?;
    // An id may have been used before if fewer rows are new than were sent. Where the database
    // also counts the rows that were there already, the ledger tells: it takes only like events
    // that equal their behavior.
    let mut is_used = if schema.counts_only_new_rows() {
        recorded < events.len()
    } else {
        likes < events.len()
    };
    if likes > 0 {
        let listed = session.execute(INSERT_LEDGER.on(schema), &params).await?;
        is_used |= listed < likes;
    }
    let mut conflicts = BTreeSet::new();
    if is_used {
        let found: Vec<TotalRow> = session.load(CONFLICTS.on(schema), &params[..1]).await?;
        conflicts.extend(found.iter().map(|row| row.total as usize));
    }
    if likes < events.len() {
        count_new(session, events, known, &conflicts).await?;
    }
    let rows = events
        .iter()
        .enumerate()
        .filter(|(place, _)| !conflicts.contains(place))
        .filter_map(|(_, event)| LedgerRow::born(event, lease.max_retries))
        .collect();
    Ok(Recorded {
        rows,
        conflicts: conflicts.into_iter().collect(),
        erased: BTreeMap::new(),
    })
}

/// Returns the events of a batch with their places, in one order everywhere: of two workers that are given the same
/// messages, one waits for the other, and neither for its own tail. Of one id, the first in the batch comes first.
pub(super) fn in_order<'a>(events: &[&'a BehaviorEvent]) -> Vec<(usize, &'a BehaviorEvent)> {
    let mut events: Vec<_> = events.iter().copied().enumerate().collect();
    events.sort_by_key(|(_, event)| event.event_id);
    events
}

/// Returns a batch as rows of [`BEHAVIOR`], [`in_order`].
pub(super) fn behavior_rows(events: &[&BehaviorEvent]) -> Param {
    let rows: Vec<_> = in_order(events)
        .into_iter()
        .map(|(place, event)| {
            (
                &event.user_id,
                &event.resource.id,
                event.version,
                event.stream_sequence,
                event.behavior.as_str(),
                event.resource.resource_type.as_str(),
                id_text(event.event_id),
                time_text(event.occurred_at),
                event.source.name(),
                event.trace,
                place,
            )
        })
        .collect();
    Param::rows(&rows)
}

/// Locks the counts of the behaviors of a batch that are no likes, and returns the ids of those behaviors that were recorded
/// before. Of two workers with the same event, the second waits here, and then finds it recorded.
pub(super) async fn lock_counted<S: Session>(
    session: &mut S,
    events: &[&BehaviorEvent],
    now: DateTime<Utc>,
) -> Result<BTreeSet<String>, StoreError> {
    let keys = counted(events).map(|(_, event)| behavior_counts::key(event));
    behavior_counts::lock(session, &keys.collect(), now).await?;
    let ids = counted(events).map(|(_, event)| (id_text(event.event_id),));
    let known = known_ids(session, &ids.collect::<Vec<_>>()).await?;
    Ok(known.into_iter().collect())
}

/// Adds to their counts the behaviors of a batch that this transaction has recorded: those that were not `known` before,
/// and do not conflict with another event of their id.
pub(super) async fn count_new<S: Session>(
    session: &mut S,
    events: &[&BehaviorEvent],
    mut known: BTreeSet<String>,
    conflicts: &BTreeSet<usize>,
) -> Result<(), StoreError> {
    let mut added: BTreeMap<_, i64> = BTreeMap::new();
    for (place, event) in counted(events) {
        if !conflicts.contains(&place) && known.insert(id_text(event.event_id)) {
            *added.entry(behavior_counts::key(event)).or_default() += 1;
        }
    }
    behavior_counts::add(session, &added).await
}

/// The events of a batch that are no likes, with their places.
fn counted<'a>(
    events: &'a [&BehaviorEvent],
) -> impl Iterator<Item = (usize, &'a BehaviorEvent)> + use<'a> {
    let all = events.iter().copied().enumerate();
    all.filter(|(_, event)| event.action().is_none())
}

/// Returns the ids of those of these events that are recorded. Takes rows `(event_id)`.
pub(super) async fn known_ids<S: Session>(
    session: &mut S,
    ids: &[impl Serialize + Sync],
) -> Result<Vec<String>, StoreError> {
    let statement = KNOWN_IDS.on(session.schema());
    let rows: Vec<IdRow> = session.load(statement, &[Param::rows(ids)]).await?;
    Ok(rows.into_iter().map(|row| row.id).collect())
}

/// The events that are recorded. Parameters: rows `(event_id)`.
static KNOWN_IDS: Sql = Sql::new(|d| {
    let (ids, join) = (d.rows("$1", &[Word("event_id")]), d.join());
    format!("SELECT b.event_id AS id FROM {ids} {join} user_behaviors b ON b.event_id = r.event_id")
});

/// The columns of a recorded behavior. Short ones come first: for each column, MariaDB reads the row from its start.
pub(super) const BEHAVIOR: [Column; 11] = [
    User("user_id"),
    ResourceId("resource_id"),
    Number("version"),
    Number("stream_sequence"),
    Word("behavior_type"),
    Word("resource_type"),
    Word("event_id"),
    Time("behavior_time"),
    Text("source"),
    Word("traceparent"),
    Number("place"),
];

/// Matches an event `r` that equals the recorded behavior `b`. The events of the Go services have no version
/// of their own: theirs is made of their place in the stream, which is another each time.
const SAME: &str = "b.user_id = r.user_id AND b.resource_type = r.resource_type \
    AND b.resource_id = r.resource_id AND b.behavior_type = r.behavior_type \
    AND b.behavior_time = r.behavior_time \
    AND (b.version = r.version OR (b.source = 'legacy' AND r.source = 'legacy'))";

/// The columns of [`BEHAVIOR`] that are stored with the behavior.
pub(super) const STORED: &[Column] = BEHAVIOR.split_at(9).0;

/// Parameters: rows of [`BEHAVIOR`], now.
static INSERT_BEHAVIORS: Sql = Sql::new(|d| {
    let keep = d.on_conflict("user_behaviors", &["event_id"], &[]);
    insert_behaviors(d, STORED, ("r.source", "r.behavior_time"), &keep)
});

/// Inserts behaviors with this source and time. Parameters: rows that begin with these columns, now.
pub(super) fn insert_behaviors(
    d: &Schema,
    columns: &[Column],
    (source, time): (&str, &str),
    on_conflict: &str,
) -> String {
    let (rows, now) = (d.rows("$1", columns), d.time("$2"));
    format!(
        "INSERT INTO user_behaviors (event_id, user_id, resource_type, resource_id, \
         behavior_type, version, source, behavior_time, stream_sequence, created_at) \
         SELECT r.event_id, r.user_id, r.resource_type, r.resource_id, r.behavior_type, \
         r.version, {source}, {time}, r.stream_sequence, {now} FROM {rows} \
         WHERE true {on_conflict}"
    )
}

/// Parameters: rows of [`BEHAVIOR`], now, the end of the lease, the most retries.
static INSERT_LEDGER: Sql = Sql::new(|d| {
    let (rows, join) = (d.rows("$1", &BEHAVIOR), d.join());
    let (now, lease_end) = (d.time("$2"), d.time("$3"));
    let keep = d.on_conflict("sync_events", &["id"], &[]);
    format!(
        "INSERT INTO sync_events (id, event_type, resource_type, resource_id, user_id, \
         action_type, status, version, retry_count, max_retries, priority, \
         next_attempt_at, lease_until, fencing_token, created_at, updated_at, traceparent) \
         SELECT b.event_id, CONCAT(b.resource_type, '_like'), b.resource_type, \
         b.resource_id, b.user_id, b.behavior_type, 'pending', b.version, 0, $4, 0, \
         {lease_end}, {lease_end}, 1, {now}, {now}, r.traceparent FROM {rows} \
         {join} user_behaviors b ON b.event_id = r.event_id AND {SAME} \
         WHERE b.behavior_type IN ('like', 'unlike') {keep}"
    )
});

/// The places of the events that do not equal the behavior recorded under their id. Parameters: rows of
/// [`BEHAVIOR`].
static CONFLICTS: Sql = Sql::new(|d| {
    let (rows, join) = (d.rows("$1", &BEHAVIOR), d.join());
    format!(
        "SELECT r.event_id AS label, r.place AS total FROM {rows} \
         {join} user_behaviors b ON b.event_id = r.event_id WHERE NOT ({SAME})"
    )
});
