//! A cluster moves slots, loses masters and promotes replicas.

use std::time::{Duration, Instant};

use likewise::cache::{Cache, CacheError, RedisCache, RedisClusterCache};
use likewise::config::RedisOptions;
use likewise::domain::{EntryId, LikeCount, Pair, Reading, Resource, UserId, VersionedState};

use super::{
    HASTY, HOUR, NOW, One, PLENTY, TIMEOUT, VIDEO, cache_on_cluster, count, deployment, known,
    mark, options, run,
};
use crate::support::redis_cluster::{MASTERS, RedisCluster, connection};
use crate::support::servers::{Kind, Server};
use crate::support::{PATIENCE, until, until_seen};

/// Videos and users of which each master has some.
const SOME: std::ops::RangeInclusive<i64> = 1..=30;

/// A call fails at the time-out, or after one attempt to connect. The rest is room for a busy machine.
const BOUND: Duration = Duration::from_secs(30);

/// The keys of a cache on a cluster, whose tests do not know the generation.
fn count_key(video: i64) -> String {
    format!("{{video:{video}}}")
}

fn user_key(user: i64) -> String {
    format!("{{{user}}}")
}

/// Fills an entry of each of some users, and a count of each of some videos.
async fn fill_some(cache: &dyn Cache) {
    for number in SOME {
        let video = Resource::video(number);
        let liked = mark(5, true);
        One(cache)
            .learn(video, number.into(), liked, count(1, 1))
            .await;
    }
}

/// Returns the readings of these users of their own videos.
async fn read_some(cache: &dyn Cache) -> Vec<Result<Reading, CacheError>> {
    let mut readings = Vec::new();
    for number in SOME {
        let (user, video) = (UserId::from(number), Resource::video(number));
        let read = cache.read(Some(&user), &[video], NOW).await;
        readings.push(read.map(|mut read| read.remove(0)));
    }
    readings
}

#[test]
fn moving_slots_are_followed() {
    let cluster = RedisCluster::start();
    let cache = cache_on_cluster(&cluster, PLENTY);
    let other = RedisClusterCache::new(
        &options(cluster.url(), PLENTY, HOUR),
        deployment("other").into(),
    );
    let other = other.expect("a URL");
    run(fill_some(&cache));
    run(fill_some(&other));
    let (video, user) = (7, 8);
    for (key, number) in [(count_key(video), video), (user_key(user), user)] {
        let from = cluster.owner(&key);
        let version = std::cell::Cell::new(10 * number);
        cluster.move_slot(&key, from, (from + 1) % MASTERS, || {
            run(async {
                let one = One(&cache);
                version.set(version.get() + 1);
                let liked = version.get() % 2 == 1;
                let pair = Pair {
                    resource: Resource::video(video),
                    user_id: user.into(),
                };
                let event = (pair.clone(), mark(version.get(), liked));
                let applied = cache.apply(&[event], NOW).await.expect("an answer");
                assert_eq!(applied[0].newer, None, "{applied:?}");
                let read = one.read(pair.resource, pair.user_id).await;
                assert_eq!(read, known(liked, 1 + i64::from(liked)));
                // A key that is on neither master yet.
                let unknown = Resource::video(1_000_000 + version.get());
                let life = one.open(unknown.clone(), user.into()).await.1;
                assert!(one.fill_count(life, unknown, count(3, 1)).await);
            });
        });
    }
    // It has seen none of the moves.
    let read = run(One(&other).read(Resource::video(video), video.into()));
    assert_eq!(read, known(true, 1));
    assert!(!run(other.restarted()).expect("an answer"));
    for reading in run(read_some(&other)) {
        assert_eq!(reading.expect("an answer"), known(true, 1));
    }
}

