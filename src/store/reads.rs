//! Reads of the read models and of the behaviors recorded last: for the cache, and for a process that starts.

use std::collections::{BTreeMap, BTreeSet};

use super::error::StoreError;
use super::like_counts;
use super::pair_row::PairRow;
use super::pair_states::{self, StateRow, state_columns};
use super::schema::likes_table;
use super::session::{LikesSql, Session, Sql};
use super::statement::Param;
use super::{Store, read};
use crate::domain::{
    Id, LikeCount, Pair, PairState, Resource, ResourceType, Version, VersionedState,
};

/// What the database holds of some pairs and their resources. It has nothing of those that are absent here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// The pairs that have a row.
    pub states: BTreeMap<Pair, VersionedState>,
    /// The resources that have a count.
    pub counts: BTreeMap<Resource, LikeCount>,
}

impl Store {
    /// Reads the states of these pairs and the counts of their resources.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn find(&self, pairs: &BTreeSet<Pair>) -> Result<Found, StoreError> {
        let resources = pairs.iter().map(|pair| pair.resource.clone()).collect();
        self.find_with_counts(pairs, &resources).await
    }

    /// Reads the states of these pairs with the time since which they are liked.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn pair_states(
        &self,
        pairs: &BTreeSet<Pair>,
    ) -> Result<BTreeMap<Pair, PairState>, StoreError> {
        let states = read!(self, self.timeout, |session| pair_states::states(
            session, pairs
        ))?;
        Ok(states.into_iter().collect())
    }

    /// Reads the states of these pairs and the counts of these resources.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn find_with_counts(
        &self,
        pairs: &BTreeSet<Pair>,
        resources: &BTreeSet<Resource>,
    ) -> Result<Found, StoreError> {
        read!(self, self.timeout, |session| find(
            session, pairs, resources
        ))
    }

    /// Returns the pairs of the like events that were recorded last, at most `limit` of them: a worker that died
    /// may not have told the cache of them. Pairs of resource types that this process does not serve are left out.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn recent_pairs(&self, limit: usize) -> Result<BTreeSet<Pair>, StoreError> {
        read!(self, self.timeout, |session| recent_pairs(session, limit))
    }

    /// Returns the newest version among the behaviors recorded last, at most `limit` of them.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn newest_version(&self, limit: usize) -> Result<Version, StoreError> {
        read!(self, self.timeout, |session| newest_version(session, limit))
    }

    /// Returns up to `limit` pairs of one resource type, liked or not, in the order of (user, resource), after
    /// this one.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn likes_after(
        &self,
        resource_type: ResourceType,
        after: (&Id, &Id),
        limit: usize,
    ) -> Result<Vec<(Pair, VersionedState)>, StoreError> {
        read!(self, self.timeout, |session| {
            likes_after(session, resource_type, after, limit)
        })
    }
}

pub(super) async fn find<S: Session>(
    session: &mut S,
    pairs: &BTreeSet<Pair>,
    resources: &BTreeSet<Resource>,
) -> Result<Found, StoreError> {
    // The counts first: a commit in between then shows as a state newer than the
    // count, which its settlement puts right, and never as a count without a state.
    let counts = like_counts::counts(session, resources).await?;
    let states = pair_states::states(session, pairs).await?;
    let states = states.into_iter().map(newest).collect();
    Ok(Found { states, counts })
}

/// The part of a stored state that the cache knows.
fn newest((pair, state): (Pair, PairState)) -> (Pair, VersionedState) {
    (pair, state.newest)
}

async fn recent_pairs<S: Session>(
    session: &mut S,
    limit: usize,
) -> Result<BTreeSet<Pair>, StoreError> {
    let statement = RECENT_PAIRS.on(session.schema());
    let rows: Vec<PairRow> = session.load(statement, &[Param::limit(limit)]).await?;
    let served = session.schema().resource_types();
    // A row that cannot be read must not keep the others from being settled.
    let pairs = rows.iter().filter_map(|row| row.pair("sync_events").ok());
    Ok(pairs
        .filter(|pair| served.contains(pair.resource.resource_type))
        .collect())
}

/// The pairs of the last like events, from the ledger: imported events have no row in it, and the import itself settles
/// them. Parameters: the most rows.
static RECENT_PAIRS: Sql = Sql::new(|d| {
    format!(
        "SELECT e.user_id, e.resource_type, e.resource_id FROM sync_events e WHERE {} \
         ORDER BY e.created_at DESC LIMIT $1",
        d.walk_of_completed()
    )
});

async fn newest_version<S: Session>(session: &mut S, limit: usize) -> Result<Version, StoreError> {
    let statement = NEWEST_VERSION.on(session.schema());
    let newest = session.total(statement, &[Param::limit(limit)]).await?;
    Ok(Version(newest))
}

/// The newest version of the last behaviors. Parameters: the most rows.
static NEWEST_VERSION: Sql = Sql::new(|d| {
    format!(
        "SELECT 'newest' AS label, {} AS total FROM (SELECT version FROM user_behaviors \
         ORDER BY user_behavior_id DESC LIMIT $1) AS last",
        d.number("COALESCE(MAX(last.version), 0)")
    )
});

async fn likes_after<S: Session>(
    session: &mut S,
    resource_type: ResourceType,
    (user_id, resource_id): (&Id, &Id),
    limit: usize,
) -> Result<Vec<(Pair, VersionedState)>, StoreError> {
    let params = [user_id.into(), resource_id.into(), Param::limit(limit)];
    let statement = LIKES_AFTER.on(session.schema(), resource_type);
    let rows: Vec<StateRow> = session.load(statement, &params).await?;
    let states = rows.iter().map(|row| newest(row.state(resource_type)));
    Ok(states.collect())
}

/// Pairs in the order of their key. Parameters: the user and the resource after which to begin, the most rows.
static LIKES_AFTER: LikesSql = LikesSql::new(|d, resource_type| {
    let (table, id) = likes_table(resource_type);
    let columns = state_columns(d, &id);
    let (user, resource) = (d.user("$1"), d.resource("$2"));
    format!(
        "SELECT {columns} FROM {table} l \
         WHERE l.user_id > {user} OR (l.user_id = {user} AND l.{id} > {resource}) \
         ORDER BY l.user_id, l.{id} LIMIT $3"
    )
});
