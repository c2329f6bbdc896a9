//! The like count of each resource. Syncing, repairs and readers share these functions.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::{Mutex, PoisonError};

use chrono::{DateTime, Utc};
use diesel::prelude::QueryableByName;
use diesel::sql_types::{BigInt, Text};

use super::dialect::Column::{self, Number, ResourceId, Word};
use super::error::StoreError;
use super::ids::AnyId;
use super::schema::{Schema, likes_table};
use super::session::{LikesSql, Session, Sql};
use super::statement::{Param, Statement};
use super::text::word;
use crate::domain::{Id, LikeCount, Resource};

/// The most resources that [`KnownCounts`] remembers, some ten megabytes.
const MOST_KNOWN: usize = 100_000;

/// Resources whose count this process has found, so that it need not be looked for before it is locked again. Only counts
/// that were committed are found. A count that is gone since is noticed when it is locked.
#[derive(Debug, Default)]
pub(super) struct KnownCounts(Mutex<HashSet<Resource>>);

impl KnownCounts {
    /// Returns those of these resources that it does not know.
    fn lacking(&self, resources: &BTreeSet<Resource>) -> BTreeSet<Resource> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_lacking = |resource: &&Resource| !known.contains(*resource);
        resources.iter().filter(is_lacking).cloned().collect()
    }

    fn add(&self, resources: BTreeSet<Resource>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() + resources.len() > MOST_KNOWN {
            known.clear();
        }
        known.extend(resources.into_iter().take(MOST_KNOWN));
    }
}

/// Like counts, by their resources.
pub(super) type Counts = BTreeMap<Resource, LikeCount>;

/// The counts that a transaction has locked.
#[derive(Debug, Default)]
pub(super) struct LockedCounts {
    /// The counts before the transaction; after [`write_counts`], with its changes.
    pub(super) counts: Counts,
    /// The counts that [`insert_counts`] has inserted, as they are in the table.
    pub(super) inserted: Counts,
}

impl From<Counts> for LockedCounts {
    fn from(counts: Counts) -> Self {
        let inserted = Counts::new();
        Self { counts, inserted }
    }
}

/// Reads the counts of these resources.
pub(super) async fn counts<S: Session>(
    session: &mut S,
    resources: &BTreeSet<Resource>,
) -> Result<Counts, StoreError> {
    let statement = COUNTS.on(session.schema());
    load_counts(session, statement, resources).await
}

/// Reads the counts of these resources and locks them until the transaction ends. Resources without a count get one; on
/// SQLite only where [`write_counts`] writes it.
pub(super) async fn lock_counts<S: Session>(
    session: &mut S,
    resources: &BTreeSet<Resource>,
    now: DateTime<Utc>,
) -> Result<LockedCounts, StoreError> {
    let schema = session.schema();
    if schema.in_process() {
        // The transaction holds the only write lock, so the counts stay as they are read.
        let never = |resource: &Resource| (resource.clone(), LikeCount::NEVER);
        let mut locked: Counts = resources.iter().map(never).collect();
        locked.extend(counts(session, resources).await?);
        return Ok(locked.into());
    }
    // Counts that are not there yet come first, and only then the locks, both in the order of
    // the resources: two workers that meet on several of them wait in one direction.
    let missing = missing(session, resources).await?;
    create(session, &missing, now).await?;
    // The lock on a resource's count is what puts the workers that change it in a row, so
    // that each one's fold starts from what the one before has committed.
    let counts = load_counts(session, LOCK_COUNTS.on(schema), resources).await?;
    Ok(counts.into())
}

/// Like [`lock_counts`], and does not look for the counts that are known to be there.
pub(super) async fn lock_known_counts<S: Session>(
    session: &mut S,
    known: &KnownCounts,
    resources: &BTreeSet<Resource>,
    now: DateTime<Utc>,
) -> Result<LockedCounts, StoreError> {
    let missing = uncounted(session, known, resources).await?;
    create(session, &missing, now).await?;
    lock_present(session, resources, now).await
}

/// Like [`lock_counts`], for counts that are there, as [`uncounted`] has told, or that this transaction has created.
pub(super) async fn lock_present<S: Session>(
    session: &mut S,
    resources: &BTreeSet<Resource>,
    now: DateTime<Utc>,
) -> Result<LockedCounts, StoreError> {
    let schema = session.schema();
    if schema.in_process() {
        return lock_counts(session, resources, now).await;
    }
    let counts = load_counts(session, LOCK_COUNTS.on(schema), resources).await?;
    if counts.len() < resources.len() {
        // A known one is gone. Created now, it may be waited for in the other direction, and then the database ends one of
        // the transactions, which begins again.
        return lock_counts(session, resources, now).await;
    }
    Ok(counts.into())
}

