//! A full cache drops what the database holds and reports it as unknown, never as not liked. What is in flight stays.

use std::time::Duration;

use likewise::cache::{Cache, MemoryCache};
use likewise::domain::{
    Coverage, EntryId, EntryView, LikeCount, Pair, Reading, Resource, VersionedState,
};
use redis::Commands;

use super::{HOUR, NOW, OnRedis, One, VIDEO, cache_on, count, in_process, known, mark, run};
use crate::support::until_seen;

const LIMIT: usize = 8;

#[test]
fn full_memory_cache_never_guesses() {
    run(never_guessed(&in_process(LIMIT)));
}

#[test]
fn full_redis_cache_never_guesses() {
    let on_redis = OnRedis::with(LIMIT, Duration::from_secs(60));
    run(never_guessed(&on_redis.cache));
}

/// A user likes many videos, one event after the other, as in the pipeline.
async fn never_guessed(cache: &dyn Cache) {
    const VIDEOS: i64 = 60;
    let one = One(cache);
    one.learn(VIDEO, 1.into(), VersionedState::NEVER, LikeCount::NEVER)
        .await;
    for video in 1..=VIDEOS {
        let (resource, event) = (Resource::video(video), mark(video, true));
        one.apply(resource.clone(), 1.into(), event).await;
        one.settle(resource, &[(1.into(), event)], Some(count(1, 1)))
            .await;
        for other in 1..=VIDEOS {
            let Reading { liked, .. } = one.read(Resource::video(other), 1.into()).await;
            let truth = other <= video;
            assert!(
                liked.is_none_or(|liked| liked == truth),
                "after {video} likes, video {other} reads liked {liked:?}"
            );
        }
    }
    let pairs = pairs_of(cache, 1).await;
    assert!(pairs <= LIMIT, "{pairs} pairs");
    // The next look-up finds the trimmed pair again.
    let (life, _) = one.open(VIDEO, 1.into()).await;
    let rows = [(Resource::video(1), mark(1, true))];
    let filled = one.fill_user(life, 1.into(), Coverage::Partial, &rows);
    assert!(filled.await);
    let read = one.read(Resource::video(1), 1.into()).await;
    assert_eq!(read.liked, Some(true));
}

async fn pairs_of(cache: &dyn Cache, user: i64) -> usize {
    let views = cache.inspect(&[EntryId::User(user.into())]).await;
    match views.expect("an answer").remove(0) {
        Some(EntryView::User(view)) => view.pairs.len(),
        other => panic!("no entry of the user: {other:?}"),
    }
}

#[test]
fn in_flight_events_are_never_trimmed() {
    let on_redis = OnRedis::with(LIMIT, Duration::from_secs(60));
    run(async {
        for cache in [&in_process(LIMIT) as &dyn Cache, &on_redis.cache] {
            let one = One(cache);
            one.learn(VIDEO, 1.into(), VersionedState::NEVER, LikeCount::NEVER)
                .await;
            for video in 1..=40 {
                one.apply(Resource::video(video), 1.into(), mark(video, true))
                    .await;
            }
            for video in 1..=40 {
                let liked = one.read(Resource::video(video), 1.into()).await.liked;
                assert_eq!(liked, Some(true), "{}: video {video}", cache.kind());
            }
        }
    });
}

#[test]
fn full_memory_cache_keeps_entries_in_flight() {
    let cache = MemoryCache::new(160);
    run(async {
        let one = One(&cache);
        for user in 1..=40 {
            one.learn(VIDEO, user.into(), VersionedState::NEVER, count(3, 1))
                .await;
            one.apply(VIDEO, user.into(), mark(user, true)).await;
        }
        for other in 1_000..3_000 {
            let resource = Resource::video(other);
            one.learn(resource, other.into(), VersionedState::NEVER, count(1, 1))
                .await;
        }
        for user in 1..=40 {
            assert_eq!(one.read(VIDEO, user.into()).await, known(true, 43));
        }
        assert!(cache.len() < 600, "{} pairs and entries", cache.len());
        // They go once the database holds them.
        for user in 1..=40 {
            let settled = [(user.into(), mark(user, true))];
            one.settle(VIDEO, &settled, Some(count(3 + user, 1 + user)))
                .await;
        }
        for other in 3_000..5_000 {
            let resource = Resource::video(other);
            one.learn(resource, other.into(), VersionedState::NEVER, count(1, 1))
                .await;
        }
        assert!(cache.len() <= 320, "{} pairs and entries", cache.len());
        assert_eq!(one.read(VIDEO, 1.into()).await, Reading::default());
    });
}

