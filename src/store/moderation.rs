//! Decisions of operators about the likes of a user: voided likes do not count, until they are restored. The jobs of
//! `admin/moderation.rs` call it.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::dialect::Column::{ResourceId, User, Word};
use super::error::StoreError;
use super::like_counts::{lock_counts, write_counts};
use super::pair_states::{PAIR, StateRow, state_columns, states, write_voided};
use super::schema::{Schema, likes_table};
use super::session::{LikesSql, Session, Sql};
use super::statement::Param;
use super::text::id_text;
use super::{Settled, Store, history, read, transact};
use crate::domain::{
    Id, Moderation, Pair, PairState, Resource, ResourceType, Source, Step, Version,
};

/// The likes of a user that a decision is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LikesOf {
    /// The user.
    pub user_id: Id,
    /// Only likes of this type.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource_type: Option<ResourceType>,
    /// Only likes of this time or later.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub liked_after: Option<DateTime<Utc>>,
    /// Only likes before this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub liked_before: Option<DateTime<Utc>>,
}

impl LikesOf {
    /// Returns whether it has likes of this type.
    #[must_use]
    pub fn covers(&self, resource_type: ResourceType) -> bool {
        self.resource_type.is_none_or(|only| only == resource_type)
    }

    /// Returns whether a decision changes this pair.
    fn changes(&self, moderation: Moderation, state: &PairState) -> bool {
        let at = state.since.moment();
        let changes = match moderation {
            Moderation::Void => state.weight() > 0,
            Moderation::Restore => state.voided.is_some(),
        };
        changes
            && self.liked_after.is_none_or(|after| at >= after)
            && self.liked_before.is_none_or(|before| at < before)
    }

    /// Returns the user and the times as parameters.
    fn params(&self) -> [Param; 3] {
        let after = self.liked_after.unwrap_or_default();
        let before = self.liked_before.unwrap_or_else(|| Version::LAST.moment());
        [
            (&self.user_id).into(),
            Param::time(after),
            Param::time(before),
        ]
    }
}

/// A decision, for the record.
#[derive(Debug, Clone, Copy)]
pub struct Decision<'a> {
    /// What is decided.
    pub moderation: Moderation,
    /// The likes.
    pub likes: &'a LikesOf,
    /// Why.
    pub reason: &'a str,
    /// Who decides.
    pub operator: &'a str,
}

/// The outcome of one step of a decision.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Moderated {
    /// The number of likes that the step changed.
    pub changed: usize,
    /// The counts of all resources that the step passed, for the cache. It has no states: they do not change.
    pub settled: Settled,
    /// The last resource that the step passed; `None` after the last like.
    pub position: Option<Id>,
}

impl Store {
    /// Counts the likes of each type that a decision would change.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn count_moderated(
        &self,
        moderation: Moderation,
        likes: &LikesOf,
    ) -> Result<BTreeMap<ResourceType, i64>, StoreError> {
        read!(self, self.inspect_timeout(), |session| count(
            session, moderation, likes
        ))
    }

    /// Records a decision about the likes of one type, for up to `limit` resources after this one, and changes read
    /// models and counts, in one transaction. Likes that are as decided stay as they are.
    ///
    /// # Errors
    /// If the database cannot be reached.
    pub async fn moderate(
        &self,
        decision: Decision<'_>,
        resource_type: ResourceType,
        after: &Id,
        limit: usize,
    ) -> Result<Moderated, StoreError> {
        let now = self.now();
        transact!(self, |session| moderate(
            session,
            decision,
            (resource_type, after),
            limit,
            now
        ))
    }
}

async fn count<S: Session>(
    session: &mut S,
    moderation: Moderation,
    likes: &LikesOf,
) -> Result<BTreeMap<ResourceType, i64>, StoreError> {
    let sql = match moderation {
        Moderation::Void => &COUNTED_LIKES,
        Moderation::Restore => &VOIDED_LIKES,
    };
    let mut counted = BTreeMap::new();
    for resource_type in session.schema().resource_types().iter() {
        if likes.covers(resource_type) {
            let statement = sql.on(session.schema(), resource_type);
            let total = session.total(statement, &likes.params()).await?;
            counted.insert(resource_type, total);
        }
    }
    Ok(counted)
}

async fn moderate<S: Session>(
    session: &mut S,
    decision: Decision<'_>,
    (resource_type, after): (ResourceType, &Id),
    limit: usize,
    now: DateTime<Utc>,
) -> Result<Moderated, StoreError> {
    let params = [
        (&decision.likes.user_id).into(),
        after.into(),
        Param::limit(limit),
    ];
    let statement = LIKES_AFTER.on(session.schema(), resource_type);
    let rows: Vec<StateRow> = session.load(statement, &params).await?;
    let pairs: Vec<Pair> = rows.iter().map(|row| row.state(resource_type).0).collect();
    let last = pairs.last().map(|pair| pair.resource.id.clone());
    let position = last.filter(|_| pairs.len() == limit);
    if pairs.is_empty() {
        return Ok(Moderated::default());
    }
    let pairs: BTreeSet<Pair> = pairs.into_iter().collect();
    // The locks on the counts put this transaction and the workers that sync these pairs in a row.
    let resources: BTreeSet<Resource> = pairs.iter().map(|pair| pair.resource.clone()).collect();
    let mut locked = lock_counts(session, &resources, now).await?;
    let mut states = states(session, &pairs).await?;
    states.retain(|(_, state)| decision.likes.changes(decision.moderation, state));

    let version = next_version(session, resource_type, &states, now).await?;
    let voided = (decision.moderation == Moderation::Void).then_some(version);
    let mut changes: BTreeMap<Resource, i64> = BTreeMap::new();
    for (pair, state) in &mut states {
        let before = state.weight();
        state.voided = voided;
        *changes.entry(pair.resource.clone()).or_default() += state.weight() - before;
    }
    record(session, decision, &states, version, now).await?;
    write_voided(session, states.iter().map(|(pair, state)| (pair, state))).await?;
    let announced = write_counts(session, &mut locked, &changes, now).await?;
    Ok(Moderated {
        changed: states.len(),
        settled: Settled {
            states: BTreeMap::new(),
            counts: locked.counts,
            changed: announced,
        },
        position,
    })
}

