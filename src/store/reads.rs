//! Reads of the read models and of the behaviors recorded last: for the cache, and for a process that starts.

use super::error::StoreError;
use super::rows::StateRow;
use super::schema::likes_table;
use super::session::{LikesSql, Param, Session, Sql};
use super::{Store, read};
use crate::domain::{Pair, ResourceType, UserId, Version, VersionedState};

impl Store {
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
        after: (UserId, i64),
        limit: usize,
    ) -> Result<Vec<(Pair, VersionedState)>, StoreError> {
        read!(self, self.timeout, |session| {
            likes_after(session, resource_type, after, limit)
        })
    }
}

async fn newest_version<S: Session>(session: &mut S, limit: usize) -> Result<Version, StoreError> {
    let statement = NEWEST_VERSION.on(session.dialect());
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
    (user_id, resource_id): (UserId, i64),
    limit: usize,
) -> Result<Vec<(Pair, VersionedState)>, StoreError> {
    let params = [
        Param::Number(user_id),
        Param::Number(resource_id),
        Param::limit(limit),
    ];
    let statement = LIKES_AFTER.on(session.dialect(), resource_type);
    let rows: Vec<StateRow> = session.load(statement, &params).await?;
    Ok(rows.iter().map(|row| row.state(resource_type)).collect())
}

/// Pairs in the order of their key. Parameters: the user and the resource after which to begin, the most rows.
static LIKES_AFTER: LikesSql = LikesSql::new(|d, resource_type| {
    let (table, id) = likes_table(resource_type);
    let liked = d.number("CASE WHEN l.deleted_at IS NULL THEN 1 ELSE 0 END");
    format!(
        "SELECT l.user_id, l.{id} AS resource_id, l.version, {liked} AS liked FROM {table} l \
         WHERE l.user_id > $1 OR (l.user_id = $1 AND l.{id} > $2) \
         ORDER BY l.user_id, l.{id} LIMIT $3"
    )
});