#[test]
fn entry_is_trimmed_to_a_lowered_limit() {
    let on_redis = OnRedis::start();
    let lowered = cache_on(&on_redis.server, LIMIT, Duration::from_secs(60));
    run(async {
        const VIDEOS: i64 = 1_500;
        let one = One(&on_redis.cache);
        let (life, _) = one.open(VIDEO, 1.into()).await;
        let row = |video| (Resource::video(video), mark(video, true));
        let rows: Vec<_> = (1..=VIDEOS).map(row).collect();
        let filled = one.fill_user(life, 1.into(), Coverage::Complete, &rows);
        assert!(filled.await);
        let one = One(&lowered);
        one.apply(
            Resource::video(VIDEOS + 1),
            1.into(),
            mark(VIDEOS + 1, true),
        )
        .await;
        assert_eq!(one.read(Resource::video(1), 1.into()).await.liked, None);
        let pairs = pairs_of(&lowered, 1).await;
        assert!(pairs <= LIMIT, "{pairs} pairs");
    });
}

#[test]
fn trims_in_one_call_start_lifetimes_of_two_names() {
    let on_redis = OnRedis::with(4, HOUR);
    run(async {
        for cache in [&in_process(4) as &dyn Cache, &on_redis.cache] {
            let one = One(cache);
            let (life, _) = one.open(VIDEO, 1.into()).await;
            let rows: Vec<_> = (1..=4)
                .map(|video| (Resource::video(video), mark(video, true)))
                .collect();
            let filled = one.fill_user(life, 1.into(), Coverage::Complete, &rows);
            assert!(filled.await);
            // The first and the last of these are the fifth pair.
            let event = |video| {
                let pair = Pair {
                    resource: Resource::video(video),
                    user_id: 1.into(),
                };
                (pair, mark(video, true))
            };
            let events: Vec<_> = (11..=14).map(event).collect();
            let applied = cache.apply_and_open(&events, NOW).await;
            let lives: Vec<_> = applied
                .expect("answers")
                .into_iter()
                .map(|(_, opened)| opened.expect("an unknown count").user.0)
                .collect();
            assert_ne!(lives[0], life, "{}", cache.kind());
            assert_eq!(&lives[1..3], &[lives[0]; 2], "{}", cache.kind());
            assert_ne!(lives[3], lives[0], "{}", cache.kind());
        }
    });
}

#[test]
fn entry_lost_by_redis_is_unknown() {
    let on_redis = OnRedis::start();
    let unknown = |what: &str| {
        run(async {
            let one = One(&on_redis.cache);
            let read = one.read(VIDEO, 1.into()).await;
            assert_eq!(read, Reading::default(), "{what}");
            // A late settlement does not restore half of a dropped entry.
            one.settle(VIDEO, &[(1.into(), mark(6, true))], Some(count(1, 2)))
                .await;
            one.forget(VIDEO, 1.into(), 6).await;
            let read = one.read(VIDEO, 1.into()).await;
            assert_eq!(read, Reading::default(), "{what}");
        });
    };
    let fill = || {
        run(async {
            let one = One(&on_redis.cache);
            one.learn(VIDEO, 1.into(), mark(5, true), count(1, 1)).await;
        });
    };
    let mut connection = on_redis.connection();
    fill();
    let keys = ["likewise:a:u:{1}", "likewise:a:c:{video:7}"];
    let _: u64 = connection.del(&keys).expect("an answer");
    unknown("after DEL");
    fill();
    let _: () = redis::cmd("FLUSHALL")
        .query(&mut connection)
        .expect("an answer");
    unknown("after FLUSHALL");
    fill();
    for key in on_redis.keys() {
        let left: i64 = connection.ttl(&key).expect("an answer");
        let most = i64::try_from(HOUR.as_secs()).expect("seconds");
        assert!(
            (most - 10..=most).contains(&left),
            "{key} lives for {left} s"
        );
        let _: bool = connection.pexpire(&key, 1).expect("an answer");
    }
    until_seen("the entries to expire", || on_redis.keys(), Vec::is_empty);
    unknown("after it expired");
}

#[test]
fn count_whose_events_were_evicted_is_unknown() {
    let on_redis = OnRedis::start();
    run(async {
        let one = One(&on_redis.cache);
        for user in 1..=9 {
            one.learn(VIDEO, user.into(), VersionedState::NEVER, count(3, 1))
                .await;
            one.apply(VIDEO, user.into(), mark(10, true)).await;
        }
        let mut connection = on_redis.connection();
        let _: u64 = connection.del("likewise:a:f:{video:7}").expect("an answer");
        let found = on_redis
            .cache
            .overdue(&VIDEO, super::NOW, 9, super::NOW)
            .await;
        assert_eq!(found.expect("an answer"), []);
        assert_eq!(one.count(VIDEO).await, None);
        let (_, life) = one.open(VIDEO, 1.into()).await;
        assert!(one.fill_count(life, VIDEO, count(4, 2)).await);
        assert_eq!(one.count(VIDEO).await, Some(4));
    });
}
