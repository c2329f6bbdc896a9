//! A resource with very many events in flight costs other resources nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::FutureExt;
use likewise::cache::{Cache, Filling, Settlement, UserFilling};
use likewise::domain::{Coverage, LikeCount, Pair, Resource, UserId, VersionedState};

use super::{
    HOUR, NOW, OnRedis, One, PLENTY, VIDEO, cache_of, cache_on, count, mark, new_generation, run,
};
use crate::support::redis_cluster::RedisCluster;
use crate::support::say;

/// The number of events in flight on one video.
const EVENTS: i64 = 40_000;

const OTHER: Resource = Resource::video(8);

fn events(resource: &Resource, users: std::ops::Range<i64>) -> Vec<(Pair, VersionedState)> {
    let pair = |user: i64| Pair {
        resource: resource.clone(),
        user_id: UserId::from(user),
    };
    users.map(|user| (pair(user), mark(user, true))).collect()
}

/// Returns the CPU time that Redis has used. Other work of the machine does not add to it.
fn cpu(on_redis: &OnRedis) -> Duration {
    let info: String = redis::cmd("INFO")
        .arg("cpu")
        .query(&mut on_redis.connection())
        .expect("an answer");
    let seconds = |name: &str| -> f64 {
        let mut lines = info.lines();
        let found = lines.find_map(|line| line.strip_prefix(name));
        found
            .and_then(|number| number.trim().parse().ok())
            .expect(name)
    };
    Duration::from_secs_f64(seconds("used_cpu_user:") + seconds("used_cpu_sys:"))
}

/// Fills users without rows.
async fn fill_users(cache: &dyn Cache, of: std::ops::Range<i64>) {
    let ids: Vec<UserId> = of.map(UserId::from).collect();
    let opened = cache.open(&ids, &[]).await.expect("an answer");
    let users: Vec<_> = ids
        .into_iter()
        .zip(opened.users)
        .map(|(user_id, (incarnation, _))| UserFilling {
            user_id,
            incarnation,
            coverage: Coverage::Complete,
            rows: Vec::new(),
        })
        .collect();
    let filling = Filling {
        users,
        ..Filling::default()
    };
    cache
        .fill_and_apply(&filling, NOW)
        .await
        .expect("an answer");
}

/// Fills users, and applies events of theirs. Returns the CPU time that applying took.
async fn apply(on_redis: &OnRedis, resource: &Resource, of: std::ops::Range<i64>) -> Duration {
    let cache = &on_redis.cache;
    fill_users(cache, of.clone()).await;
    let events = events(resource, of);
    let before = cpu(on_redis);
    for some in events.chunks(256) {
        cache.apply(some, NOW).await.expect("answers");
    }
    cpu(on_redis) - before
}

/// The users of a large commit.
const COMMITTED: i64 = 3_000;

/// Settles likes of these users in one commit while another process reads the count, which must not change.
async fn settle_while_another_reads(cache: &dyn Cache, other: &dyn Cache) {
    let one = One(cache);
    one.learn(VIDEO, 1.into(), VersionedState::NEVER, LikeCount::NEVER)
        .await;
    fill_users(cache, 2..COMMITTED + 1).await;
    let likes = events(&VIDEO, 1..COMMITTED + 1);
    for some in likes.chunks(256) {
        cache.apply(some, NOW).await.expect("answers");
    }
    let states = likes.into_iter().map(|(pair, state)| (pair.user_id, state));
    let settlement = Settlement {
        states: states.collect(),
        count: Some(count(COMMITTED, 1)),
    };
    let settlements = BTreeMap::from([(VIDEO, settlement)]);
    let (mut settling, mut reads) = (cache.settle(&settlements, NOW), 0);
    let settled = loop {
        let shown = One(other).count(VIDEO).await;
        assert_eq!(shown, Some(COMMITTED), "after {reads} reads");
        reads += 1;
        if let Some(settled) = (&mut settling).now_or_never() {
            break settled;
        }
    };
    settled.expect("an answer");
    assert!(reads > 1, "it was read meanwhile");
    assert_eq!(One(other).count(VIDEO).await, Some(COMMITTED));
}

#[test]
fn large_commit_is_not_seen_in_part() {
    let on_redis = OnRedis::start();
    let other = cache_on(&on_redis.server, PLENTY, HOUR);
    run(settle_while_another_reads(&on_redis.cache, &other));
}

#[test]
fn large_commit_is_not_seen_in_part_on_a_cluster() {
    let cluster = RedisCluster::shared();
    let generation = new_generation();
    let [cache, other] = [(); 2].map(|()| cache_of(&cluster, PLENTY, &generation));
    run(settle_while_another_reads(&cache, &other));
}

#[test]
fn unsettled_events_of_one_video_slow_no_other() {
    let on_redis = OnRedis::start();
    run(async {
        let one = One(&on_redis.cache);
        for resource in [VIDEO, OTHER] {
            one.learn(resource, 1.into(), VersionedState::NEVER, LikeCount::NEVER)
                .await;
        }
        let before = apply(&on_redis, &OTHER, 2..2_002).await;
        let mut from = 1;
        while from < EVENTS {
            apply(&on_redis, &VIDEO, from..from + 2_000).await;
            from += 2_000;
        }
        assert_eq!(one.count(VIDEO).await, Some(EVENTS));
        let other = apply(&on_redis, &OTHER, 50_000..52_000).await;
        let own = apply(&on_redis, &VIDEO, 60_000..62_000).await;
        say(format_args!(
            "2,000 events: {before:?} before, {other:?} beside and {own:?} on {EVENTS} in flight"
        ));
        // A generous bound: the first design took 150 times as long.
        let bound = before * 10 + Duration::from_millis(100);
        assert!(
            other < bound && own < bound,
            "{before:?}, {other:?}, {own:?}"
        );
        // A commit settles a part of them in about the time of its own events.
        let settlement = Settlement {
            states: events(&VIDEO, 1..1_001)
                .into_iter()
                .map(|(pair, state)| (pair.user_id, state))
                .collect(),
            count: Some(count(1_000, 1)),
        };
        let settlements = BTreeMap::from([(VIDEO, settlement)]);
        let started = cpu(&on_redis);
        let settled = on_redis.cache.settle(&settlements, NOW).await;
        settled.expect("an answer");
        let took = cpu(&on_redis) - started;
        assert!(took < bound, "{took:?}");
        assert_eq!(one.count(VIDEO).await, Some(EVENTS + 2_000));
    });
}
