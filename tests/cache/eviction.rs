//! A full cache drops pairs and reports them as unknown, never as not liked.

use std::time::Duration;

use likewise::cache::Cache;
use likewise::domain::{LikeCount, Reading, Resource, VersionedState};
use redis::Commands;

use super::{OnRedis, One, VIDEO, cache_on, count, in_process, mark, run};
use crate::support::until_seen;

const LIMIT: usize = 8;

#[test]
fn full_memory_cache_never_guesses() {
    let cache = in_process(LIMIT);
    run(never_guessed(&cache));
}

#[test]
fn full_redis_cache_never_guesses() {
    let on_redis = OnRedis::with(LIMIT, Duration::from_secs(60));
    run(never_guessed(&on_redis.cache));
    let key = &on_redis.keys()[0];
    let fields: usize = on_redis.connection().hlen(key).expect("a hash");
    assert!(fields <= 5 + LIMIT, "{fields} fields");
}

/// Every user likes a video, one event after the other, as in the pipeline.
async fn never_guessed(cache: &dyn Cache) {
    const USERS: i64 = 60;
    let one = One(cache);
    one.learn(VIDEO, 1.into(), VersionedState::NEVER, LikeCount::NEVER)
        .await;
    for user in 1..=USERS {
        let event = mark(user, true);
        one.apply(VIDEO, user.into(), event).await;
        one.settle(VIDEO, &[(user.into(), event)], Some(count(user, user)))
            .await;
        for other in 1..=USERS {
            let Reading { liked, like_count } = one.read(VIDEO, other.into()).await;
            let truth = other <= user;
            assert!(
                liked.is_none_or(|liked| liked == truth),
                "after {user} likes, user {other} reads liked {liked:?}"
            );
            assert!(
                like_count.is_none_or(|count| count == user),
                "after {user} likes, the count reads {like_count:?}"
            );
        }
    }
    // The next look-up finds the trimmed pair and its count again.
    let life = one.open(VIDEO).await;
    let filled = one.fill(life, VIDEO, 1.into(), mark(1, true), count(USERS, USERS));
    assert_eq!(filled.await.and_then(|reading| reading.liked), Some(true));
}

#[test]
fn in_flight_events_are_never_trimmed() {
    let on_redis = OnRedis::with(LIMIT, Duration::from_secs(60));
    run(async {
        for cache in [&in_process(LIMIT) as &dyn Cache, &on_redis.cache] {
            let one = One(cache);
            one.learn(VIDEO, 1.into(), VersionedState::NEVER, LikeCount::NEVER)
                .await;
            // While the first reader's pair fits, every pair is known.
            for user in 1..=40 {
                one.apply(VIDEO, user.into(), mark(user, true)).await;
            }
            for user in 1..=40 {
                let liked = one.read(VIDEO, user.into()).await.liked;
                assert_eq!(liked, Some(true), "{}: user {user}", cache.kind());
            }
        }
    });
}

#[test]
fn entry_is_trimmed_to_a_lowered_limit() {
    let on_redis = OnRedis::start();
    let lowered = cache_on(&on_redis.server, LIMIT, Duration::from_secs(60));
    run(async {
        const USERS: i64 = 9_500;
        let one = One(&on_redis.cache);
        one.learn(VIDEO, 1.into(), VersionedState::NEVER, LikeCount::NEVER)
            .await;
        let marks: Vec<_> = (1..=USERS)
            .map(|user| (user.into(), mark(user, true)))
            .collect();
        one.settle(VIDEO, &marks, Some(count(USERS, 1))).await;
        let one = One(&lowered);
        for touch in 1..=20 {
            one.apply(VIDEO, 1.into(), mark(USERS + touch, touch % 2 == 0))
                .await;
        }
        assert_eq!(one.read(VIDEO, (USERS + 1).into()).await.liked, None);
    });
    let fields: usize = on_redis
        .connection()
        .hlen(&on_redis.keys()[0])
        .expect("a hash");
    assert!(fields <= 5 + LIMIT + 1, "{fields} fields");
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
            assert_eq!(
                one.read(VIDEO, 1.into()).await,
                Reading::default(),
                "{what}"
            );
        });
    };
    let fill = || {
        run(async {
            let one = One(&on_redis.cache);
            one.learn(VIDEO, 1.into(), mark(5, true), count(1, 1)).await;
            one.learn(
                Resource::video(8),
                1.into(),
                VersionedState::NEVER,
                LikeCount::NEVER,
            )
            .await;
        });
    };
    let mut connection = on_redis.connection();
    fill();
    let _: u64 = connection.del("likewise:a:{video:7}").expect("an answer");
    unknown("after DEL");
    fill();
    let _: () = redis::cmd("FLUSHALL")
        .query(&mut connection)
        .expect("an answer");
    unknown("after FLUSHALL");
    fill();
    for key in on_redis.keys() {
        let left: i64 = connection.ttl(&key).expect("an answer");
        assert!((3_590..=3_600).contains(&left), "{key} lives for {left} s");
        let _: bool = connection.pexpire(&key, 1).expect("an answer");
    }
    until_seen("the entries to expire", || on_redis.keys(), Vec::is_empty);
    unknown("after it expired");
}