#[test]
fn promoted_replica_drops_its_entries_before_it_is_read() {
    let mut cluster = RedisCluster::with_replica();
    let cache = cache_on_cluster(&cluster, PLENTY);
    run(async {
        fill_some(&cache).await;
        assert!(!cache.restarted().await.expect("an answer"));
    });
    let is_lost = |number: i64| {
        let owners = [count_key(number), user_key(number)].map(|key| cluster.owner(&key));
        owners.contains(&0)
    };
    let lost: Vec<bool> = SOME.map(is_lost).collect();
    assert!(lost.contains(&true) && lost.contains(&false));
    cluster.nodes[0].kill();
    // Entries of the other masters are read at once.
    let started = Instant::now();
    for (reading, lost) in run(read_some(&cache)).into_iter().zip(&lost) {
        match reading {
            Ok(reading) => assert_eq!((reading, *lost), (known(true, 1), false)),
            // Until the replica is promoted, the other masters may refuse all commands.
            Err(_) => assert!(started.elapsed() < BOUND),
        }
    }
    assert!(started.elapsed() < BOUND, "{:?}", started.elapsed());
    assert!(run(cache.ping()).is_err());
    until("the replica to be promoted", PATIENCE, || {
        let restarted = run(cache.restarted());
        matches!(restarted, Ok(true))
            .then_some(())
            .ok_or(format!("{restarted:?}"))
    });
    // It may lack the last writes of the killed master.
    let readings = until("the other masters to know of it", PATIENCE, || {
        let readings = run(read_some(&cache));
        let known = readings.iter().all(|reading| match reading {
            Ok(_) => true,
            Err(error) => error.is_unsent(),
        });
        known
            .then_some(readings.clone())
            .ok_or(format!("{readings:?}"))
    });
    for (reading, lost) in readings.into_iter().zip(&lost) {
        assert_eq!(reading.is_err(), *lost, "{reading:?}");
    }
    run(async {
        cache.drop_stale().await.expect("an answer");
        assert!(!cache.restarted().await.expect("an answer"));
        cache.ping().await.expect("all masters answer");
    });
    let masters = cache.masters();
    assert_eq!(masters.len(), MASTERS, "{masters:?}");
    assert!(masters.iter().all(|master| master.is_up), "{masters:?}");
    for (number, reading) in SOME.zip(run(read_some(&cache))) {
        let reading = reading.expect("an answer");
        let owners = [user_key(number), count_key(number)].map(|key| cluster.owner(&key));
        let wanted = Reading {
            liked: (owners[0] != 0).then_some(true),
            like_count: (owners[1] != 0).then_some(1),
            is_overdue: false,
        };
        assert_eq!(reading, wanted, "{number}");
    }
}

#[test]
fn restarted_master_drops_its_entries_only() {
    let mut cluster = RedisCluster::start();
    let cache = cache_on_cluster(&cluster, PLENTY);
    run(async {
        fill_some(&cache).await;
        assert!(!cache.restarted().await.expect("an answer"));
    });
    cluster.nodes[1].kill();
    cluster.nodes[1].run();
    until_seen(
        "the restart to be noticed",
        || run(cache.restarted()).ok(),
        |restarted| *restarted == Some(true),
    );
    run(cache.drop_stale()).expect("an answer");
    assert_eq!(run(cache.restarted()).ok(), Some(false));
    until("all masters to accept writes", PATIENCE, || {
        run(cache.ping())
    });
    let kept = |entries: Vec<EntryId>| {
        let views = run(cache.inspect(&entries)).expect("an answer");
        views.iter().map(Option::is_some).collect::<Vec<_>>()
    };
    let users = kept(SOME.map(|number| EntryId::User(number.into())).collect());
    let counts = kept(
        SOME.map(|number| EntryId::Count(Resource::video(number)))
            .collect(),
    );
    for (number, (user, count)) in SOME.zip(users.into_iter().zip(counts)) {
        assert_eq!(user, cluster.owner(&user_key(number)) != 1, "user {number}");
        assert_eq!(
            count,
            cluster.owner(&count_key(number)) != 1,
            "video {number}"
        );
    }
}

#[test]
fn cluster_down_at_startup_counts_as_restarted() {
    let mut cluster = RedisCluster::start();
    let cache = cache_on_cluster(&cluster, PLENTY);
    for node in &mut cluster.nodes {
        node.kill();
    }
    let started = Instant::now();
    assert!(run(cache.restarted()).is_err());
    assert!(run(cache.ping()).is_err());
    assert!(run(One(&cache).0.read(None, &[VIDEO], NOW)).is_err());
    assert!(started.elapsed() < BOUND, "{:?}", started.elapsed());
    for node in &mut cluster.nodes {
        node.run();
    }
    until("the masters to accept writes", PATIENCE, || {
        run(cache.ping())
    });
    assert_eq!(run(cache.restarted()).ok(), Some(true));
    run(cache.drop_stale()).expect("an answer");
    assert_eq!(run(cache.restarted()).ok(), Some(false));
}

