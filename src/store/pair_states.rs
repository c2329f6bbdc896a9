//! The state of each pair in the likes tables. Syncing, repairs and readers share these functions.

use std::collections::{BTreeMap, BTreeSet};

use diesel::prelude::QueryableByName;
use diesel::sql_types::{BigInt, Nullable};
use serde::Serialize;

use super::comparisons::folded;
use super::dialect::Column::{self, Number, ResourceId, Time, User};
use super::error::StoreError;
use super::ids::AnyId;
use super::schema::{Schema, likes_table};
use super::session::{LikesSql, Session};
use super::statement::{Param, time_text};
use crate::domain::{Id, Pair, PairState, Resource, ResourceType, Version, VersionedState};

/// Reads the states of these pairs.
pub(super) async fn states<S: Session>(
    session: &mut S,
    pairs: &BTreeSet<Pair>,
) -> Result<Vec<(Pair, PairState)>, StoreError> {
    load_states(session, &STATES, pairs).await
}

/// Reads the states that the log has of these pairs: the folds of their effective events.
pub(super) async fn logged_states<S: Session>(
    session: &mut S,
    pairs: &BTreeSet<Pair>,
) -> Result<BTreeMap<Pair, PairState>, StoreError> {
    let states = load_states(session, &LOGGED_STATES, pairs).await?;
    Ok(states.into_iter().collect())
}

/// Loads states of pairs with a statement that takes rows of [`PAIR`].
async fn load_states<S: Session>(
    session: &mut S,
    sql: &'static LikesSql,
    pairs: &BTreeSet<Pair>,
) -> Result<Vec<(Pair, PairState)>, StoreError> {
    let mut states = Vec::with_capacity(pairs.len());
    for resource_type in session.schema().resource_types().iter() {
        let mut wanted: Vec<_> = pairs
            .iter()
            .filter(|pair| pair.resource.resource_type == resource_type)
            .map(|pair| (&pair.resource.id, &pair.user_id))
            .collect();
        if wanted.is_empty() {
            continue;
        }
        // In the order of the primary key, whose neighbours are found in one page.
        wanted.sort_unstable_by_key(|(resource_id, user_id)| (*user_id, *resource_id));
        let statement = sql.on(session.schema(), resource_type);
        let rows: Vec<StateRow> = session.load(statement, &[Param::rows(&wanted)]).await?;
        states.extend(rows.iter().map(|row| row.state(resource_type)));
    }
    Ok(states)
}

/// Writes the states of pairs. Returns their number.
pub(super) async fn write_states<'a, S: Session>(
    session: &mut S,
    states: impl Iterator<Item = (&'a Pair, &'a PairState)>,
) -> Result<usize, StoreError> {
    let states: Vec<_> = states.collect();
    if states.iter().all(|(_, state)| state.begins_its_run()) {
        return write_new_likes(session, states).await;
    }
    let row = |pair: &'a Pair, state: &PairState| {
        (
            &pair.resource.id,
            &pair.user_id,
            state.newest.version,
            state.newest.weight(),
            time_text(state.since.moment()),
        )
    };
    write(session, &WRITE_STATES, states, row).await
}

/// Writes the states of pairs whose newest event is the like that began the run, as nearly all are. Returns their number.
async fn write_new_likes<'a, S: Session>(
    session: &mut S,
    states: Vec<(&'a Pair, &'a PairState)>,
) -> Result<usize, StoreError> {
    let has_text = session.schema().moment_of_version().is_none();
    let row = |pair: &'a Pair, state: &PairState| {
        let since = has_text.then(|| time_text(state.since.moment()));
        (
            &pair.resource.id,
            &pair.user_id,
            state.newest.version,
            since,
        )
    };
    write(session, &WRITE_NEW_LIKES, states, row).await
}

/// Writes since when pairs that have a row do not count.
pub(super) async fn write_voided<'a, S: Session>(
    session: &mut S,
    states: impl Iterator<Item = (&'a Pair, &'a PairState)>,
) -> Result<(), StoreError> {
    let row = |pair: &'a Pair, state: &PairState| {
        let voided = state.voided.map(|version| time_text(version.moment()));
        (&pair.resource.id, &pair.user_id, voided)
    };
    let states = states.collect();
    write(session, &WRITE_VOIDED, states, row).await.map(drop)
}

/// Executes a statement on the rows of pairs, once for each resource type. Returns the number of rows.
async fn write<'a, S: Session, R: Serialize + Send>(
    session: &mut S,
    sql: &'static LikesSql,
    mut states: Vec<(&'a Pair, &'a PairState)>,
    row: impl Fn(&'a Pair, &'a PairState) -> R,
) -> Result<usize, StoreError> {
    // In the order of the primary key, which makes many rows cheaper. The locks on the counts prevent deadlocks.
    states.sort_unstable_by_key(|(pair, _)| (&pair.user_id, &pair.resource));
    let mut written: BTreeMap<ResourceType, Vec<R>> = BTreeMap::new();
    for (pair, state) in states {
        let rows = written.entry(pair.resource.resource_type).or_default();
        rows.push(row(pair, state));
    }
    let mut total = 0;
    for (resource_type, rows) in written {
        let statement = sql.on(session.schema(), resource_type);
        session.execute(statement, &[Param::rows(&rows)]).await?;
        total += rows.len();
    }
    Ok(total)
}