/// Returns a version above those of earlier decisions about these pairs.
async fn next_version<S: Session>(
    session: &mut S,
    resource_type: ResourceType,
    pairs: &[(Pair, PairState)],
    now: DateTime<Utc>,
) -> Result<Version, StoreError> {
    let rows: Vec<_> = pairs
        .iter()
        .map(|(pair, _)| (&pair.resource.id, &pair.user_id))
        .collect();
    let statement = NEWEST_DECISION.on(session.schema(), resource_type);
    let newest = session.total(statement, &[Param::rows(&rows)]).await?;
    Ok(Version::at(now).max(Version(newest + 1)))
}

/// Appends the decision about these pairs to the log, and who took it to the history.
async fn record<S: Session>(
    session: &mut S,
    decision: Decision<'_>,
    pairs: &[(Pair, PairState)],
    version: Version,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    if pairs.is_empty() {
        return Ok(());
    }
    let rows: Vec<_> = pairs
        .iter()
        .map(|(pair, _)| {
            let (id, resource) = (id_text(Uuid::now_v7()), &pair.resource);
            let resource_type = resource.resource_type.as_str();
            (id, &pair.user_id, resource_type, &resource.id)
        })
        .collect();
    let params = [
        Param::rows(&rows),
        Param::Text(decision.moderation.as_str().to_owned()),
        Param::Number(version.0),
        Param::time(version.moment()),
        Param::time(now),
    ];
    let statement = INSERT_DECISIONS.on(session.schema());
    session.execute(statement, &params).await?;
    let step = match decision.moderation {
        Moderation::Void => Step::Voided,
        Moderation::Restore => Step::Unvoided,
    };
    let (reason, operator) = (Some(decision.reason), Some(decision.operator));
    let entries: Vec<_> = rows
        .into_iter()
        .map(|(id, ..)| (id, step, 0, 0, reason, operator))
        .collect();
    history::append(session, &entries, now).await
}

/// The pairs of a user, in the order of their key. Parameters: the user, the resource after which to begin, the most
/// rows.
static LIKES_AFTER: LikesSql = LikesSql::new(|d, resource_type| {
    let (table, id) = likes_table(resource_type);
    let (user, after) = (d.user("$1"), d.resource("$2"));
    format!(
        "SELECT {} FROM {table} l WHERE l.user_id = {user} AND l.{id} > {after} \
         ORDER BY l.{id} LIMIT $3",
        state_columns(d, &id)
    )
});

/// The number of likes of a user that count. Parameters: the user, of this time or later, before.
static COUNTED_LIKES: LikesSql = LikesSql::new(|d, resource_type| {
    let counted = "l.deleted_at IS NULL AND l.voided_at IS NULL";
    likes_between(d, resource_type, counted)
});

/// The number of pairs of a user that are voided. Parameters: the user, of this time or later, before.
static VOIDED_LIKES: LikesSql =
    LikesSql::new(|d, resource_type| likes_between(d, resource_type, "l.voided_at IS NOT NULL"));

fn likes_between(d: &Schema, resource_type: ResourceType, condition: &str) -> String {
    let (table, _) = likes_table(resource_type);
    let (user, after, before) = (d.user("$1"), d.time("$2"), d.time("$3"));
    format!(
        "SELECT 'likes' AS label, COUNT(*) AS total FROM {table} l WHERE l.user_id = {user} \
         AND {condition} AND l.created_at >= {after} AND l.created_at < {before}"
    )
}

/// The newest version of decisions about pairs. Parameters: rows of [`PAIR`].
static NEWEST_DECISION: LikesSql = LikesSql::new(|d, resource_type| {
    format!(
        "SELECT 'newest' AS label, {} AS total FROM {} {} user_behaviors b \
         ON b.user_id = r.user_id AND b.resource_type = '{resource_type}' \
         AND b.resource_id = r.resource_id WHERE b.behavior_type IN ('void', 'restore')",
        d.number("COALESCE(MAX(b.version), 0)"),
        d.rows("$1", &PAIR),
        d.join()
    )
});

/// Parameters: rows `(event_id, user_id, resource_type, resource_id)`, the decision, the version, its moment, now.
static INSERT_DECISIONS: Sql = Sql::new(|d| {
    let columns = [
        Word("event_id"),
        User("user_id"),
        Word("resource_type"),
        ResourceId("resource_id"),
    ];
    let (rows, at, now) = (d.rows("$1", &columns), d.time("$4"), d.time("$5"));
    format!(
        "INSERT INTO user_behaviors (event_id, user_id, resource_type, resource_id, \
         behavior_type, version, source, behavior_time, created_at) \
         SELECT r.event_id, r.user_id, r.resource_type, r.resource_id, $2, $3, '{}', \
         {at}, {now} FROM {rows}",
        Source::ADMIN
    )
});
