//! Redis stops, hangs and restarts, or is one node of a cluster.

use std::time::{Duration, Instant};

use likewise::cache::{Cache, RedisCache};
use likewise::config::RedisOptions;
use likewise::domain::{LikeCount, Pair, Reading, Resource, ResourceType, VersionedState};

use super::{
    HASTY, HOUR, NOW, OnRedis, One, PLENTY, VIDEO, count, deployment, known, mark, options, run,
};
use crate::support::PATIENCE;

/// A call may try to connect twice before it fails. The rest is room for a busy machine; without a time-out, a call
/// would wait forever.
const BOUND: Duration = Duration::from_secs(30);

#[test]
fn lost_script_is_loaded_again() {
    let on_redis = OnRedis::start();
    run(async {
        let one = One(&on_redis.cache);
        for user in 1..=2 {
            one.learn(VIDEO, user.into(), VersionedState::NEVER, LikeCount::NEVER)
                .await;
        }
        let mut connection = on_redis.connection();
        let _: () = redis::cmd("SCRIPT")
            .arg("FLUSH")
            .query(&mut connection)
            .expect("an answer");
        // All commands of a pipeline run once.
        let pair = |user_id| Pair {
            resource: VIDEO,
            user_id,
        };
        let events = [
            (pair(1.into()), mark(10, true)),
            (pair(2.into()), mark(11, true)),
        ];
        let applied = on_redis.cache.apply(&events, NOW).await.expect("answers");
        let changed: Vec<_> = applied.iter().map(|applied| applied.changed).collect();
        assert_eq!(changed, [Some(true), Some(true)]);
        assert_eq!(one.read(VIDEO, 1.into()).await, known(true, 2));
    });
}

#[test]
fn restart_is_reported_once_and_script_is_reloaded() {
    let mut on_redis = OnRedis::start();
    run(async {
        assert!(!on_redis.cache.restarted().await.expect("an answer"));
        let one = One(&on_redis.cache);
        one.learn(VIDEO, 1.into(), mark(5, true), count(1, 1)).await;
        on_redis.server.stop();
        assert!(on_redis.cache.restarted().await.is_err());
        on_redis.server.run();
        assert!(recovered(&on_redis.cache).await);
        assert!(!on_redis.cache.restarted().await.expect("an answer"));
        let one = One(&on_redis.cache);
        assert_eq!(
            one.read(VIDEO, 1.into()).await,
            known(true, 1),
            "it kept its data"
        );
        one.apply(VIDEO, 1.into(), mark(10, false)).await;
        assert_eq!(one.read(VIDEO, 1.into()).await, known(false, 0));
    });
}

#[test]
fn redis_down_at_startup_counts_as_restarted() {
    let mut on_redis = OnRedis::start();
    on_redis.server.kill();
    run(async {
        assert!(on_redis.cache.restarted().await.is_err());
        on_redis.server.run();
        assert!(recovered(&on_redis.cache).await);
        assert!(!on_redis.cache.restarted().await.expect("an answer"));
    });
}

#[test]
fn killed_redis_fails_in_bounded_time_and_recovers() {
    let mut on_redis = OnRedis::start();
    run(async {
        One(&on_redis.cache)
            .learn(VIDEO, 1.into(), mark(5, true), count(1, 1))
            .await;
        on_redis.server.kill();
        every_call_fails_in_time(&on_redis.cache).await;
        on_redis.server.run();
        recovered(&on_redis.cache).await;
        One(&on_redis.cache)
            .learn(VIDEO, 2.into(), mark(6, true), count(2, 2))
            .await;
    });
}

