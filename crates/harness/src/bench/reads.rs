//! The reads of a benchmark: one like warm and cold, a hot video by users who read it before, pages of 100, and lists of
//! 50. `rates` sends some of them beside likes.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use hyper::Method;
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use serde_json::json;

use crate::interaction::Interaction;
use crate::request::{Request, Target};

/// The likes that exist before the reads.
pub(super) const FILLED: usize = 50_000;
const SEED: u64 = 9;

/// Items of one status, and entries of one list.
const ITEMS: usize = 100;
const ENTRIES: usize = 50;
/// The users who read the hot video.
const HOT_READERS: i64 = 10_000;
/// The video that `likewise bench --tool fill` makes popular.
pub(super) const HOT_VIDEO: i64 = 7_000_000_001;

/// What is stored, and what can be asked about it.
pub(super) struct Stored {
    /// Each pair once.
    likes: Vec<Interaction>,
    /// Videos that enough users like for a full page.
    likers: Vec<i64>,
    /// Users who like enough for a full page.
    liked: Vec<i64>,
}

impl Stored {
    pub(super) fn of(likes: impl Iterator<Item = Interaction>) -> Self {
        let mut seen = BTreeSet::new();
        let mut by_video: BTreeMap<i64, usize> = BTreeMap::new();
        let mut by_user: BTreeMap<i64, usize> = BTreeMap::new();
        let is_new = |like: &Interaction| seen.insert((like.user_id, like.video_id));
        let likes: Vec<_> = likes.filter(is_new).collect();
        for like in &likes {
            *by_video.entry(like.video_id).or_default() += 1;
            *by_user.entry(like.user_id).or_default() += 1;
        }
        // Few likes fill no page; the longest lists serve then.
        let full = |counts: BTreeMap<i64, usize>| {
            let most = counts.values().max().copied().unwrap_or_default();
            let full = counts
                .into_iter()
                .filter(|(_, count)| *count >= ENTRIES.min(most));
            full.map(|(id, _)| id).collect()
        };
        Self {
            likes,
            likers: full(by_video),
            liked: full(by_user),
        }
    }

    /// The likes to store.
    pub(super) fn stores(&self, target: &Target) -> impl Iterator<Item = Request> {
        self.likes.iter().map(|like| Request::like(target, *like))
    }

    /// Reads of each like, once.
    pub(super) fn gets_once(&self, target: &Target) -> impl Iterator<Item = Request> {
        self.likes
            .iter()
            .map(|like| get(target, like.user_id, like.video_id))
    }

    /// Reads of likes, over and over.
    pub(super) fn gets(&self, target: &Target, count: usize) -> impl Iterator<Item = Request> {
        let likes = self.likes.iter().cycle().take(count);
        likes.map(|like| get(target, like.user_id, like.video_id))
    }

    /// Reads of random likes, without end.
    pub(super) fn random_gets(&self, target: &Target) -> impl Iterator<Item = Request> {
        let mut random = SmallRng::seed_from_u64(SEED);
        std::iter::repeat_with(move || {
            let like = &self.likes[random.random_range(0..self.likes.len())];
            get(target, like.user_id, like.video_id)
        })
    }

    /// Pages of items, most of which others like more than those who ask.
    pub(super) fn status_pages(&self, target: &Target) -> Vec<Request> {
        let mut random = SmallRng::seed_from_u64(SEED);
        let page = |random: &mut SmallRng| {
            let user = self.likes.choose(random).map_or(1, |like| like.user_id);
            let items: Vec<_> = self
                .likes
                .sample(random, ITEMS)
                .map(|like| {
                    let is_comment = random.random_ratio(1, 4);
                    let resource_type = if is_comment { "comment" } else { "video" };
                    json!({"resource_type": resource_type, "resource_id": like.video_id})
                })
                .collect();
            let body = Bytes::from(json!({ "items": items }).to_string());
            Request::to(target, Method::POST, "/v1/likes/status", user, body)
        };
        (0..500).map(|_| page(&mut random)).collect()
    }

    /// First pages of the users who like a video.
    pub(super) fn likers(&self, target: &Target, count: usize) -> impl Iterator<Item = Request> {
        lists(target, &self.likers, "videos", count)
    }

    /// First pages of what a user likes.
    pub(super) fn liked(&self, target: &Target, count: usize) -> impl Iterator<Item = Request> {
        lists(target, &self.liked, "users", count)
    }
}

/// One read of the hot video by each of its readers.
pub(super) fn hot_gets_once(target: &Target) -> impl Iterator<Item = Request> {
    (1..=HOT_READERS).map(|user| get(target, user, HOT_VIDEO))
}

/// Reads of the hot video by random ones of its readers.
pub(super) fn hot_gets(target: &Target, count: usize) -> impl Iterator<Item = Request> {
    let mut random = SmallRng::seed_from_u64(SEED);
    let gets = std::iter::repeat_with(move || {
        get(target, random.random_range(1..=HOT_READERS), HOT_VIDEO)
    });
    gets.take(count)
}

fn get(target: &Target, user: i64, video: i64) -> Request {
    let path = format!("/v1/videos/{video}/like");
    Request::to(target, Method::GET, &path, user, Bytes::new())
}

fn lists(target: &Target, ids: &[i64], of: &str, count: usize) -> impl Iterator<Item = Request> {
    let list = move |id: &i64| {
        let path = format!("/v1/{of}/{id}/likes?limit={ENTRIES}");
        Request::to(target, Method::GET, &path, *id, Bytes::new())
    };
    ids.iter().cycle().take(count).map(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_lists_serve_where_no_page_is_full() {
        let like = |user_id, video_id| Interaction { user_id, video_id };
        let stored = Stored::of([like(1, 7), like(2, 7), like(2, 7), like(3, 8)].into_iter());
        assert_eq!((stored.likes.len(), &*stored.likers), (3, &[7][..]));
        let target: Target = "http://localhost".parse().expect("valid");
        assert_eq!(stored.likers(&target, 3).count(), 3);
        let page = &stored.status_pages(&target)[0];
        assert_eq!(page.method, Method::POST);
    }
}
