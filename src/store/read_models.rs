//! The read models: the state of each pair, and the like count of each resource. Syncing, repairs and readers share
//! these functions.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use diesel::prelude::QueryableByName;
use diesel::sql_types::{BigInt, Nullable, Text};
use serde::Serialize;

use super::comparisons::folded;
use super::dialect::Column::{self, Number, ResourceId, Time, User, Word};
use super::error::StoreError;
use super::ids::AnyId;
use super::schema::Schema;
use super::schema::likes_table;
use super::session::{LikesSql, Session, Sql};
use super::statement::{Param, Statement, time_text};
use super::text::word;
use crate::domain::{
    Id, LikeCount, Pair, PairState, Resource, ResourceType, Version, VersionedState,
};

/// Reads the counts of these resources.
pub(super) async fn counts<S: Session>(
    session: &mut S,
    resources: &BTreeSet<Resource>,
) -> Result<BTreeMap<Resource, LikeCount>, StoreError> {
    let statement = COUNTS.on(session.schema());
    load_counts(session, statement, resources).await
}

/// Reads the counts of these resources and locks them until the transaction ends. Resources without a count get one.
pub(super) async fn lock_counts<S: Session>(
    session: &mut S,
    resources: &BTreeSet<Resource>,
    now: DateTime<Utc>,
) -> Result<BTreeMap<Resource, LikeCount>, StoreError> {
    // Counts that are not there yet come first, and only then the locks, both in the order of
    // the resources: two workers that meet on several of them wait in one direction.
    let present = counts(session, resources).await?;
    let missing: BTreeSet<Resource> = resources
        .iter()
        .filter(|resource| !present.contains_key(resource))
        .cloned()
        .collect();
    let schema = session.schema();
    if !missing.is_empty() {
        let params = [resource_rows(&missing), Param::time(now)];
        session.execute(INSERT_COUNTS.on(schema), &params).await?;
    }
    if schema.in_process() {
        // The transaction holds the only write lock, so the counts are as they were read.
        let created = missing
            .into_iter()
            .map(|resource| (resource, LikeCount::NEVER));
        return Ok(present.into_iter().chain(created).collect());
    }
    // The lock on a resource's count is what puts the workers that change it in a row, so
    // that each one's fold starts from what the one before has committed.
    load_counts(session, LOCK_COUNTS.on(schema), resources).await
}

async fn load_counts<S: Session>(
    session: &mut S,
    statement: &Statement,
    resources: &BTreeSet<Resource>,
) -> Result<BTreeMap<Resource, LikeCount>, StoreError> {
    let rows: Vec<CountRow> = session.load(statement, &[resource_rows(resources)]).await?;
    rows.iter().map(CountRow::count).collect()
}

/// Adds the changes to the counts, and gives a resource's first count its first revision. Returns the resources whose
/// count has changed.
pub(super) async fn write_counts<S: Session>(
    session: &mut S,
    counts: &mut BTreeMap<Resource, LikeCount>,
    changes: &BTreeMap<Resource, i64>,
    now: DateTime<Utc>,
) -> Result<Vec<Resource>, StoreError> {
    let mut changed = Vec::new();
    let mut write = Vec::new();
    for (resource, change) in changes {
        let count = counts.entry(resource.clone()).or_insert(LikeCount::NEVER);
        if let Some(after) = count.after(*change) {
            *count = after;
            write.push((
                resource.resource_type.as_str(),
                &resource.id,
                count.like_count,
                count.revision,
            ));
        }
        if *change != 0 {
            changed.push(resource.clone());
        }
    }
    if !write.is_empty() {
        let params = [Param::rows(&write), Param::time(now)];
        let statement = WRITE_COUNTS.on(session.schema());
        session.execute(statement, &params).await?;
    }
    Ok(changed)
}

/// Drops those of these counts that were never above zero, and whose resource has no row in a read model: a lock created
/// them.
pub(super) async fn drop_unused_counts<S: Session>(
    session: &mut S,
    resources: &BTreeSet<Resource>,
) -> Result<(), StoreError> {
    for resource_type in session.schema().resource_types().iter() {
        let of_type: BTreeSet<Resource> = resources
            .iter()
            .filter(|resource| resource.resource_type == resource_type)
            .cloned()
            .collect();
        if of_type.is_empty() {
            continue;
        }
        let d = session.schema();
        let unused: Vec<CountRow> = session
            .load(
                UNUSED_COUNTS.on(d, resource_type),
                &[resource_rows(&of_type)],
            )
            .await?;
        let unused: BTreeSet<Resource> = unused
            .iter()
            .map(|row| row.count().map(|(resource, _)| resource))
            .collect::<Result<_, _>>()?;
        if !unused.is_empty() {
            let params = [resource_rows(&unused)];
            session.execute(DELETE_COUNTS.on(d), &params).await?;
        }
    }
    Ok(())
}

/// Counts of zero without a row in the read model. Parameters: rows of [`RESOURCE`].
static UNUSED_COUNTS: LikesSql = LikesSql::new(|d, resource_type| {
    let (table, id) = likes_table(resource_type);
    format!(
        "{} WHERE c.like_count = 0 AND c.revision <= 1 AND NOT EXISTS (SELECT 1 FROM {table} l WHERE l.{id} = c.resource_id)",
        select_counts(d)
    )
});