/// Returns those of these resources that have no count, and does not look for the counts that are known to be there. Returns
/// none on SQLite, where a count is inserted only once in any case.
pub(super) async fn uncounted<S: Session>(
    session: &mut S,
    known: &KnownCounts,
    resources: &BTreeSet<Resource>,
) -> Result<BTreeSet<Resource>, StoreError> {
    if session.schema().in_process() {
        return Ok(BTreeSet::new());
    }
    let mut lacking = known.lacking(resources);
    if lacking.is_empty() {
        return Ok(lacking);
    }
    let missing = missing(session, &lacking).await?;
    lacking.retain(|resource| !missing.contains(resource));
    known.add(lacking);
    Ok(missing)
}

/// Inserts the counts of resources that had none, as this transaction makes them, and so locks them until it ends. Call it
/// before other counts are locked: [`lock_counts`] creates missing counts first, too.
///
/// # Errors
/// [`StoreError::Busy`] if another transaction has inserted one of them since: its likes are not in these counts. The next
/// attempt finds that count.
pub(super) async fn insert_counts<S: Session>(
    session: &mut S,
    new: &Counts,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let rows: Vec<_> = new.iter().map(count_row).collect();
    let params = [Param::rows(&rows), Param::time(now)];
    let statement = INSERT_NEW_COUNTS.on(session.schema());
    let inserted = match session.execute(statement, &params).await {
        // MySQL refuses the key. These rows violate no other constraint.
        Err(StoreError::Refused(reason)) => return Err(StoreError::Busy(reason)),
        inserted => inserted?,
    };
    if inserted < new.len() {
        let reason = "another transaction has inserted one of the counts";
        return Err(StoreError::Busy(reason.to_owned()));
    }
    Ok(())
}

/// Creates the counts of these resources, unless another transaction has created them.
async fn create<S: Session>(
    session: &mut S,
    resources: &BTreeSet<Resource>,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    if !resources.is_empty() {
        let params = [resource_rows(resources), Param::time(now)];
        let statement = INSERT_COUNTS.on(session.schema());
        session.execute(statement, &params).await?;
    }
    Ok(())
}

/// Returns those of these resources that have no count.
async fn missing<S: Session>(
    session: &mut S,
    resources: &BTreeSet<Resource>,
) -> Result<BTreeSet<Resource>, StoreError> {
    let present = counts(session, resources).await?;
    let is_missing = |resource: &&Resource| !present.contains_key(*resource);
    Ok(resources.iter().filter(is_missing).cloned().collect())
}

async fn load_counts<S: Session>(
    session: &mut S,
    statement: &Statement,
    resources: &BTreeSet<Resource>,
) -> Result<Counts, StoreError> {
    let rows: Vec<CountRow> = session.load(statement, &[resource_rows(resources)]).await?;
    rows.iter().map(CountRow::count).collect()
}

/// Adds the changes to the counts, and gives a resource's first count its first revision. Writes a count that the
/// transaction has inserted only if the final count differs from the inserted one. Returns the resources whose count has
/// changed.
pub(super) async fn write_counts<S: Session>(
    session: &mut S,
    LockedCounts { counts, inserted }: &mut LockedCounts,
    changes: &BTreeMap<Resource, i64>,
    now: DateTime<Utc>,
) -> Result<Vec<Resource>, StoreError> {
    let mut changed = Vec::new();
    let mut write = Vec::new();
    for (resource, change) in changes {
        let count = counts.entry(resource.clone()).or_insert(LikeCount::NEVER);
        if let Some(after) = count.after(*change) {
            *count = after;
            if inserted.get(resource) != Some(&after) {
                write.push(count_row((resource, &after)));
            }
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
        "{}{}",
        select_counts(d),
        d.for_update_in_order("c", "c.resource_type, c.resource_id")
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

/// A count as a row of [`COUNT`].
type Row<'a> = (&'static str, &'a Id, i64, i64);

fn count_row<'a>((resource, count): (&'a Resource, &LikeCount)) -> Row<'a> {
    (
        resource.resource_type.as_str(),
        &resource.id,
        count.like_count,
        count.revision,
    )
}

/// The columns of a count.
const COUNT: [Column; 4] = [
    Word("resource_type"),
    ResourceId("resource_id"),
    Number("like_count"),
    Number("revision"),
];

/// Parameters: rows of [`COUNT`], now.
static WRITE_COUNTS: Sql = Sql::new(|d| {
    let set = ["like_count", "revision", "updated_at"].map(|column| (column, d.incoming(column)));
    let replace = d.on_conflict(
        "likewise_like_counts",
        &["resource_type", "resource_id"],
        &set,
    );
    insert_rows(d, &replace)
});

/// Parameters: rows of [`COUNT`], now.
static INSERT_NEW_COUNTS: Sql =
    Sql::new(|d| insert_rows(d, &d.on_unexpected("resource_type, resource_id")));

fn insert_rows(d: &Schema, on_conflict: &str) -> String {
    let (rows, now) = (d.rows("$1", &COUNT), d.time("$2"));
    format!(
        "INSERT INTO likewise_like_counts (resource_type, resource_id, like_count, revision, updated_at) \
         SELECT r.resource_type, r.resource_id, r.like_count, r.revision, {now} FROM {rows} \
         WHERE true {on_conflict}"
    )
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
