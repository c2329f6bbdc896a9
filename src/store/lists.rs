//! Lists of likes, newest first, and of the resources that have most of them; a part of
//! [`Store`](super::Store).
//!
//! A page begins after a place in the order, not after a number of rows: what arrives meanwhile moves nothing
//! that has not changed itself.

use super::StoreFuture;
use crate::domain::{LikeCount, Pair, Resource, ResourceType, UserId, Version};

/// A place in a list of likes: the version of a like and, between equal ones, the id of what the list is
/// made of. The page holds what is below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    /// The version.
    pub version: Version,
    /// The user or resource.
    pub id: i64,
}

impl Cursor {
    /// Above every like.
    pub const START: Self = Self {
        version: Version(i64::MAX),
        id: i64::MAX,
    };
}

/// Lists for readers.
pub trait Lists: Send + Sync {
    /// Who likes a resource, the newest like first.
    fn likers(
        &self,
        resource: Resource,
        below: Cursor,
        limit: usize,
    ) -> StoreFuture<'_, Vec<(Pair, Version)>>;

    /// What a user likes of one resource type, the newest like first.
    fn liked_by(
        &self,
        user_id: UserId,
        resource_type: ResourceType,
        below: Cursor,
        limit: usize,
    ) -> StoreFuture<'_, Vec<(Pair, Version)>>;

    /// As [`liked_by`](Self::liked_by), after so many rows.
    fn liked_by_from(
        &self,
        user_id: UserId,
        resource_type: ResourceType,
        offset: usize,
        limit: usize,
    ) -> StoreFuture<'_, Vec<(Pair, Version)>>;

    /// How many resources of one type a user likes.
    fn liked_total(&self, user_id: UserId, resource_type: ResourceType) -> StoreFuture<'_, i64>;

    /// The resources of one type with a like, those with most of them first, below this count and, where
    /// it is the same, this id.
    fn most_liked(
        &self,
        resource_type: ResourceType,
        below: (i64, i64),
        limit: usize,
    ) -> StoreFuture<'_, Vec<(Resource, LikeCount)>>;
}
