//! Counts by behavior: how many views, shares and comments each resource has. `record.rs` adds new behaviors,
//! `retention.rs` keeps the number of those that it deletes, `erase.rs` subtracts it, `repair.rs` counts again, and `likes/`
//! reads.
//!
//! A count changes in the transaction that changes `user_behaviors`, after its row is locked. So the rows of a count's
//! behaviors change one transaction after the other, and each sees what the one before has committed.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use diesel::prelude::QueryableByName;
use diesel::sql_types::{BigInt, Text};
use serde::Serialize;

use super::dialect::Column::{self, Number, ResourceId, Word};
use super::error::StoreError;
use super::ids::AnyId;
use super::like_counts::{RESOURCE, resource_rows};
use super::schema::{COUNTED_BEHAVIORS, Schema};
use super::session::{Session, Sql};
use super::statement::Param;
use super::{Store, read};
use crate::domain::{BehaviorCounts, BehaviorEvent, BehaviorType, Id, Resource};

impl Store {
    /// Reads the counts by behavior of these resources. A resource that is absent here has none.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn behavior_counts(
        &self,
        resources: &BTreeSet<Resource>,
    ) -> Result<BTreeMap<Resource, BehaviorCounts>, StoreError> {
        read!(self, self.timeout, |session| counts(session, resources))
    }
}

async fn counts<S: Session>(
    session: &mut S,
    resources: &BTreeSet<Resource>,
) -> Result<BTreeMap<Resource, BehaviorCounts>, StoreError> {
    let params = [resource_rows(resources)];
    let rows: Vec<TotalRow> = session.load(COUNTS.on(session.schema()), &params).await?;
    let mut counts: BTreeMap<Resource, BehaviorCounts> = BTreeMap::new();
    for row in rows {
        // A later version may count behaviors that this one does not know.
        if let (Ok(resource_type), Ok(behavior)) = (row.resource_type.parse(), row.behavior.parse())
        {
            let id = row.resource_id;
            let of_resource = counts.entry(Resource { resource_type, id }).or_default();
            of_resource.set(behavior, row.total);
        }
    }
    Ok(counts)
}

/// Identifies a count: the type and the id of the resource, and the behavior.
pub(super) type Key<'a> = (&'a str, &'a Id, &'a str);

/// Returns the count of an event's behavior.
pub(super) fn key(event: &BehaviorEvent) -> Key<'_> {
    (
        event.resource.resource_type.as_str(),
        &event.resource.id,
        event.behavior.as_str(),
    )
}

/// Locks these counts until the transaction ends, in the order of their keys. Creates missing ones.
pub(super) async fn lock<S: Session>(
    session: &mut S,
    keys: &BTreeSet<Key<'_>>,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let rows: Vec<_> = keys.iter().collect();
    let params = [Param::rows(&rows), Param::time(now)];
    session.execute(LOCK.on(session.schema()), &params).await?;
    Ok(())
}

/// Adds new behaviors to counts that are locked.
pub(super) async fn add<S: Session>(
    session: &mut S,
    added: &BTreeMap<Key<'_>, i64>,
) -> Result<(), StoreError> {
    let added: Vec<_> = added.iter().map(|(key, added)| row(*key, *added)).collect();
    change(session, &ADD, &added).await
}

/// Keeps the number of these events, which the transaction deletes next: the counts stay as they are. Takes rows
/// `(event_id)`.
pub(super) async fn keep<S: Session>(
    session: &mut S,
    event_ids: &[impl Serialize + Sync],
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    for_present(session, event_ids, now, &KEEP).await
}

/// Subtracts these events, which the transaction deletes next, from their counts. Takes rows `(event_id)`.
pub(super) async fn subtract<S: Session>(
    session: &mut S,
    event_ids: &[impl Serialize + Sync],
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    for_present(session, event_ids, now, &SUBTRACT).await
}

/// Changes the counts of those of these events that are there, under a lock, by their number.
async fn for_present<S: Session>(
    session: &mut S,
    event_ids: &[impl Serialize + Sync],
    now: DateTime<Utc>,
    statement: &'static Sql,
) -> Result<(), StoreError> {
    let params = [Param::rows(event_ids)];
    let d = session.schema();
    let found: Vec<TotalRow> = session.load(PRESENT.on(d), &params).await?;
    if found.is_empty() {
        return Ok(());
    }
    let keys: BTreeSet<_> = found.iter().map(TotalRow::key).collect();
    lock(session, &keys, now).await?;
    // Another process may have deleted some of them meanwhile.
    let present: Vec<TotalRow> = session.load(PRESENT.on(d), &params).await?;
    let present: Vec<_> = present
        .iter()
        .map(|one| row(one.key(), one.total))
        .collect();
    change(session, statement, &present).await?;
    drop_unused(session, &keys).await
}

