//! Retention: deletes completed ledger rows and superseded behaviors. Called by `admin/prune.rs`.

use chrono::{DateTime, NaiveDateTime, Utc};
use diesel::prelude::QueryableByName;
use diesel::sql_types::{BigInt, Text, Timestamp};
use serde::{Serialize, Serializer};

use super::behavior_counts;
use super::dialect::Column::Word;
use super::error::StoreError;
use super::examined::{examine, last_key};
use super::ids::AnyId;
use super::schema::{COUNTED_BEHAVIORS, Schema};
use super::session::{IdRow, Session, Sql};
use super::statement::Param;
use super::{Sample, Store, read, transact};
use crate::domain::Id;

/// A behavior as it is archived.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, QueryableByName)]
pub struct ArchivedBehavior {
    /// Its place in the table.
    #[diesel(sql_type = BigInt)]
    pub user_behavior_id: i64,
    /// The event's id.
    #[diesel(sql_type = Text)]
    pub event_id: String,
    /// The user.
    #[diesel(sql_type = AnyId)]
    pub user_id: Id,
    /// The type of the resource.
    #[diesel(sql_type = Text)]
    pub resource_type: String,
    /// The resource's id.
    #[diesel(sql_type = AnyId)]
    pub resource_id: Id,
    /// The type of behavior.
    #[diesel(sql_type = Text)]
    pub behavior_type: String,
    /// Its version.
    #[diesel(sql_type = BigInt)]
    pub version: i64,
    /// Its source.
    #[diesel(sql_type = Text)]
    pub source: String,
    /// When it happened, in UTC.
    #[diesel(sql_type = Timestamp)]
    #[serde(serialize_with = "in_utc")]
    pub behavior_time: NaiveDateTime,
    /// When it was recorded, in UTC.
    #[diesel(sql_type = Timestamp)]
    #[serde(serialize_with = "in_utc")]
    pub created_at: NaiveDateTime,
}

/// Serializes a stored time with its time zone.
fn in_utc<S: Serializer>(time: &NaiveDateTime, serializer: S) -> Result<S::Ok, S::Error> {
    time.and_utc().serialize(serializer)
}

/// Some behaviors that can be pruned.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Prunable {
    /// The behaviors.
    pub behaviors: Vec<ArchivedBehavior>,
    /// The last examined row, after which the next call continues; `None` after the last row.
    pub position: Option<i64>,
}

impl Store {
    /// Deletes the oldest completed ledger rows recorded before this time, with their history; `limit` at most.
    /// Returns their number. From then on, behaviors recorded before it, and before now, need no ledger row.
    ///
    /// # Errors
    /// If the database cannot be reached.
    pub async fn prune_ledger(
        &self,
        before: DateTime<Utc>,
        limit: usize,
    ) -> Result<usize, StoreError> {
        transact!(self, |session| prune_ledger(session, before, limit))
    }

    /// Finds behaviors recorded before this time that no read model needs: views, shares and comments, completed
    /// like events older than the newest completed unlike of the same pair, repeats of a like, and superseded
    /// decisions of operators. What stays is the newest unlike and the newest decision of each pair and, if it is
    /// liked, the like that began the run and the newest one. Examines `limit` rows after this position.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn prunable(
        &self,
        before: DateTime<Utc>,
        after: i64,
        limit: usize,
    ) -> Result<Prunable, StoreError> {
        read!(self, self.inspect_timeout(), |session| prunable(
            session, before, after, limit
        ))
    }

    /// Deletes these behaviors with their ledger rows and their history. Counts by behavior keep their number.
    ///
    /// # Errors
    /// If the database cannot be reached.
    pub async fn prune_behaviors(&self, behaviors: &[ArchivedBehavior]) -> Result<(), StoreError> {
        let now = self.now();
        transact!(self, |session| prune_behaviors(session, behaviors, now))
    }
}

async fn prune_ledger<S: Session>(
    session: &mut S,
    before: DateTime<Utc>,
    limit: usize,
) -> Result<usize, StoreError> {
    let schema = session.schema();
    let params = [Param::rows(&[("sync_events",)]), Param::time(before)];
    session.execute(NOTE_PRUNED.on(schema), &params).await?;
    let params = [Param::time(before), Param::limit(limit)];
    let rows: Vec<IdRow> = session.load(PRUNABLE_LEDGER.on(schema), &params).await?;
    if !rows.is_empty() {
        let ids: Vec<_> = rows.iter().map(|row| (&row.id,)).collect();
        let ids = [Param::rows(&ids)];
        session.execute(DELETE_HISTORY.on(schema), &ids).await?;
        session.execute(DELETE_LEDGER.on(schema), &ids).await?;
    }
    Ok(rows.len())
}

async fn prunable<S: Session>(
    session: &mut S,
    before: DateTime<Utc>,
    after: i64,
    limit: usize,
) -> Result<Prunable, StoreError> {
    let schema = session.schema();
    let Some(examined) = examine(session, &LAST_EXAMINED, after, limit).await? else {
        return Ok(Prunable::default());
    };
    let params = [
        Param::Number(after),
        Param::Number(examined.last),
        Param::time(before),
    ];
    Ok(Prunable {
        behaviors: session.load(PRUNABLE_BEHAVIORS.on(schema), &params).await?,
        position: examined.next,
    })
}

