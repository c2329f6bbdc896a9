//! Lists of likes, newest first, and of the most liked resources. Called by `likes/`.
//!
//! A page begins after a position in the order, not after a number of rows: likes that arrive meanwhile do not
//! move the others. Each page is a range of an index, read backwards.

use super::error::StoreError;
use super::read_models::{CountRow, StateRow};
use super::schema::Schema;
use super::schema::likes_table;
use super::session::{LikesSql, Param, Session};
use super::{Store, read};
use crate::domain::{LikeCount, Pair, Resource, ResourceType, UserId, Version};

/// A position in a list of likes: the version of a like and, between equal versions, the id of the user or
/// resource that the list is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    /// The version.
    pub version: Version,
    /// The user or resource.
    pub id: i64,
}

impl Cursor {
    /// Before every like.
    pub const START: Self = Self {
        version: Version(i64::MAX),
        id: i64::MAX,
    };
}

impl Store {
    /// Returns up to `limit` likes of a resource that follow `after`, newest first.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn likers(
        &self,
        resource: Resource,
        after: Cursor,
        limit: usize,
    ) -> Result<Vec<(Pair, Version)>, StoreError> {
        let params = page(resource.id, after, limit);
        read!(self, self.timeout, |session| {
            likes(session, &LIKERS, resource.resource_type, &params)
        })
    }

    /// Returns up to `limit` likes of a user, of one resource type, that follow `after`, newest first.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn liked_by(
        &self,
        user_id: UserId,
        resource_type: ResourceType,
        after: Cursor,
        limit: usize,
    ) -> Result<Vec<(Pair, Version)>, StoreError> {
        let params = page(user_id, after, limit);
        read!(self, self.timeout, |session| {
            likes(session, &LIKED_BY, resource_type, &params)
        })
    }

    /// Returns up to `limit` likes of a user, of one resource type, after the first `offset`, newest first.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn liked_by_from(
        &self,
        user_id: UserId,
        resource_type: ResourceType,
        offset: usize,
        limit: usize,
    ) -> Result<Vec<(Pair, Version)>, StoreError> {
        let params = [
            Param::Number(user_id),
            Param::limit(limit),
            Param::limit(offset),
        ];
        read!(self, self.timeout, |session| {
            likes(session, &LIKED_BY_FROM, resource_type, &params)
        })
    }

    /// Returns the number of resources of one type that a user likes.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn liked_total(
        &self,
        user_id: UserId,
        resource_type: ResourceType,
    ) -> Result<i64, StoreError> {
        let params = [Param::Number(user_id)];
        read!(self, self.timeout, |session| session.total(
            LIKED_TOTAL.on(session.schema(), resource_type),
            &params
        ))
    }

    /// Returns up to `limit` liked resources of one type that follow a like count and, between equal counts, an
    /// id; those with most likes first.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn most_liked(
        &self,
        resource_type: ResourceType,
        (like_count, id): (i64, i64),
        limit: usize,
    ) -> Result<Vec<(Resource, LikeCount)>, StoreError> {
        let params = [
            Param::Number(like_count),
            Param::Number(id),
            Param::limit(limit),
        ];
        read!(self, self.timeout, |session| {
            most_liked(session, resource_type, &params)
        })
    }
}

/// The parameters of a page.
fn page(key: i64, after: Cursor, limit: usize) -> [Param; 4] {
    [
        Param::Number(key),
        Param::Number(after.version.0),
        Param::Number(after.id),
        Param::limit(limit),
    ]
}

async fn likes<S: Session>(
    session: &mut S,
    sql: &'static LikesSql,
    resource_type: ResourceType,
    params: &[Param],
) -> Result<Vec<(Pair, Version)>, StoreError> {
    let statement = sql.on(session.schema(), resource_type);
    let rows: Vec<StateRow> = session.load(statement, params).await?;
    let like = |row: &StateRow| {
        let (pair, state) = row.state(resource_type);
        (pair, state.version)
    };
    Ok(rows.iter().map(like).collect())
}

async fn most_liked<S: Session>(
    session: &mut S,
    resource_type: ResourceType,
    params: &[Param],
) -> Result<Vec<(Resource, LikeCount)>, StoreError> {
    let statement = MOST_LIKED.on(session.schema(), resource_type);
    let rows: Vec<CountRow> = session.load(statement, params).await?;
    rows.iter().map(CountRow::count).collect()
}

/// The current likes `l` of one resource type.
fn current_likes(d: &Schema, resource_type: ResourceType) -> String {
    let (table, id) = likes_table(resource_type);
    format!(
        "SELECT l.user_id, l.{id} AS resource_id, l.version, {} AS liked FROM {table} l \
         WHERE l.deleted_at IS NULL",
        d.number("1")
    )
}

/// A page of the likes with this key. The first bound names the range of the index: MySQL does not find it in the
/// comparison of both columns alone.
fn page_of(d: &Schema, resource_type: ResourceType, key: &str, tie: &str) -> String {
    let likes = current_likes(d, resource_type);
    format!(
        "{likes} AND l.{key} = $1 AND l.version <= $2 \
         AND (l.version < $2 OR l.{tie} < $3) \
         ORDER BY l.version DESC, l.{tie} DESC LIMIT $4"
    )
}

/// Parameters: the resource, the version and the user of the cursor, the most rows.
static LIKERS: LikesSql = LikesSql::new(|d, resource_type| {
    page_of(d, resource_type, &likes_table(resource_type).1, "user_id")
});

/// Parameters: the user, the version and the resource of the cursor, the most rows.
static LIKED_BY: LikesSql = LikesSql::new(|d, resource_type| {
    page_of(d, resource_type, "user_id", &likes_table(resource_type).1)
});

/// Parameters: the user, the most rows, the number of rows to skip.
static LIKED_BY_FROM: LikesSql = LikesSql::new(|d, resource_type| {
    let (likes, (_, id)) = (current_likes(d, resource_type), likes_table(resource_type));
    format!("{likes} AND l.user_id = $1 ORDER BY l.version DESC, l.{id} DESC LIMIT $2 OFFSET $3")
});

/// Parameters: the user.
static LIKED_TOTAL: LikesSql = LikesSql::new(|_, resource_type| {
    let (table, _) = likes_table(resource_type);
    format!(
        "SELECT 'liked' AS label, COUNT(*) AS total FROM {table} l \
         WHERE l.deleted_at IS NULL AND l.user_id = $1"
    )
});

/// Parameters: the like count and the resource of the cursor, the most rows.
static MOST_LIKED: LikesSql = LikesSql::new(|_, resource_type| {
    format!(
        "SELECT c.resource_type, c.resource_id, c.like_count, c.revision \
         FROM likewise_like_counts c WHERE c.resource_type = '{resource_type}' \
         AND c.like_count > 0 AND c.like_count <= $1 \
         AND (c.like_count < $1 OR c.resource_id < $2) \
         ORDER BY c.like_count DESC, c.resource_id DESC LIMIT $3"
    )
});
