//! The transaction that writes one chunk of an import. Called by `admin/import/`.

use std::collections::{BTreeSet, HashSet};
use std::ops::Range;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use diesel::prelude::QueryableByName;
use diesel::sql_types::Text as SqlText;

use super::Store;
use super::dialect::Column::{self, Number, ResourceId, Time, User, Word};
use super::erasures::{self, Erasures};
use super::error::StoreError;
use super::like_counts::{KnownCounts, lock_known_counts};
use super::pool::IMPORT_TIMEOUT;
use super::reads::find;
use super::record::known_ids;
use super::session::{Session, Sql};
use super::statement::{Param, time_text};
use super::sync::{Settled, fold_in};
use super::text::id_text;
use super::transact;
use crate::domain::{BehaviorEvent, Pair, Resource, VersionedState};

/// The number of lanes of an import: more than the cores of a small database server, so that none of them waits for the
/// import.
const LANES: usize = 3;

/// Some rows of one lane of an import.
#[derive(Debug, Clone)]
pub struct ImportChunk {
    /// The import's number.
    pub import_id: i64,
    /// The number of its run.
    pub run: i64,
    /// The number of the lane.
    pub lane: usize,
    /// The position of the lane before these rows.
    pub before: String,
    /// The position after them.
    pub after: String,
    /// The number of rows, invalid ones included.
    pub rows: usize,
    /// The number of invalid rows.
    pub rejected: usize,
    /// Like events, in an order that is the same in each run.
    pub events: Arc<Vec<BehaviorEvent>>,
    /// The places of those of these rows.
    pub places: Range<usize>,
    /// Whether some of them may be recorded already, and are looked for. Otherwise all are inserted.
    pub may_be_recorded: bool,
}

impl ImportChunk {
    fn events(&self) -> &[BehaviorEvent] {
        &self.events[self.places.clone()]
    }
}

impl Store {
    /// Returns the number of lanes of an import: how many of its chunks this database writes side by side. One that is
    /// inside this process has one writer.
    #[must_use]
    pub fn import_lanes(&self) -> usize {
        if self.schema.in_process() { 1 } else { LANES }
    }

    /// Records the new events of a chunk, brings read models and counts up to them, and moves its lane on, in one
    /// transaction. The events get no ledger rows: they are complete. An event that was recorded before stays as it is, and
    /// one whose user or resource is erased is skipped.
    ///
    /// Chunks of other lanes may be written meanwhile. If they had events of the same resources, the lanes would wait for each
    /// other's counts, and live likes for both.
    ///
    /// Returns what it has written; `None`, with nothing written, if the lane is not at the position before the chunk, or
    /// another run has begun.
    ///
    /// # Errors
    /// If the database cannot be reached, or refuses the data: also if an event is recorded already and was not looked for.
    pub async fn import(
        &self,
        chunk: &ImportChunk,
        now: DateTime<Utc>,
    ) -> Result<Option<Imported>, StoreError> {
        let known = (&*self.erasures, &*self.known_counts);
        transact!(self, IMPORT_TIMEOUT, |session| import(
            session, chunk, known, now
        ))
    }
}

/// What a chunk has written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Imported {
    /// The state after it of every pair and resource with a new event.
    pub settled: Settled,
    /// The number of its events that were recorded before.
    pub repeated: usize,
}

/// What this process knows of erasures and counts.
type Known<'a> = (&'a Erasures, &'a KnownCounts);

async fn import<S: Session>(
    session: &mut S,
    chunk: &ImportChunk,
    (erasures, known_counts): Known<'_>,
    now: DateTime<Utc>,
) -> Result<Option<Imported>, StoreError> {
    let d = session.schema();
    match lock_place(session, chunk).await? {
        Place::Before => {}
        // The answer to an earlier commit was lost.
        Place::After => return read_back(session, chunk).await,
        Place::Elsewhere => return Ok(None),
    }
    erasures::share(session, erasures).await?;
    let events: Vec<&BehaviorEvent> = chunk.events().iter().collect();
    let erased = erasures.of_events(&events).len();
    let mut new = unrecorded(session, chunk).await?;
    if erased > 0 {
        new.retain(|event| erasures.of(&event.user_id, &event.resource).is_none());
    }
    let mut settled = Settled::default();
    if !new.is_empty() {
        insert(session, chunk.import_id, &new, now).await?;
        settled = apply(session, &new, known_counts, now).await?;
    }
    let repeated = chunk.places.len() - new.len() - erased;
    let place = [
        Param::Number(chunk.import_id),
        Param::Number(Param::count(chunk.lane)),
        Param::Text(chunk.after.clone()),
    ];
    session.execute(MOVE_LANE.on(d), &place).await?;
    // At the end, because the other lanes wait for it.
    let counted = [
        Param::Number(chunk.import_id),
        Param::Number(Param::count(chunk.rows)),
        Param::Number(Param::count(chunk.rejected)),
        Param::Number(Param::count(new.len())),
        Param::Number(Param::count(repeated)),
        Param::time(now),
    ];
    session.execute(COUNT.on(d), &counted).await?;
    Ok(Some(Imported { settled, repeated }))
}

/// Where a lane is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// At the position before a chunk.
    Before,
    /// At the one after it.
    After,
    /// At another one, or another run has begun.
    Elsewhere,
}

/// Locks the lane until the transaction ends: a run that begins waits here, and this one then ends.
async fn lock_place<S: Session>(session: &mut S, chunk: &ImportChunk) -> Result<Place, StoreError> {
    let lane = [
        Param::Number(chunk.import_id),
        Param::Number(Param::count(chunk.lane)),
        Param::Number(chunk.run),
    ];
    let rows: Vec<PositionRow> = session
        .load(LOCK_POSITION.on(session.schema()), &lane)
        .await?;
    let position = rows.first().map(|row| &row.position);
    Ok(match position {
        Some(position) if *position == chunk.before => Place::Before,
        Some(position) if *position == chunk.after => Place::After,
        _ => Place::Elsewhere,
    })
}

