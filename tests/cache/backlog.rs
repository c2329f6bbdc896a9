//! A resource with very many events in flight costs other resources nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use likewise::cache::{Cache, Filling, Settlement, UserFilling};
use likewise::domain::{Coverage, LikeCount, Pair, Resource, UserId, VersionedState};

use super::{NOW, OnRedis, One, VIDEO, count, mark, run};
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

/// Fills users, and applies events of theirs. Returns the CPU time that applying took.
async fn apply(on_redis: &OnRedis, resource: &Resource, of: std::ops::Range<i64>) -> Duration {
    let cache = &on_redis.cache;
    let ids: Vec<UserId> = of.clone().map(UserId::from).collect();
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
    let events = events(resource, of);
    let before = cpu(on_redis);
    for some in events.chunks(256) {
        cache.apply(some, NOW).await.expect("answers");
    }
    cpu(on_redis) - before
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
