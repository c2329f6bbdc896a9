//! A process that dies between two steps leaves an event in the cache as in flight. The next reader has it mended within a
//! minute, without an audit. An event of another service is not in the cache before it is settled: the next worker settles it
//! when it starts.

use std::time::{Duration, Instant};

use chrono::{TimeDelta, Utc};
use likewise::cache::{Cache, RedisCache};
use likewise::config::RedisOptions;
use likewise::domain::{Deployment, Pair, Resource, Version, VersionedState};
use redis::Commands;
use serde_json::{Value, json};

use crate::nats::{LIKES, Publisher, event};
use crate::support::checks::{everything_holds, pipeline_drains};
use crate::support::database::Database;
use crate::support::redis_and_nats::Stack;
use crate::support::servers::{Kind, Server};
use crate::support::service::{Service, Setup};
use crate::support::until_equal;

const VIDEO: i64 = 7;

/// The time within which the cache heals after it is touched.
const MINUTE: Duration = Duration::from_secs(60);

/// Reads until the answer is as expected.
#[track_caller]
fn heals(service: &Service, user: i64, expected: (bool, Option<i64>), entry: impl Fn() -> bool) {
    let started = Instant::now();
    loop {
        let read = service.client().read(user, VIDEO);
        if (read.liked, read.like_count) == expected && entry() {
            return;
        }
        assert!(
            started.elapsed() < MINUTE,
            "{read:?} instead of {expected:?}"
        );
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Returns the generation of the deployment, which names the keys on Redis.
fn generation(service: &Service) -> String {
    let generations = service
        .database()
        .texts("SELECT generation FROM likewise_deployment");
    generations.first().expect("a deployment").clone()
}

#[test]
fn commit_that_was_never_settled_reaches_the_cache() {
    let (stack, server) = (Stack::start(), Server::start(Kind::MariaDb));
    let database = Database::first_of(&server);
    let api = stack
        .setup()
        .on(&database)
        .start_as(&["serve", "--role", "api"]);
    // A worker that does not know the cache commits as one that is killed before it settles.
    let worker = Setup::new()
        .set("LIKEWISE_NATS_URL", stack.nats.url())
        .on(&database)
        .start_as(&["serve", "--role", "worker"]);
    for user in 1..=3 {
        api.client().like(user, VIDEO);
    }
    database.until_count("sync_events WHERE status = 'completed'", 3);
    let client = redis::Client::open(stack.redis.url()).expect("a URL");
    let mut redis = client.get_connection().expect("a connection");
    let key = format!("likewise:{}:c:{{video:{VIDEO}}}", generation(&api));
    let in_flight: String = redis.get(&key).expect("a count");
    assert!(in_flight.matches(':').count() > 1, "{in_flight}");
    heals(&api, 1, (true, Some(3)), || {
        let mut redis = client.get_connection().expect("a connection");
        let count: String = redis.get(&key).expect("a count");
        count.starts_with("3:") && count.matches(':').count() == 1
    });
    drop(worker);
}

#[test]
fn starting_worker_retries_to_settle_recent_events() {
    const USER: i64 = 70;
    let stack = Stack::start();
    let database = Database::hosted(Kind::MariaDb);
    let api = stack
        .setup()
        .on(&database)
        .start_as(&["serve", "--role", "api"]);
    let is_liked = || api.client().read(USER, VIDEO).liked;
    assert!(!is_liked());
    // A worker that does not know the cache commits as one that is killed before it settles.
    let killed = Setup::new()
        .set("LIKEWISE_NATS_URL", stack.nats.url())
        .on(&database)
        .start_as(&["serve", "--role", "worker"]);
    let like = event(USER, VIDEO, "like", "2026-01-02T12:00:00Z");
    Publisher::of(&stack.nats).publish(LIKES, like.to_string());
    // A message without an acknowledgement would be delivered again, and then be settled.
    pipeline_drains(&killed);
    drop(killed);
    assert!(!is_liked(), "nothing settles the event");

    database.execute(&["ALTER TABLE likewise_like_counts RENAME TO counts_away"]);
    let worker = stack
        .setup()
        .on(&database)
        .start_as(&["serve", "--role", "worker"]);
    worker.until_logged("settling recent pairs");
    database.execute(&["ALTER TABLE counts_away RENAME TO likewise_like_counts"]);
    until_equal("the like to show", true, is_liked);
}

#[test]
fn starting_worker_settles_recent_events_in_parts() {
    // One more than a settlement has. All at once would fill the mailbox of the cache writer.
    const LIKES: i64 = 501;
    let service = Setup::new().start();
    let client = service.client();
    for user in 1..=LIKES {
        client.like(user, VIDEO);
    }
    drop(client);
    let service = service.stop().start();
    let settlements = || {
        let writer = service.client().actor("cache_writer");
        let settle = writer.messages.iter().find(|of| of["type"] == "Settle");
        settle.map_or(Value::Null, |settle| settle["done"].clone())
    };
    until_equal("the recent events to be settled", json!(2), settlements);
}

#[test]
fn event_that_died_with_its_process_leaves_the_cache() {
    let stack = Stack::start();
    let service = stack.setup().start();
    let client = service.client();
    client.like(1, VIDEO);
    assert!(!client.read(2, VIDEO).liked);
    pipeline_drains(&service);
    // What a process leaves that dies between the cache and the stream.
    let version = Version::at(Utc::now() - TimeDelta::seconds(30));
    let pair = Pair {
        resource: Resource::video(VIDEO),
        user_id: 2.into(),
    };
    let liked = VersionedState {
        version,
        liked: true,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let applied = runtime.block_on(async {
        let options = RedisOptions {
            url: stack.redis.url(),
            tls_ca: None,
            tls_cert: None,
            tls_key: None,
            timeout: Duration::from_secs(2),
            time_to_live: MINUTE,
            pairs_per_user: 2_000,
        };
        let deployment = Deployment {
            id: uuid::Uuid::nil(),
            generation: generation(&service),
        };
        let cache = RedisCache::new(&options, deployment.into()).expect("a URL");
        cache.apply(&[(pair, liked)], version).await
    });
    assert_eq!(applied.expect("an answer")[0].like_count, Some(2));
    heals(&service, 2, (false, Some(1)), || true);
    assert_eq!(client.read(1, VIDEO).like_count, Some(1));
    everything_holds(&service);
}