/// Deletes the counts of a resource. Returns their number.
pub(super) async fn delete<S: Session>(
    session: &mut S,
    resource: &Resource,
) -> Result<usize, StoreError> {
    let params = [resource_rows(&BTreeSet::from([resource.clone()]))];
    session.execute(DELETE.on(session.schema()), &params).await
}

/// Deletes those of these counts that count nothing: a lock created them, or their last behavior was erased.
async fn drop_unused<S: Session>(
    session: &mut S,
    keys: &BTreeSet<Key<'_>>,
) -> Result<(), StoreError> {
    let rows: Vec<_> = keys.iter().collect();
    let params = [Param::rows(&rows)];
    session
        .execute(DELETE_UNUSED.on(session.schema()), &params)
        .await?;
    Ok(())
}

/// Counts the behaviors of these resources again. Returns the number of counts that were wrong.
pub(super) async fn recount<S: Session>(
    session: &mut S,
    resources: &BTreeSet<Resource>,
    now: DateTime<Utc>,
) -> Result<usize, StoreError> {
    if resources.is_empty() {
        return Ok(0);
    }
    let counted = || {
        let all = BehaviorType::ALL.into_iter();
        all.filter(|behavior| behavior.action().is_none())
    };
    let keys = resources.iter().flat_map(|resource| {
        let of_type = |behavior: BehaviorType| {
            let resource_type = resource.resource_type.as_str();
            (resource_type, &resource.id, behavior.as_str())
        };
        counted().map(of_type)
    });
    let keys = keys.collect();
    lock(session, &keys, now).await?;
    let d = session.schema();
    let params = [resource_rows(resources)];
    let stored: Vec<StoredRow> = session.load(STORED.on(d), &params).await?;
    let recorded: Vec<TotalRow> = session.load(RECORDED.on(d), &params).await?;
    let mut expected: BTreeMap<Key<'_>, i64> = stored
        .iter()
        .map(|row| (row.count.key(), row.pruned_count))
        .collect();
    for row in &recorded {
        *expected.entry(row.key()).or_default() += row.total;
    }
    for row in &stored {
        if expected.get(&row.count.key()) == Some(&row.count.total) {
            expected.remove(&row.count.key());
        }
    }
    if expected.is_empty() {
        return Ok(0);
    }
    let wrong: Vec<_> = expected
        .iter()
        .map(|(key, total)| row(*key, *total))
        .collect();
    let params = [Param::rows(&wrong), Param::time(now)];
    session.execute(WRITE.on(d), &params).await?;
    Ok(wrong.len())
}

fn row<'a>((resource_type, resource_id, behavior): Key<'a>, number: i64) -> CountedRow<'a> {
    (resource_type, resource_id, behavior, number)
}

/// A count's key and a number, as a row of [`COUNTED`].
type CountedRow<'a> = (&'a str, &'a Id, &'a str, i64);

async fn change<S: Session>(
    session: &mut S,
    statement: &'static Sql,
    rows: &[CountedRow<'_>],
) -> Result<(), StoreError> {
    if !rows.is_empty() {
        let statement = statement.on(session.schema());
        session.execute(statement, &[Param::rows(rows)]).await?;
    }
    Ok(())
}

/// The number of behaviors of one type of a resource.
#[derive(Debug, QueryableByName)]
struct TotalRow {
    #[diesel(sql_type = Text)]
    resource_type: String,
    #[diesel(sql_type = AnyId)]
    resource_id: Id,
    #[diesel(sql_type = Text, column_name = behavior_type)]
    behavior: String,
    #[diesel(sql_type = BigInt)]
    total: i64,
}

impl TotalRow {
    fn key(&self) -> Key<'_> {
        (&self.resource_type, &self.resource_id, &self.behavior)
    }
}

/// A row of `likewise_behavior_counts`.
#[derive(Debug, QueryableByName)]
struct StoredRow {
    #[diesel(embed)]
    count: TotalRow,
    #[diesel(sql_type = BigInt)]
    pruned_count: i64,
}

/// The columns of a key.
const KEY: [Column; 3] = [
    Word("resource_type"),
    ResourceId("resource_id"),
    Word("behavior_type"),
];

/// The columns of a key and a number.
const COUNTED: [Column; 4] = [KEY[0], KEY[1], KEY[2], Number("number")];

/// The names of the columns of [`KEY`].
const NAMES: [&str; 3] = ["resource_type", "resource_id", "behavior_type"];