#[test]
fn hung_master_delays_no_other() {
    let cluster = RedisCluster::start();
    let with_timeout = |timeout: Duration| {
        let options = RedisOptions {
            timeout,
            ..options(cluster.url(), PLENTY, HOUR)
        };
        RedisClusterCache::new(&options, deployment("hung").into()).expect("a URL")
    };
    let (patient, hasty) = (with_timeout(TIMEOUT), with_timeout(HASTY));
    let are_up = || -> Vec<bool> { hasty.masters().iter().map(|master| master.is_up).collect() };
    until("the masters to be known", PATIENCE, || {
        // On a busy machine a call may fail, and its master then counts as restarted.
        let restarted = run(hasty.restarted()).map_err(|error| error.to_string())?;
        if restarted {
            run(hasty.drop_stale()).map_err(|error| error.to_string())?;
        }
        let states = (restarted, are_up());
        (states == (false, vec![true; MASTERS]))
            .then_some(())
            .ok_or(format!("{states:?}"))
    });
    run(fill_some(&patient));
    let whole = |master: usize| {
        let is_on = |number: &i64| {
            let owners = [user_key(*number), count_key(*number)].map(|key| cluster.owner(&key));
            owners == [master, master]
        };
        SOME.clone().find(is_on).expect("a pair on one master")
    };
    let read = |cache: &RedisClusterCache, number: i64| {
        let (user, video) = (UserId::from(number), [Resource::video(number)]);
        run(cache.read(Some(&user), &video, NOW))
    };
    let (here, there) = (whole(0), whole(2));
    cluster.nodes[2].suspend();
    // A call that waited for the hung master would take the whole time-out.
    let started = Instant::now();
    assert_eq!(read(&patient, here).expect("an answer"), [known(true, 1)]);
    assert!(started.elapsed() < TIMEOUT, "{:?}", started.elapsed());
    assert!(read(&hasty, there).is_err());
    // The next call is not sent to it.
    assert!(matches!(read(&hasty, there), Err(CacheError::Away)));
    assert_eq!(are_up(), [true, true, false]);
    cluster.nodes[2].resume();
    until("the master to be back", PATIENCE, || {
        run(hasty.restarted()).map_err(|error| error.to_string())?;
        read(&hasty, there)
            .map(drop)
            .map_err(|error| error.to_string())
    });
}

/// The two parts of an apply are two round trips, and a settlement may come in between.
#[test]
fn event_settled_before_it_joins_is_counted_once() {
    let cluster = RedisCluster::shared();
    let cache = cache_on_cluster(&cluster, PLENTY);
    let one = One(&cache);
    run(one.learn(VIDEO, 1.into(), VersionedState::NEVER, LikeCount::NEVER));
    let slow = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    slow.block_on(cache.ping()).expect("all masters answer");
    let pair = Pair {
        resource: VIDEO,
        user_id: 1.into(),
    };
    let events = [(pair, mark(10, true))];
    let mut applying = Box::pin(cache.apply(&events, NOW));
    slow.block_on(async {
        // It sends the first part, and does not read the answer.
        assert!(futures_util::poll!(applying.as_mut()).is_pending());
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
    });
    until_seen(
        "the user entry to have the event",
        || run(one.read(VIDEO, 1.into())),
        |read| *read == known(true, 0),
    );
    run(one.settle(VIDEO, &[(1.into(), mark(10, true))], Some(count(1, 1))));
    std::thread::sleep(Duration::from_millis(1));
    slow.block_on(applying).expect("an answer");
    assert_eq!(run(one.read(VIDEO, 1.into())), known(true, 1));
}

#[test]
fn url_of_the_wrong_kind_is_reported() {
    let cluster = RedisCluster::shared();
    let url = cluster.nodes[0].url();
    let single = RedisCache::new(&options(url, PLENTY, HOUR), deployment("a").into());
    let single = single.expect("a URL");
    run(async {
        let resources: Vec<_> = SOME.map(Resource::video).collect();
        let error = single.read(None, &resources, NOW).await.expect_err("slots");
        assert!(error.to_string().contains("redis+cluster://"), "{error}");
    });
    let server = Server::start(Kind::Redis);
    let url = server.url().replace("redis://", "redis+cluster://");
    let of_cluster = RedisClusterCache::new(&options(url, PLENTY, HOUR), deployment("a").into());
    let error = run(of_cluster.expect("a URL").ping()).expect_err("no cluster");
    assert!(error.to_string().contains("redis://"), "{error}");
    for wrong in [
        "redis+cluster://",
        "redis+cluster://127.0.0.1:7001/2",
        "redis+cluster://127.0.0.1:x",
        "http+cluster://127.0.0.1",
    ] {
        let options = options(wrong.to_owned(), PLENTY, HOUR);
        let cache = RedisClusterCache::new(&options, deployment("a").into());
        let error = cache.err().expect("not a URL of a cluster");
        assert!(error.to_string().contains("LIKEWISE_REDIS_URL"), "{error}");
    }
}

#[test]
fn masters_with_a_password_accept_the_urls_credentials() {
    let cluster = RedisCluster::start();
    for node in &cluster.nodes {
        let mut connection = connection(node);
        for setting in ["masterauth", "requirepass"] {
            let () = redis::cmd("CONFIG")
                .arg(&["SET", setting, "hush"])
                .query(&mut connection)
                .expect("an answer");
        }
    }
    let url = cluster.url().replace("://", "://:hush@");
    let cache = RedisClusterCache::new(&options(url, PLENTY, HOUR), deployment("a").into());
    run(fill_some(&cache.expect("a URL")));
    let cache = cache_on_cluster(&cluster, PLENTY);
    let error = run(cache.ping()).expect_err("no password");
    assert!(
        error.to_string().contains("NOAUTH") || error.to_string().contains("uthentication"),
        "{error}"
    );
}
