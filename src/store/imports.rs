//! The transaction that writes one chunk of an import. Called by `admin/import/`.

use std::collections::{BTreeSet, HashSet};

use chrono::{DateTime, Utc};
use diesel::prelude::QueryableByName;
use diesel::sql_types::Text as SqlText;

use super::dialect::Column::{self, Number, ResourceId, Time, User, Word};
use super::erasures::{self, Erasures};
use super::error::StoreError;
use super::pool::IMPORT_TIMEOUT;
use super::read_models;
use super::reads::find;
use super::record::known_ids;
use super::session::{Param, Session, Sql, time_text};
use super::sync::{Settled, fold_in};
use super::text::id_text;
use super::{Store, transact};
use crate::domain::{BehaviorEvent, Pair, Resource, VersionedState};

/// Some rows of an import.
#[derive(Debug)]
pub struct ImportChunk<'a> {
    /// The import's number.
    pub import_id: i64,
    /// The position before these rows.
    pub before: &'a str,
    /// The position after them.
    pub after: &'a str,
    /// The number of rows, invalid ones included.
    pub rows: usize,
    /// The number of invalid rows.
    pub rejected: usize,
    /// Their like events.
    pub events: &'a [BehaviorEvent],
}

impl Store {
    /// Records the new events of a chunk, brings read models and counts up to them, and moves the import on, in one
    /// transaction. The events get no ledger rows: they are complete. An event that was recorded before stays as it is, and
    /// one whose user or resource is erased is skipped.
    /// Returns the state after it of every pair and resource with a new event; `None`, with nothing written, if the
    /// import is not at the position before the chunk.
    ///
    /// # Errors
    /// If the database cannot be reached, or refuses the data.
    pub async fn import(
        &self,
        chunk: &ImportChunk<'_>,
        now: DateTime<Utc>,
    ) -> Result<Option<Settled>, StoreError> {
        let erasures = &self.erasures;
        transact!(self, IMPORT_TIMEOUT, |session| import(
            session, chunk, erasures, now
        ))
    }
}

async fn import<S: Session>(
    session: &mut S,
    chunk: &ImportChunk<'_>,
    erasures: &Erasures,
    now: DateTime<Utc>,
) -> Result<Option<Settled>, StoreError> {
    let d = session.schema();
    // Of two processes that run one import, one waits here, and then finds that the import has moved on.
    let id = [Param::Number(chunk.import_id)];
    let position: Vec<PositionRow> = session.load(LOCK_POSITION.on(d), &id).await?;
    match position.first().map(|row| row.position.as_str()) {
        Some(position) if position == chunk.before => {}
        // The answer to an earlier commit was lost.
        Some(position) if position == chunk.after => return read_back(session, chunk).await,
        _ => return Ok(None),
    }
    erasures::share(session, erasures).await?;
    let events: Vec<&BehaviorEvent> = chunk.events.iter().collect();
    let erased = erasures.of_events(&events).len();
    let mut new = unrecorded(session, chunk.events).await?;
    if erased > 0 {
        new.retain(|event| erasures.of(&event.user_id, &event.resource).is_none());
    }
    let settled = match new.as_slice() {
        [] => Settled::default(),
        new => apply(session, chunk.import_id, new, now).await?,
    };
    let params = [
        Param::Number(chunk.import_id),
        Param::Text(chunk.after.to_owned()),
        Param::Number(Param::count(chunk.rows)),
        Param::Number(Param::count(chunk.rejected)),
        Param::Number(Param::count(new.len())),
        Param::Number(Param::count(chunk.events.len() - new.len() - erased)),
        Param::time(now),
    ];
    session.execute(MOVE_ON.on(d), &params).await?;
    Ok(Some(settled))
}

/// Reads the state of the pairs of a chunk that is committed.
async fn read_back<S: Session>(
    session: &mut S,
    chunk: &ImportChunk<'_>,
) -> Result<Option<Settled>, StoreError> {
    let pairs: BTreeSet<Pair> = chunk.events.iter().map(Pair::of).collect();
    let resources: BTreeSet<Resource> = pairs.iter().map(|pair| pair.resource.clone()).collect();
    let found = find(session, &pairs, &resources).await?;
    Ok(Some(Settled {
        changed: resources.into_iter().collect(),
        ..found.into()
    }))
}

/// Returns the events that were not recorded before, each once, in the order of their ids: two imports of the same
/// events then wait for each other in one direction.
async fn unrecorded<'a, S: Session>(
    session: &mut S,
    events: &'a [BehaviorEvent],
) -> Result<Vec<&'a BehaviorEvent>, StoreError> {
    if events.is_empty() {
        return Ok(Vec::new());
    }
    let mut seen = HashSet::with_capacity(events.len());
    let mut new: Vec<_> = events
        .iter()
        .filter(|event| seen.insert(event.event_id))
        .map(|event| (id_text(event.event_id), event))
        .collect();
    new.sort_by(|(one, _), (other, _)| one.cmp(other));
    let ids: Vec<_> = new.iter().map(|(id, _)| (id,)).collect();
    let known: HashSet<String> = known_ids(session, &ids).await?.into_iter().collect();
    if !known.is_empty() {
        new.retain(|(id, _)| !known.contains(id));
    }
    Ok(new.into_iter().map(|(_, event)| event).collect())
}

/// Records new events, and folds them into read models and counts.
async fn apply<S: Session>(
    session: &mut S,
    import_id: i64,
    events: &[&BehaviorEvent],
    now: DateTime<Utc>,
) -> Result<Settled, StoreError> {
    let pairs: BTreeSet<Pair> = events.iter().copied().map(Pair::of).collect();
    let resources: BTreeSet<Resource> = pairs.iter().map(|pair| pair.resource.clone()).collect();
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
    // The counts are locked last, for as short as can be: workers that sync live likes of these resources wait.
    session
        .execute(INSERT.on(session.schema()), &params)
        .await?;
    let counts = read_models::lock_counts(session, &resources, now).await?;
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
/// Parameters: the number.
static LOCK_POSITION: Sql = Sql::new(|d| {
    format!(
        "SELECT i.position FROM likewise_imports i WHERE i.import_id = $1{}",
        d.for_update("i")
    )
});

/// Moves an import on. Parameters: the number, the position, the rows, the invalid ones, the new events, the repeated
/// ones, now.
static MOVE_ON: Sql = Sql::new(|d| {
    format!(
        "UPDATE likewise_imports SET position = $2, rows_read = rows_read + $3, \
         rows_rejected = rows_rejected + $4, events_new = events_new + $5, \
         events_repeated = events_repeated + $6, updated_at = {} WHERE import_id = $1",
        d.time("$7")
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