/// Matches the count `e` of a row of [`KEY`].
const OF_KEY: &str = "e.resource_type = r.resource_type AND e.resource_id = r.resource_id \
    AND e.behavior_type = r.behavior_type";

/// Parameters: rows of [`RESOURCE`].
static COUNTS: Sql = Sql::new(|d| select_counts(d, ""));

/// Parameters: rows of [`RESOURCE`].
static STORED: Sql = Sql::new(|d| select_counts(d, ", c.pruned_count"));

fn select_counts(d: &Schema, column: &str) -> String {
    let (rows, join) = (d.rows("$1", &RESOURCE), d.join());
    format!(
        "SELECT c.resource_type, c.resource_id, c.behavior_type, c.behavior_count AS total{column} \
         FROM {rows} {join} likewise_behavior_counts c ON c.resource_type = r.resource_type \
         AND c.resource_id = r.resource_id"
    )
}

/// Writes the time into the rows, which locks them, in the order of the batch. Parameters: rows of [`KEY`], now.
static LOCK: Sql = Sql::new(|d| upsert(d, &KEY, "0", &["updated_at"]));

/// Parameters: rows of [`COUNTED`], now.
static WRITE: Sql =
    Sql::new(|d| upsert(d, &COUNTED, "r.number", &["behavior_count", "updated_at"]));

/// Inserts counts, or writes these columns of the existing ones.
fn upsert(d: &Schema, columns: &[Column], count: &str, written: &[&str]) -> String {
    let set: Vec<_> = written
        .iter()
        .map(|column| (*column, d.incoming(column)))
        .collect();
    format!(
        "INSERT INTO likewise_behavior_counts (resource_type, resource_id, behavior_type, \
         behavior_count, pruned_count, updated_at) SELECT r.resource_type, r.resource_id, \
         r.behavior_type, {count}, 0, {} FROM {} WHERE true {}",
        d.time("$2"),
        d.rows("$1", columns),
        d.on_conflict("likewise_behavior_counts", &NAMES, &set)
    )
}

/// Parameters: rows of [`COUNTED`].
static ADD: Sql = Sql::new(|d| set(d, "behavior_count", "e.behavior_count + r.number"));

/// Parameters: rows of [`COUNTED`].
static SUBTRACT: Sql = Sql::new(|d| set(d, "behavior_count", "e.behavior_count - r.number"));

/// Parameters: rows of [`COUNTED`].
static KEEP: Sql = Sql::new(|d| set(d, "pruned_count", "e.pruned_count + r.number"));

/// Sets a column of the counts of a batch of [`COUNTED`].
fn set(d: &Schema, column: &str, value: &str) -> String {
    let rows = d.rows("$1", &COUNTED);
    d.update(
        "likewise_behavior_counts",
        &rows,
        OF_KEY,
        &[(column, value)],
    )
}

/// Parameters: rows of [`RESOURCE`].
static DELETE: Sql = Sql::new(|d| {
    let key = [
        ("resource_type", "r.resource_type"),
        ("resource_id", "r.resource_id"),
    ];
    d.delete("likewise_behavior_counts", &d.rows("$1", &RESOURCE), &key)
});

/// Parameters: rows of [`KEY`].
static DELETE_UNUSED: Sql = Sql::new(|d| {
    let key = [
        ("resource_type", "r.resource_type"),
        ("resource_id", "r.resource_id"),
        ("behavior_type", "r.behavior_type"),
        ("behavior_count", "0"),
        ("pruned_count", "0"),
    ];
    d.delete("likewise_behavior_counts", &d.rows("$1", &KEY), &key)
});

/// The number of those of these events that are counted and still there. Parameters: rows `(event_id)`.
static PRESENT: Sql = Sql::new(|d| {
    let (ids, join) = (d.rows("$1", &[Word("event_id")]), d.join());
    format!(
        "SELECT b.resource_type, b.resource_id, b.behavior_type, COUNT(*) AS total FROM {ids} \
         {join} user_behaviors b ON b.event_id = r.event_id WHERE {COUNTED_BEHAVIORS} \
         GROUP BY b.resource_type, b.resource_id, b.behavior_type"
    )
});

/// The number of recorded behaviors of these resources. Parameters: rows of [`RESOURCE`].
static RECORDED: Sql = Sql::new(|d| {
    let (rows, join, id) = (d.rows("$1", &RESOURCE), d.join(), d.counted_resource());
    format!(
        "SELECT b.resource_type, {id} AS resource_id, b.behavior_type, COUNT(*) AS total FROM {rows} \
         {join} user_behaviors b ON b.resource_type = r.resource_type AND {id} = r.resource_id \
         WHERE {COUNTED_BEHAVIORS} GROUP BY b.resource_type, {id}, b.behavior_type"
    )
});