/// Parameters: rows of [`RESOURCE`].
pub(super) static DELETE_COUNTS: Sql = Sql::new(|d| {
    let key = [
        ("resource_type", "r.resource_type"),
        ("resource_id", "r.resource_id"),
    ];
    d.delete("likewise_like_counts", &d.rows("$1", &RESOURCE), &key)
});

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

/// Writes since when pairs that have a row do not count.
pub(super) async fn write_voided<'a, S: Session>(
    session: &mut S,
    states: impl Iterator<Item = (&'a Pair, &'a PairState)>,
) -> Result<(), StoreError> {
    let row = |pair: &'a Pair, state: &PairState| {
        let voided = state.voided.map(|version| time_text(version.moment()));
        (&pair.resource.id, &pair.user_id, voided)
    };
    write(session, &WRITE_VOIDED, states, row).await.map(drop)
}

/// Executes a statement on the rows of pairs, once for each resource type. Returns the number of rows.
async fn write<'a, S: Session, R: Serialize + Send>(
    session: &mut S,
    sql: &'static LikesSql,
    states: impl Iterator<Item = (&'a Pair, &'a PairState)>,
    row: impl Fn(&'a Pair, &'a PairState) -> R,
) -> Result<usize, StoreError> {
    // In the order of the primary key, which makes many rows cheaper. The locks on the counts prevent deadlocks.
    let mut states: Vec<_> = states.collect();
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

/// The columns of a resource.
pub(super) const RESOURCE: [Column; 2] = [Word("resource_type"), ResourceId("resource_id")];

pub(super) fn resource_rows(resources: &BTreeSet<Resource>) -> Param {
    let rows: Vec<_> = resources
        .iter()
        .map(|resource| (resource.resource_type.as_str(), &resource.id))
        .collect();
    Param::rows(&rows)
}

fn select_counts(d: &Schema) -> String {
    let (rows, join) = (d.rows("$1", &RESOURCE), d.join());
    format!(
        "SELECT c.resource_type, c.resource_id, c.like_count, c.revision FROM {rows} \
         {join} likewise_like_counts c ON c.resource_type = r.resource_type \
         AND c.resource_id = r.resource_id"
    )
}

/// Parameters: rows of [`RESOURCE`].
static COUNTS: Sql = Sql::new(select_counts);

/// Parameters: rows of [`RESOURCE`].
static LOCK_COUNTS: Sql = Sql::new(|d| {
    format!(
        "{} ORDER BY c.resource_type, c.resource_id{}",
        select_counts(d),
        d.for_update("c")
    )
});

/// Parameters: rows of [`RESOURCE`], now.
static INSERT_COUNTS: Sql = Sql::new(|d| {
    let (rows, now) = (d.rows("$1", &RESOURCE), d.time("$2"));
    let keep = d.on_conflict(
        "likewise_like_counts",
        &["resource_type", "resource_id"],
        &[],
    );
    format!(
        "INSERT INTO likewise_like_counts (resource_type, resource_id, like_count, revision, updated_at) \
         SELECT r.resource_type, r.resource_id, 0, 0, {now} FROM {rows} WHERE true {keep}"
    )
});

/// Parameters: rows `(resource_type, resource_id, like_count, revision)`, now.
static WRITE_COUNTS: Sql = Sql::new(|d| {
    let columns = [
        Word("resource_type"),
        ResourceId("resource_id"),
        Number("like_count"),
        Number("revision"),
    ];
    let (rows, now) = (d.rows("$1", &columns), d.time("$2"));
    let set = ["like_count", "revision", "updated_at"].map(|column| (column, d.incoming(column)));
    let replace = d.on_conflict(
        "likewise_like_counts",
        &["resource_type", "resource_id"],
        &set,
    );
    format!(
        "INSERT INTO likewise_like_counts (resource_type, resource_id, like_count, revision, updated_at) \
         SELECT r.resource_type, r.resource_id, r.like_count, r.revision, {now} FROM {rows} \
         WHERE true {replace}"
    )
});

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
    let (table, id) = likes_table(resource_type);
    let columns = [
        ResourceId("resource_id"),
        User("user_id"),
        Number("version"),
        Number("liked"),
        Time("since"),
    ];
    let rows = d.rows("$1", &columns);
    let set = ["created_at", "deleted_at", "version"].map(|column| (column, d.incoming(column)));
    let replace = d.on_conflict(&table, &["user_id", &id], &set);
    format!(
        "INSERT INTO {table} (user_id, {id}, version, created_at, deleted_at) \
         SELECT r.user_id, r.resource_id, r.version, r.since, \
         CASE WHEN r.liked = 1 THEN NULL ELSE r.since END FROM {rows} WHERE true {replace}"
    )
});

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

/// A row of `likewise_like_counts`.
#[derive(Debug, QueryableByName)]
pub(super) struct CountRow {
    #[diesel(sql_type = Text)]
    resource_type: String,
    #[diesel(sql_type = AnyId)]
    resource_id: Id,
    #[diesel(sql_type = BigInt)]
    like_count: i64,
    #[diesel(sql_type = BigInt)]
    revision: i64,
}

impl CountRow {
    pub(super) fn count(&self) -> Result<(Resource, LikeCount), StoreError> {
        let resource = Resource {
            resource_type: word(&self.resource_type, "likewise_like_counts")?,
            id: self.resource_id.clone(),
        };
        let count = LikeCount {
            like_count: self.like_count,
            revision: self.revision,
        };
        Ok((resource, count))
    }
}
