//! Lists likes from the database, newest first, in pages. `web/likes/` and `web/legacy/` call it.

use std::cmp::Ordering;

use super::Likes;
use super::read::NotRead;
use crate::domain::{IdKind, Resource, ResourceType, UserId, Version};
use crate::store::Cursor;

/// A like in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The liked resource.
    pub resource: Resource,
    /// The user who likes it.
    pub user_id: UserId,
    /// The version of the like that began the run: repeats do not change it. Its moment is the time of the like.
    pub since: Version,
}

/// A resource and its like count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Liked {
    /// The resource.
    pub resource: Resource,
    /// The number of users who like it.
    pub like_count: i64,
}

/// One page of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// The items of the page.
    pub items: Vec<T>,
    /// Whether more items follow.
    pub more: bool,
}

impl<T> Page<T> {
    /// Returns a page of at most `limit` items. `items` holds one more if more follow.
    fn of(mut items: Vec<T>, limit: usize) -> Self {
        let more = items.len() > limit;
        items.truncate(limit);
        Self { items, more }
    }

    /// Returns the last item, if more items follow.
    #[must_use]
    pub fn last(&self) -> Option<&T> {
        self.items.last().filter(|_| self.more)
    }
}

/// A place in the merged list of a user's likes of every type. The list is in descending order of time, type and id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The version since which the resource is liked.
    pub since: Version,
    /// The resource.
    pub resource: Resource,
}

impl Place {
    /// Returns the cursor of one type's list at this place of the merged list.
    fn cursor(&self, resource_type: ResourceType, kind: IdKind) -> Cursor {
        let (since, id) = match resource_type.cmp(&self.resource.resource_type) {
            Ordering::Equal => (self.since.0, self.resource.id.clone()),
            // Of equal times, higher types precede this place, and lower types follow it.
            Ordering::Greater => (self.since.0, kind.before_all()),
            Ordering::Less => (self.since.0.saturating_add(1), kind.before_all()),
        };
        Cursor {
            since: Version(since),
            id,
        }
    }
}

impl Likes {
    /// Lists the users who like a resource, the newest like first.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn likers(
        &self,
        resource: Resource,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<Page<Listed>, NotRead> {
        let likes = self
            .reader
            .read(move |store| async move {
                let after = after.unwrap_or_else(|| Cursor::start(store.id_kinds().users));
                store.likers(&resource, &after, limit + 1).await
            })
            .await?;
        Ok(Page::of(likes.into_iter().map(listed).collect(), limit))
    }

    /// Lists the resources that a user likes, of one type or of all, the newest like first.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn liked_by(
        &self,
        user_id: UserId,
        resource_type: Option<ResourceType>,
        after: Option<Place>,
        limit: usize,
    ) -> Result<Page<Listed>, NotRead> {
        let read = self.reader.read(move |store| async move {
            let mut likes = Vec::new();
            for each in store.resource_types().iter() {
                if resource_type.is_some_and(|only| only != each) {
                    continue;
                }
                let kind = store.id_kinds().resources;
                let after = after.as_ref();
                let after =
                    after.map_or_else(|| Cursor::start(kind), |after| after.cursor(each, kind));
                let page = store.liked_by(&user_id, each, &after, limit + 1).await?;
                likes.extend(page.into_iter().map(listed));
            }
            Ok(likes)
        });
        let mut likes: Vec<Listed> = read.await?;
        likes.sort_by(|one, other| (other.since, &other.resource).cmp(&(one.since, &one.resource)));
        Ok(Page::of(likes, limit))
    }

    /// Lists the resources of one type that a user likes, the newest like first, without the first `passed`. Also
    /// returns the number of all of them.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn liked_page(
        &self,
        user_id: UserId,
        resource_type: ResourceType,
        passed: usize,
        limit: usize,
    ) -> Result<(Vec<Listed>, i64), NotRead> {
        let read = self.reader.read(move |store| async move {
            let page = store.liked_by_from(&user_id, resource_type, passed, limit);
            let page = page.await?;
            Ok((page, store.liked_total(&user_id, resource_type).await?))
        });
        let (page, total) = read.await?;
        Ok((page.into_iter().map(listed).collect(), total))
    }

    /// Lists the resources of a type that have likes, in descending order of like count and id.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn most_liked(
        &self,
        resource_type: ResourceType,
        after: Option<Liked>,
        limit: usize,
    ) -> Result<Page<Liked>, NotRead> {
        let most = self
            .reader
            .read(move |store| async move {
                let (like_count, id) = after.map_or_else(
                    || (i64::MAX, store.id_kinds().resources.after_all()),
                    |after| (after.like_count, after.resource.id),
                );
                let below = (like_count, &id);
                store.most_liked(resource_type, below, limit + 1).await
            })
            .await?;
        let liked = most.into_iter().map(|(resource, count)| Liked {
            resource,
            like_count: count.like_count,
        });
        Ok(Page::of(liked.collect(), limit))
    }
}

fn listed((pair, since): (crate::domain::Pair, Version)) -> Listed {
    Listed {
        resource: pair.resource,
        user_id: pair.user_id,
        since,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ResourceTypes;

    #[test]
    fn merged_list_resumes_each_type_at_the_cursor() {
        let mut all = Vec::new();
        for resource_type in ResourceTypes::default().iter() {
            for (since, id) in [(5, 1), (5, 2), (4, 9), (6, 1), (4, i64::MAX)] {
                let resource = Resource {
                    resource_type,
                    id: id.into(),
                };
                all.push((Version(since), resource));
            }
        }
        all.sort_by(|one, other| other.cmp(one));
        for (index, (since, resource)) in all.iter().enumerate() {
            let place = Place {
                since: *since,
                resource: resource.clone(),
            };
            let is_after = |(since, resource): &&(Version, Resource)| {
                let cursor = place.cursor(resource.resource_type, IdKind::Number);
                (*since, &resource.id) < (cursor.since, &cursor.id)
            };
            let after: Vec<_> = all.iter().filter(is_after).collect();
            let expected: Vec<_> = all[index + 1..].iter().collect();
            assert_eq!(after, expected);
        }
    }

    #[test]
    fn page_reports_whether_more_follow() {
        assert_eq!(Page::of(vec![1, 2, 3], 2).last(), Some(&2));
        assert_eq!(Page::of(vec![1, 2], 2).last(), None);
        assert_eq!(Page::of(Vec::<i32>::new(), 2).last(), None);
    }
}