async fn prune_behaviors<S: Session>(
    session: &mut S,
    behaviors: &[ArchivedBehavior],
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let schema = session.schema();
    let ids: Vec<_> = behaviors.iter().map(|one| (&one.event_id,)).collect();
    // The counts first, as where behaviors are recorded: two workers that meet on several of them wait in one direction.
    behavior_counts::keep(session, &ids, now).await?;
    let ids = [Param::rows(&ids)];
    for statement in [&DELETE_HISTORY, &DELETE_LEDGER, &DELETE_BEHAVIORS] {
        session.execute(statement.on(schema), &ids).await?;
    }
    Ok(())
}

/// The statement of retention whose cost must not follow the size of the tables: see
/// [`Store::bounded_statements`].
pub(super) fn bounded(d: &'static Schema, sample: &Sample) -> (String, String) {
    let params = [Param::time(sample.place.0), Param::limit(100)];
    let statement = PRUNABLE_LEDGER.on(d).spelled(&params);
    ("prune: ledger".to_owned(), statement)
}

/// Records the time before which a table is pruned. The time never decreases, unless it is in the future: until then,
/// lost rows would not be missed. Parameters: rows `(table)`, the time.
static NOTE_PRUNED: Sql = Sql::new(|d| {
    let (new, now) = (d.time("$2"), d.clock(0));
    let latest = format!(
        "CASE WHEN likewise_retention.pruned_before > {now} THEN {now} \
         WHEN {incoming} > likewise_retention.pruned_before THEN {incoming} \
         ELSE likewise_retention.pruned_before END",
        incoming = d.incoming("pruned_before")
    );
    format!(
        "INSERT INTO likewise_retention (pruned_table, pruned_before) \
         SELECT r.pruned_table, CASE WHEN {new} > {now} THEN {now} ELSE {new} END \
         FROM {} WHERE true {}",
        d.rows("$1", &[Word("pruned_table")]),
        d.on_conflict(
            "likewise_retention",
            &["pruned_table"],
            &[("pruned_before", latest)]
        )
    )
});

/// The oldest completed ledger rows, locked. Parameters: recorded before, the limit.
static PRUNABLE_LEDGER: Sql = Sql::new(|d| {
    format!(
        "SELECT e.id FROM sync_events e WHERE {} AND e.created_at < {} \
         AND e.status = 'completed' ORDER BY e.created_at LIMIT $2{}",
        d.walk_of_completed(),
        d.time("$1"),
        d.skip_locked("e")
    )
});

/// The last row of some rows. Parameters: after which, how many.
pub(super) static LAST_EXAMINED: Sql =
    Sql::new(|d| last_key(d, "user_behaviors", "user_behavior_id"));

/// Behaviors that no read model needs. Completed events supersede; one that is still open may become dead. Of two equal
/// versions neither supersedes the other, so both stay. Parameters: after which, up to which, recorded before.
static PRUNABLE_BEHAVIORS: Sql = Sql::new(|d| {
    let newer = "AND n.version > b.version";
    let newer_unlike = another("n", "'unlike'", newer);
    let newer_like = another("n", "'like'", newer);
    let newer_decision = another("n", "'void', 'restore'", newer);
    // A like of the same run: no unlike follows it.
    let older_of_the_run = another(
        "o",
        "'like'",
        &format!(
            "AND o.version < b.version AND NOT {}",
            another("n", "'unlike'", "AND n.version >= o.version")
        ),
    );
    format!(
        "SELECT b.user_behavior_id, b.event_id, b.user_id, b.resource_type, b.resource_id, \
         b.behavior_type, b.version, b.source, b.behavior_time, b.created_at \
         FROM user_behaviors b LEFT JOIN sync_events e \
         ON e.id = b.event_id WHERE b.user_behavior_id > $1 AND b.user_behavior_id <= $2 \
         AND b.created_at < {} AND ({COUNTED_BEHAVIORS} \
         OR (b.behavior_type IN ('void', 'restore') AND {newer_decision}) \
         OR (b.behavior_type IN ('like', 'unlike') \
         AND COALESCE(e.status, 'completed') = 'completed' AND ({newer_unlike} \
         OR (b.behavior_type = 'like' AND {newer_like} AND {older_of_the_run}))))",
        d.time("$3")
    )
});

/// Whether the pair of the behavior `b` has another completed behavior of these types, under the alias.
fn another(alias: &str, behavior_types: &str, condition: &str) -> String {
    format!(
        "EXISTS (SELECT 1 FROM user_behaviors {alias} \
         LEFT JOIN sync_events {alias}e ON {alias}e.id = {alias}.event_id \
         WHERE {alias}.user_id = b.user_id AND {alias}.resource_type = b.resource_type \
         AND {alias}.resource_id = b.resource_id AND {alias}.behavior_type IN ({behavior_types}) \
         AND COALESCE({alias}e.status, 'completed') = 'completed' {condition})"
    )
}

pub(super) static DELETE_HISTORY: Sql =
    Sql::new(|d| delete(d, "likewise_sync_event_history", "event_id"));

pub(super) static DELETE_LEDGER: Sql = Sql::new(|d| delete(d, "sync_events", "id"));

pub(super) static DELETE_BEHAVIORS: Sql = Sql::new(|d| delete(d, "user_behaviors", "event_id"));

/// Deletes the rows of these events. Parameters: rows `(event_id)`.
fn delete(d: &Schema, table: &str, column: &str) -> String {
    let ids = d.rows("$1", &[Word("event_id")]);
    d.delete(table, &ids, &[(column, "r.event_id")])
}