#[test]
fn hung_redis_fails_in_bounded_time_and_recovers() {
    let on_redis = OnRedis::start();
    let options = RedisOptions {
        timeout: HASTY,
        ..options(on_redis.server.url(), PLENTY, HOUR)
    };
    let hasty = RedisCache::new(&options, deployment("a").into()).expect("a URL");
    run(async {
        One(&on_redis.cache)
            .learn(VIDEO, 1.into(), mark(5, true), count(1, 1))
            .await;
        // Now it knows which run of Redis answers.
        recovered(&hasty).await;
        on_redis.server.suspend();
        every_call_fails_in_time(&hasty).await;
        on_redis.server.resume();
        assert!(!recovered(&hasty).await);
        // The server may have run the commands that it received while it hung. None of them is wrong.
        let Reading { liked, .. } = One(&on_redis.cache).read(VIDEO, 1.into()).await;
        assert_ne!(liked, Some(false));
    });
}

#[test]
fn runtimes_that_end_take_no_connection_along() {
    let mut on_redis = OnRedis::start();
    let cache = &on_redis.cache;
    short_lived(async { cache.ping().await.expect("the server answers") });
    run(async { cache.ping().await.expect("the server still answers") });
    on_redis.server.kill();
    // It ends while it waits between two attempts to connect.
    let cache = &on_redis.cache;
    short_lived(async {
        let _ = tokio::time::timeout(Duration::from_millis(20), cache.restarted()).await;
    });
    run(async {
        assert!(cache.restarted().await.is_err());
        on_redis.server.run();
        recovered(&on_redis.cache).await;
    });
}

/// Runs a future on a runtime that ends with it, as those of the HTTP workers end before the actors.
fn short_lived(work: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(work);
}

async fn every_call_fails_in_time(cache: &dyn Cache) {
    let pair = Pair {
        resource: VIDEO,
        user_id: 1.into(),
    };
    let events = [(pair.clone(), mark(9, true))];
    let settlements = [(VIDEO, Default::default())].into();
    assert!(BOUND > HASTY);
    for _ in 0..2 {
        let started = Instant::now();
        assert!(cache.ping().await.is_err());
        assert!(started.elapsed() < BOUND, "ping: {:?}", started.elapsed());
        let started = Instant::now();
        assert!(
            cache
                .read(Some(&pair.user_id), &[VIDEO], NOW)
                .await
                .is_err()
        );
        assert!(started.elapsed() < BOUND, "read: {:?}", started.elapsed());
        let started = Instant::now();
        assert!(cache.apply(&events, NOW).await.is_err());
        assert!(started.elapsed() < BOUND, "apply: {:?}", started.elapsed());
        let started = Instant::now();
        assert!(cache.settle(&settlements, NOW).await.is_err());
        assert!(started.elapsed() < BOUND, "settle: {:?}", started.elapsed());
        let started = Instant::now();
        assert!(cache.restarted().await.is_err());
        assert!(
            started.elapsed() < BOUND,
            "restarted: {:?}",
            started.elapsed()
        );
    }
}

/// Waits until Redis answers again. Returns whether it restarted.
async fn recovered(cache: &dyn Cache) -> bool {
    let started = Instant::now();
    loop {
        match cache.restarted().await {
            Ok(restarted) => return restarted,
            Err(error) => assert!(started.elapsed() < PATIENCE, "it stays away: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[test]
fn keys_of_one_entry_share_a_hash_tag() {
    let on_redis = OnRedis::start();
    run(async {
        let one = One(&on_redis.cache);
        let comment = Resource {
            resource_type: ResourceType::COMMENT,
            id: 7.into(),
        };
        one.learn(comment, 1.into(), mark(5, true), count(1, 1))
            .await;
        // More events than the count entry itself holds.
        for user in 1..=9 {
            one.learn(VIDEO, user.into(), VersionedState::NEVER, LikeCount::NEVER)
                .await;
            one.apply(VIDEO, user.into(), mark(10, true)).await;
        }
    });
    let mut keys = on_redis.keys();
    keys.retain(|key| !key.contains(":u:{") || key.ends_with("{1}"));
    keys.sort();
    let wanted = [
        "likewise:a:c:{comment:7}",
        "likewise:a:c:{video:7}",
        "likewise:a:f:{video:7}",
        "likewise:a:u:{1}",
    ];
    assert_eq!(keys, wanted);
}