/// Reads the state of the pairs of a chunk that is committed.
async fn read_back<S: Session>(
    session: &mut S,
    chunk: &ImportChunk,
) -> Result<Option<Imported>, StoreError> {
    let pairs: BTreeSet<Pair> = chunk.events().iter().map(Pair::of).collect();
    let resources: BTreeSet<Resource> = pairs.iter().map(|pair| pair.resource.clone()).collect();
    let found = find(session, &pairs, &resources).await?;
    let settled = Settled {
        changed: resources.into_iter().collect(),
        ..found.into()
    };
    Ok(Some(Imported {
        settled,
        repeated: 0,
    }))
}

/// Returns the events that were not recorded before, each once, in their order: two imports of the same events then wait
/// for each other in one direction.
async fn unrecorded<'a, S: Session>(
    session: &mut S,
    chunk: &'a ImportChunk,
) -> Result<Vec<&'a BehaviorEvent>, StoreError> {
    let events = chunk.events();
    let mut seen = HashSet::with_capacity(events.len());
    let each_once = events.iter().filter(|event| seen.insert(event.event_id));
    if events.is_empty() || !chunk.may_be_recorded {
        return Ok(each_once.collect());
    }
    let mut new: Vec<_> = each_once
        .map(|event| (id_text(event.event_id), event))
        .collect();
    let ids: Vec<_> = new.iter().map(|(id, _)| (id,)).collect();
    let known: HashSet<String> = known_ids(session, &ids).await?.into_iter().collect();
    if !known.is_empty() {
        new.retain(|(id, _)| !known.contains(id));
    }
    Ok(new.into_iter().map(|(_, event)| event).collect())
}

/// Records new events. Nothing but an import of the same events waits for these rows.
async fn insert<S: Session>(
    session: &mut S,
    import_id: i64,
    events: &[&BehaviorEvent],
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let rows: Vec<_> = events
        .iter()
        .map(|event| {
            (
                id_text(event.event_id),
                &event.user_id,
                event.resource.resource_type.as_str(),
                &event.resource.id,
                event.behavior.as_str(),
                event.version,
                time_text(event.occurred_at),
            )
        })
        .collect();
    let source = events.first().map(|event| event.source.name());
    let params = [
        Param::rows(&rows),
        Param::time(now),
        Param::Text(source.unwrap_or_default().into_owned()),
        Param::Number(import_id),
    ];
    let statement = INSERT.on(session.schema());
    session.execute(statement, &params).await.map(drop)
}

/// Folds events that are recorded into read models and counts.
async fn apply<S: Session>(
    session: &mut S,
    events: &[&BehaviorEvent],
    known_counts: &KnownCounts,
    now: DateTime<Utc>,
) -> Result<Settled, StoreError> {
    let pairs: BTreeSet<Pair> = events.iter().copied().map(Pair::of).collect();
    let resources: BTreeSet<Resource> = pairs.iter().map(|pair| pair.resource.clone()).collect();
    // Workers that sync live likes of these resources wait until the transaction ends.
    let counts = lock_known_counts(session, known_counts, &resources, now).await?;
    let events = events.iter().filter_map(|event| {
        let action = event.action()?;
        Some((Pair::of(event), VersionedState::new(event.version, action)))
    });
    let folded = fold_in(session, &pairs, events, counts, now).await?;
    Ok(folded.settled())
}

#[derive(QueryableByName)]
struct PositionRow {
    #[diesel(sql_type = SqlText)]
    position: String,
}
/// Parameters: the number, the lane, the run.
static LOCK_POSITION: Sql = Sql::new(|d| {
    format!(
        "SELECT l.position FROM likewise_import_lanes l \
         WHERE l.import_id = $1 AND l.lane = $2 AND l.run = $3{}",
        d.for_update("l")
    )
});

/// Parameters: the number, the lane, the position.
static MOVE_LANE: Sql = Sql::new(|_| {
    "UPDATE likewise_import_lanes SET position = $3 WHERE import_id = $1 AND lane = $2".to_owned()
});

/// Counts what a chunk has written. Parameters: the number, the rows, the invalid ones, the new events, the repeated ones,
/// now.
static COUNT: Sql = Sql::new(|d| {
    format!(
        "UPDATE likewise_imports SET rows_read = rows_read + $2, \
         rows_rejected = rows_rejected + $3, events_new = events_new + $4, \
         events_repeated = events_repeated + $5, updated_at = {} WHERE import_id = $1",
        d.time("$6")
    )
});

/// The columns of an imported event.
const EVENT: [Column; 7] = [
    Word("event_id"),
    User("user_id"),
    Word("resource_type"),
    ResourceId("resource_id"),
    Word("behavior_type"),
    Number("version"),
    Time("behavior_time"),
];

/// Records events. Fails if another process has recorded one of them since: its effect may not be counted twice.
/// Parameters: rows of [`EVENT`], now, the source, the number of the import.
static INSERT: Sql = Sql::new(|d| {
    let (rows, now) = (d.rows("$1", &EVENT), d.time("$2"));
    format!(
        "INSERT INTO user_behaviors (event_id, user_id, resource_type, resource_id, \
         behavior_type, version, source, behavior_time, created_at, import_id) \
         SELECT r.event_id, r.user_id, r.resource_type, r.resource_id, r.behavior_type, \
         r.version, $3, r.behavior_time, {now}, $4 FROM {rows}"
    )
});
