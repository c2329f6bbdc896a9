//! Lists of likes, newest first, and of the most liked resources. Called by `likes/`. The time of a like is that since
//! which its pair is liked: a repeated like keeps its place.
//!
//! A page begins after a position in the order, not after a number of rows: likes that arrive meanwhile do not
//! move the others. Each page is a range of an index, read backwards.

use super::error::StoreError;
use super::like_counts::CountRow;
use super::pair_states::{StateRow, state_columns};
use super::schema::Schema;
use super::schema::likes_table;
use super::session::{LikesSql, Session};
use super::statement::Param;
use super::{Sample, Store, read};
use crate::domain::{Id, IdKind, LikeCount, Pair, Resource, ResourceType, Version};

/// A position in a list of likes: the version of the like that began a run and, between equal versions, the id of the
/// user or resource that the list is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    /// The version since which the pair is liked.
    pub since: Version,
    /// The user or resource.
    pub id: Id,
}

impl Cursor {
    /// Returns the position before every like, in a list of ids of this kind.
    #[must_use]
    pub fn start(kind: IdKind) -> Self {
        Self {
            since: Version(i64::MAX),
            id: kind.after_all(),
        }
    }
}

impl Store {
    /// Returns up to `limit` likes of a resource that follow `after`, newest first.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn likers(
        &self,
        resource: &Resource,
        after: &Cursor,
        limit: usize,
    ) -> Result<Vec<(Pair, Version)>, StoreError> {
        let params = page(&resource.id, after, limit);
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
        user_id: &Id,
        resource_type: ResourceType,
        after: &Cursor,
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
        user_id: &Id,
        resource_type: ResourceType,
        offset: usize,
        limit: usize,
    ) -> Result<Vec<(Pair, Version)>, StoreError> {
        let params = [user_id.into(), Param::limit(limit), Param::limit(offset)];
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
        user_id: &Id,
        resource_type: ResourceType,
    ) -> Result<i64, StoreError> {
        let params = [user_id.into()];
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
        (like_count, id): (i64, &Id),
        limit: usize,
    ) -> Result<Vec<(Resource, LikeCount)>, StoreError> {
        let params = [Param::Number(like_count), id.into(), Param::limit(limit)];
        read!(self, self.timeout, |session| {
            most_liked(session, resource_type, &params)
        })
    }
}

/// The statements of this file, whose cost must not follow the size of the tables: see
/// [`Store::bounded_statements`].
pub(super) fn bounded(d: &'static Schema, sample: &Sample) -> [(String, String); 2] {
    let video = ResourceType::VIDEO;
    let (likers, liked_by) = (LIKERS.on(d, video), LIKED_BY.on(d, video));
    let after = Cursor::start(IdKind::Number);
    let of_resource = page(&sample.numbers.0.into(), &after, 50);
    let of_user = page(&sample.user_id.into(), &after, 50);
    [
        ("lists: likers".to_owned(), likers.spelled(&of_resource)),
        ("lists: likes".to_owned(), liked_by.spelled(&of_user)),
    ]
}

/// The parameters of a page.
fn page(key: &Id, after: &Cursor, limit: usize) -> [Param; 4] {
    let since = after.since.clamp(Version::NEVER, Version::LAST);
    [
        key.into(),
        Param::time(since.moment()),
        (&after.id).into(),
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
        (pair, state.since)
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

/// The current likes `l` of one resource type, voided ones too.
fn current_likes(d: &Schema, resource_type: ResourceType) -> String {
    let (table, id) = likes_table(resource_type);
    format!(
        "SELECT {} FROM {table} l WHERE l.deleted_at IS NULL",
        state_columns(d, &id)
    )
}

/// The users who like a resource, or the resources that a user likes.
enum ListOf {
    Users,
    Resources,
}

/// A page of the likes with this key. The first bound names the range of the index: MySQL does not find it in the
/// comparison of both columns alone.
fn page_of(d: &Schema, resource_type: ResourceType, list: &ListOf) -> String {
    let likes = current_likes(d, resource_type);
    let (_, id) = likes_table(resource_type);
    let since = d.time("$2");
    // Users see their own likes, whether they count or not.
    let (key, wanted, tie, after, shown) = match list {
        ListOf::Users => (
            &*id,
            d.resource("$1"),
            "user_id",
            d.user("$3"),
            " AND l.voided_at IS NULL",
        ),
        ListOf::Resources => ("user_id", d.user("$1"), &*id, d.resource("$3"), ""),
    };
    format!(
        "{likes}{shown} AND l.{key} = {wanted} AND l.created_at <= {since} \
         AND (l.created_at < {since} OR l.{tie} < {after}) \
         ORDER BY l.created_at DESC, l.{tie} DESC LIMIT $4"
    )
}

/// Parameters: the resource, the moment and the user of the cursor, the most rows.
static LIKERS: LikesSql =
    LikesSql::new(|d, resource_type| page_of(d, resource_type, &ListOf::Users));

/// Parameters: the user, the moment and the resource of the cursor, the most rows.
static LIKED_BY: LikesSql =
    LikesSql::new(|d, resource_type| page_of(d, resource_type, &ListOf::Resources));

/// Parameters: the user, the most rows, the number of rows to skip.
static LIKED_BY_FROM: LikesSql = LikesSql::new(|d, resource_type| {
    let (likes, (_, id)) = (current_likes(d, resource_type), likes_table(resource_type));
    let user = d.user("$1");
    format!(
        "{likes} AND l.user_id = {user} ORDER BY l.created_at DESC, l.{id} DESC LIMIT $2 OFFSET $3"
    )
});

/// Parameters: the user.
static LIKED_TOTAL: LikesSql = LikesSql::new(|d, resource_type| {
    let ((table, _), user) = (likes_table(resource_type), d.user("$1"));
    format!(
        "SELECT 'liked' AS label, COUNT(*) AS total FROM {table} l \
         WHERE l.deleted_at IS NULL AND l.user_id = {user}"
    )
});

/// Parameters: the like count and the resource of the cursor, the most rows.
static MOST_LIKED: LikesSql = LikesSql::new(|d, resource_type| {
    let after = d.resource("$2");
    format!(
        "SELECT c.resource_type, c.resource_id, c.like_count, c.revision \
         FROM likewise_like_counts c WHERE c.resource_type = '{resource_type}' \
         AND c.like_count > 0 AND c.like_count <= $1 \
         AND (c.like_count < $1 OR c.resource_id < {after}) \
         ORDER BY c.like_count DESC, c.resource_id DESC LIMIT $3"
    )
});
