//! Reads: what they cost beside a bare handler that answers a read of one like.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use bytes::Bytes;
use harness::{Interaction, Method, Request, Target};
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use serde_json::json;

use crate::failure::Failure;
use crate::likes::Likes;
use crate::measure::{Measured, load, measure_reads};
use crate::service::{Parts, Service};

/// How many likes there are before anybody reads.
const FILLED: u64 = 50_000;
const SEED: u64 = 9;

/// Reads of one like, and pages, that are measured at the most.
const READS: usize = 60_000;
const PAGES: usize = 15_000;

/// Items of one status, and entries of one list.
const ITEMS: usize = 100;
const ENTRIES: usize = 50;

/// What was measured, in the order of the report.
pub(crate) struct Reads {
    pub(crate) hello: Measured,
    pub(crate) cases: Vec<(&'static str, Measured)>,
}

/// Measures every kind of read, on data of its own.
pub(crate) async fn measure(
    likewise: &Path,
    parts: Parts,
    likes: &Likes,
    concurrency: u16,
) -> Result<Reads, Failure> {
    let data = Data::of(likes.first(FILLED)?);

    let mut service = Service::likewise(likewise, parts).await?;
    let fill = data.likes.iter();
    let fill = fill.map(|like| Request::like(&service.target, *like));
    let filled = load(&service, concurrency, fill).await?;
    if let Some(ledger) = &service.ledger {
        ledger.completed(filled.accepted).await?;
    }
    service.restart_cold().await?;

    // In one minute with the bare server, which has no data.
    let bare = Service::hello().await?;
    let hello = measure_reads(&bare, concurrency, data.gets(&bare.target, READS)).await?;
    drop(bare);

    let target = service.target.clone();
    let cold = data.gets_once(&target);
    let cold = measure_reads(&service, concurrency, cold).await?;
    let warm = measure_reads(&service, concurrency, data.gets(&target, READS)).await?;
    let pages = data.status_pages(&target);
    load(&service, concurrency, pages.iter().cloned()).await?;
    let pages = pages.iter().cycle().take(PAGES).cloned();
    let status = measure_reads(&service, concurrency, pages).await?;
    let likers = data.lists(&target, &data.likers, "videos");
    let likers = measure_reads(&service, concurrency, likers).await?;
    let liked = data.lists(&target, &data.liked, "users");
    let liked = measure_reads(&service, concurrency, liked).await?;
    if let Some(ledger) = &service.ledger {
        ledger.verify().await?;
    }
    Ok(Reads {
        hello,
        cases: vec![
            ("get_warm", warm),
            ("get_cold", cold),
            ("status_of_100", status),
            ("list_of_50_likers", likers),
            ("list_of_50_of_a_user", liked),
        ],
    })
}

/// What is there, and what can be asked about it.
struct Data {
    /// Each pair once.
    likes: Vec<Interaction>,
    /// Videos that enough users like for a full page.
    likers: Vec<i64>,
    /// Users who like enough for a full page.
    liked: Vec<i64>,
}

impl Data {
    fn of(likes: Vec<Interaction>) -> Self {
        let mut seen = BTreeSet::new();
        let mut by_video: BTreeMap<i64, usize> = BTreeMap::new();
        let mut by_user: BTreeMap<i64, usize> = BTreeMap::new();
        let is_new = |like: &Interaction| seen.insert((like.user_id, like.video_id));
        let likes: Vec<_> = likes.into_iter().filter(is_new).collect();
        for like in &likes {
            *by_video.entry(like.video_id).or_default() += 1;
            *by_user.entry(like.user_id).or_default() += 1;
        }
        let full = |counts: BTreeMap<i64, usize>| {
            let full = counts.into_iter().filter(|(_, count)| *count >= ENTRIES);
            full.map(|(id, _)| id).collect()
        };
        Self {
            likes,
            likers: full(by_video),
            liked: full(by_user),
        }
    }

    fn get(target: &Target, like: &Interaction) -> Request {
        let path = format!("/v1/videos/{}/like", like.video_id);
        Request::to(target, Method::GET, &path, like.user_id, Bytes::new())
    }

    /// Reads of every like.
    fn gets_once(&self, target: &Target) -> impl Iterator<Item = Request> {
        self.likes.iter().map(|like| Self::get(target, like))
    }

    /// Reads of likes, each read before.
    fn gets(&self, target: &Target, count: usize) -> impl Iterator<Item = Request> {
        let likes = self.likes.iter().cycle().take(count);
        likes.map(|like| Self::get(target, like))
    }

    /// Pages of items, most of which others like more than those who ask.
    fn status_pages(&self, target: &Target) -> Vec<Request> {
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

    /// First pages of lists.
    fn lists(&self, target: &Target, ids: &[i64], of: &str) -> impl Iterator<Item = Request> {
        let list = move |id: &i64| {
            let path = format!("/v1/{of}/{id}/likes?limit={ENTRIES}");
            Request::to(target, Method::GET, &path, *id, Bytes::new())
        };
        ids.iter().cycle().take(PAGES).map(list)
    }
}