/// The columns of a pair of one resource type.
pub(super) const PAIR: [Column; 2] = [ResourceId("resource_id"), User("user_id")];

/// Parameters: rows of [`PAIR`].
static STATES: LikesSql = LikesSql::new(|d, resource_type| {
    let (table, id) = likes_table(resource_type);
    let rows = d.rows("$1", &PAIR);
    format!(
        "SELECT {} FROM {rows} {} {table} l ON l.user_id = r.user_id AND l.{id} = r.resource_id",
        state_columns(d, &id),
        d.join()
    )
});

/// Parameters: rows of [`PAIR`].
static LOGGED_STATES: LikesSql = LikesSql::new(|d, resource_type| {
    let from = format!(
        "{} {} user_behaviors b ON b.user_id = r.user_id \
         AND b.resource_type = '{resource_type}' AND b.resource_id = r.resource_id",
        d.rows("$1", &PAIR),
        d.join()
    );
    format!(
        "SELECT n.user_id, n.resource_id, n.version, {} AS liked, n.since, n.voided FROM {}",
        d.number("CASE WHEN n.behavior_type = 'like' THEN 1 ELSE 0 END"),
        folded(resource_type, &from, "")
    )
});

/// The time of a like is that of the like that began the run; of an unlike, its own. Parameters: rows `(resource_id,
/// user_id, version, liked, since)`.
static WRITE_STATES: LikesSql = LikesSql::new(|d, resource_type| {
    let columns = [
        ResourceId("resource_id"),
        User("user_id"),
        Number("version"),
        Number("liked"),
        Time("since"),
    ];
    let deleted = "CASE WHEN r.liked = 1 THEN NULL ELSE r.since END";
    upsert(d, resource_type, &columns, ("r.since", deleted))
});

/// Parameters: rows `(resource_id, user_id, version, since)`; the time is NULL where the database computes it from the
/// version.
static WRITE_NEW_LIKES: LikesSql = LikesSql::new(|d, resource_type| {
    let columns = [
        ResourceId("resource_id"),
        User("user_id"),
        Number("version"),
        Time("since"),
    ];
    match d.moment_of_version() {
        Some(since) => upsert(d, resource_type, &columns[..3], (since, "NULL")),
        None => upsert(d, resource_type, &columns, ("r.since", "NULL")),
    }
});

/// Inserts or replaces rows, with these expressions for `created_at` and `deleted_at`.
fn upsert(
    d: &Schema,
    resource_type: ResourceType,
    columns: &[Column],
    (created, deleted): (&str, &str),
) -> String {
    let (table, id) = likes_table(resource_type);
    let rows = d.rows("$1", columns);
    let set = ["created_at", "deleted_at", "version"].map(|column| (column, d.incoming(column)));
    let replace = d.on_conflict(&table, &["user_id", &id], &set);
    format!(
        "INSERT INTO {table} (user_id, {id}, version, created_at, deleted_at) \
         SELECT r.user_id, r.resource_id, r.version, {created}, {deleted} FROM {rows} \
         WHERE true {replace}"
    )
}

/// Parameters: rows `(resource_id, user_id, voided)`.
static WRITE_VOIDED: LikesSql = LikesSql::new(|d, resource_type| {
    let (table, id) = likes_table(resource_type);
    let columns = [ResourceId("resource_id"), User("user_id"), Time("voided")];
    d.update(
        &table,
        &d.rows("$1", &columns),
        &format!("e.user_id = r.user_id AND e.{id} = r.resource_id"),
        &[("voided_at", "r.voided")],
    )
});

/// The columns of a [`StateRow`], of a row `l` of a read model whose resource is in the column `id`.
pub(super) fn state_columns(d: &Schema, id: &str) -> String {
    let liked = d.number("CASE WHEN l.deleted_at IS NULL THEN 1 ELSE 0 END");
    let (since, voided) = (d.micros("l.created_at"), d.micros("l.voided_at"));
    format!(
        "l.user_id, l.{id} AS resource_id, l.version, {liked} AS liked, {since} AS since, \
         {voided} AS voided"
    )
}

/// A row of a read model.
#[derive(Debug, QueryableByName)]
pub(super) struct StateRow {
    #[diesel(sql_type = AnyId)]
    user_id: Id,
    #[diesel(sql_type = AnyId)]
    resource_id: Id,
    #[diesel(sql_type = BigInt)]
    version: i64,
    #[diesel(sql_type = BigInt)]
    liked: i64,
    #[diesel(sql_type = BigInt)]
    since: i64,
    #[diesel(sql_type = Nullable<BigInt>)]
    voided: Option<i64>,
}

impl StateRow {
    pub(super) fn state(&self, resource_type: ResourceType) -> (Pair, PairState) {
        let pair = Pair {
            resource: Resource {
                resource_type,
                id: self.resource_id.clone(),
            },
            user_id: self.user_id.clone(),
        };
        let state = PairState {
            newest: VersionedState {
                version: Version(self.version),
                liked: self.liked == 1,
            },
            since: Version(self.since),
            voided: self.voided.map(Version),
        };
        (pair, state)
    }
}
