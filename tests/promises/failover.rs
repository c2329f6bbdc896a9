//! After a failover, the old database or Redis is read-only under its open connections. Likes are still accepted, no
//! read comes from the old server, `/readyz` reports it, the log stays short, and the service recovers without a
//! restart.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::checks::{
    everything_holds, pipeline_drains, reads_come_to_equal_the_database, stored_once,
};
use crate::support::database::Database;
use crate::support::forwarder::Forwarder;
use crate::support::http::Client;
use crate::support::redis_and_nats::Stack;
use crate::support::servers::{Kind, Server};
use crate::support::service::{Service, Setup};
use crate::support::{PATIENCE, until, until_seen};

const VIDEO: i64 = 7;

/// Reads and likes are answered within this time during any outage: less than the database's own time-out.
const SOON: Duration = Duration::from_secs(9);

/// Waits until `/readyz` shows this state of a dependency. Returns the whole answer.
#[track_caller]
fn comes_to_be(client: &Client, part: &str, state: &str) -> serde_json::Value {
    let ready = || client.get("/readyz").json();
    until_seen(&format!("the {part} to be {state}"), ready, |ready| {
        ready["parts"][part]["state"] == state
    })
}

/// Waits until a like is accepted.
#[track_caller]
fn accepts_likes(client: &Client) {
    until("likes to be accepted", PATIENCE, || {
        match client.try_like("PUT", 2, VIDEO)? {
            answer if answer.status == 200 => Ok(()),
            answer => Err(answer.text),
        }
    });
}

matrix!([mariadb, postgres]: connections_to_a_read_only_database_are_dropped);

fn connections_to_a_read_only_database_are_dropped(kind: Kind) {
    let server = Server::start(kind);
    let stack = Stack::start();
    let service = stack.setup().on(&Database::first_of(&server)).start();
    let (client, database) = (service.client(), service.database());
    let mut events: Vec<_> = (1..=5)
        .map(|user| client.like(user, VIDEO).event_id)
        .collect();
    pipeline_drains(&service);
    let connections = database.connections();

    server.set_read_only(true);
    events.extend((100..200).map(|user| client.like(user, VIDEO).event_id));
    let ready = comes_to_be(&client, "database", "down");
    assert_eq!(ready["ready"], true, "{ready}");
    for user in 200..300 {
        let accepted = client.like(user, VIDEO);
        assert_eq!(accepted.durability, "broker");
        events.push(accepted.event_id);
    }
    // Reads that the cache can answer succeed. Reads that need the database fail, because the old server may be stale.
    assert!(client.read(1, VIDEO).liked);
    let started = Instant::now();
    client.get("/v1/videos/top").has_status(503);
    assert!(started.elapsed() < SOON, "{:?}", started.elapsed());
    // Retries during the outage add no log lines.
    let lines = [service.logged("WARN"), service.logged("ERROR")].concat();
    assert!(lines.len() < 20, "{lines:#?}");

    server.set_read_only(false);
    comes_to_be(&client, "database", "up");
    database.until_count("sync_events WHERE status = 'completed'", 205);
    stored_once(database, events.iter().map(String::as_str));
    assert_eq!(database.count("sync_events WHERE retry_count > 0"), 0);
    let now = database.connections();
    let kept: Vec<_> = now.intersection(&connections).collect();
    assert!(
        kept.is_empty(),
        "connections to the read-only server: {kept:?}"
    );
    everything_holds(&service);
}

#[test]
fn read_only_database_is_not_queried_for_every_like() {
    let server = Server::start(Kind::MariaDb);
    let service = Setup::new().on(&Database::first_of(&server)).start();
    let client = service.client();
    client.like(1, VIDEO);
    pipeline_drains(&service);
    server.set_read_only(true);
    comes_to_be(&client, "database", "down");
    let statements = || {
        let status = "SHOW GLOBAL STATUS LIKE 'Com_insert_select'";
        service.database().rows(status)[0][1].text().to_owned()
    };
    let before = statements();
    let likes: Vec<_> = (1..=1_000)
        .map(|user| {
            json!({"user_id": user, "resource_type": "video", "resource_id": VIDEO, "behavior": "like"})
        })
        .collect();
    let refused = client.post("/v1/likes", json!({ "behaviors": likes }));
    let is_refused = refused.status == 503 || refused.text.contains("unavailable");
    assert!(is_refused, "{refused:?}");
    assert_eq!(statements(), before);
    let lines = service.logged("WARN");
    assert!(lines.len() < 10, "{lines:#?}");
    server.set_read_only(false);
    comes_to_be(&client, "database", "up");
    accepts_likes(&client);
    pipeline_drains(&service);
    everything_holds(&service);
}

/// `--innodb-read-only` refuses the probe with an error of its own.
#[test]
fn innodb_read_only_is_one_outage_until_it_ends() {
    let mut server = Server::start(Kind::MariaDb);
    let service = Setup::new().on(&Database::first_of(&server)).start();
    let client = service.client();
    client.like(1, VIDEO);
    pipeline_drains(&service);
    server.stop();
    server.set_arguments(&["--innodb-read-only"]);
    server.run();
    let probes = || {
        let status = "SHOW GLOBAL STATUS LIKE 'Com_delete'";
        let probes = service.database().rows(status)[0][1].text().to_owned();
        probes.parse::<u64>().expect("a number")
    };
    let before = probes();
    until("the database to be probed often", PATIENCE, || {
        // A write is the trial of an open circuit breaker.
        let refused = client.try_like("PUT", 2, VIDEO)?;
        assert_ne!(refused.status, 200, "{refused:?}");
        match probes() - before {
            20.. => Ok(()),
            few => Err(few.to_string()),
        }
    });
    let lines = service.logged("dependency is");
    assert_eq!(lines.len(), 1, "{lines:#?}");
    server.stop();
    server.set_arguments(&[]);
    server.run();
    comes_to_be(&client, "database", "up");
    accepts_likes(&client);
    pipeline_drains(&service);
    everything_holds(&service);
}

/// The setup of a service on a PostgreSQL server behind a forwarder.
fn behind_forwarder(server: &Server) -> (Setup, Forwarder) {
    let (forwarder, url) = Forwarder::before(&server.url());
    let setup = Setup::new()
        .on(&Database::first_of(server))
        .set("LIKEWISE_DATABASE_URL", url)
        .set("LIKEWISE_DATABASE_TIMEOUT_SECONDS", 2)
        .set("LIKEWISE_AUDIT_INTERVAL_SECONDS", 0);
    (setup, forwarder)
}

/// Starts a service, with one like in the cache.
fn start_with_like(setup: Setup) -> Service {
    let service = setup.start();
    let client = service.client();
    client.like(1, VIDEO);
    pipeline_drains(&service);
    // The cache holds the pair and the count before.
    assert_eq!(client.read(2, VIDEO).like_count, Some(1));
    service
}

/// A missed settlement shows at the next one, which would count the like twice, or not at all.
fn next_like_is_counted(service: &Service) {
    pipeline_drains(service);
    comes_to_be(&service.client(), "database", "up");
    service.client().like(3, VIDEO);
    pipeline_drains(service);
    reads_come_to_equal_the_database(service);
}

/// The server commits a sync, and the answers to it and to its retries are lost. The row is completed, so no later
/// attempt settles the cache.
#[test]
fn lost_commit_answer_still_settles_the_cache() {
    let server = Server::start(Kind::Postgres);
    let (setup, forwarder) = behind_forwarder(&server);
    let service = start_with_like(setup);
    let (client, database) = (service.client(), service.database());
    forwarder.lose_commit_of("likewise_like_counts");
    // The answer is lost, so the request may have failed.
    let answer = client.try_like("PUT", 2, VIDEO).expect("an answer");
    assert_eq!(answer.status, 503, "{}", answer.text);
    assert!(forwarder.has_lost_the_commit());
    forwarder.restore();
    database.until_count("sync_events WHERE status = 'completed'", 2);
    client.until_read(2, VIDEO, (true, Some(2)));
    next_like_is_counted(&service);
}

#[test]
fn lost_commit_answer_of_a_second_step_settles() {
    let server = Server::start(Kind::Postgres);
    let (setup, forwarder) = behind_forwarder(&server);
    let service = start_with_like(setup);
    let (client, database) = (service.client(), service.database());
    // The recorder can write, and the sync publisher cannot.
    let held = database.hold_rows("SELECT * FROM likewise_like_counts");
    client.like(2, VIDEO);
    forwarder.lose_commit_of("likewise_like_counts");
    drop(held);
    until_seen(
        "the commit to be lost",
        || forwarder.has_lost_the_commit(),
        |is_lost| *is_lost,
    );
    forwarder.restore();
    next_like_is_counted(&service);
}

/// Erases the user whose like is in the cache. The answer to the commit of the step that deletes it is lost.
fn erase_without_an_answer(service: &Service, forwarder: &Forwarder) {
    forwarder.lose_commit_of("deleted AS id FROM likewise_erasures");
    let operator = [("X-Operator", "ann")];
    // The job may cut the connections before the request is answered.
    let _ = service
        .client()
        .try_send("DELETE", "/v1/users/1", &operator, b"");
    until_seen(
        "the commit to be lost",
        || forwarder.has_lost_the_commit(),
        |is_lost| *is_lost,
    );
}

/// Waits for the end of the erasure. None of its later steps finds the like.
fn erased_like_is_not_counted(service: &Service) {
    // The worker may have left the job to the next one.
    let free = "UPDATE likewise_jobs SET lease_until = NULL WHERE kind = 'erase'";
    service.database().execute(&[free]);
    service
        .database()
        .until_count("likewise_erasures WHERE finished_at IS NOT NULL", 1);
    assert_eq!(service.client().read(2, VIDEO).like_count, Some(0));
    next_like_is_counted(service);
}

#[test]
fn lost_commit_answer_of_an_erasure_leaves_no_count() {
    let server = Server::start(Kind::Postgres);
    let (setup, forwarder) = behind_forwarder(&server);
    let service = start_with_like(setup);
    erase_without_an_answer(&service, &forwarder);
    forwarder.restore();
    erased_like_is_not_counted(&service);
}

#[test]
fn erasure_killed_after_a_commit_leaves_no_count() {
    let (server, redis) = (Server::start(Kind::Postgres), Server::start(Kind::Redis));
    let (setup, forwarder) = behind_forwarder(&server);
    let service = start_with_like(setup.set("LIKEWISE_REDIS_URL", redis.url()));
    erase_without_an_answer(&service, &forwarder);
    let setup = service.kill();
    forwarder.restore();
    erased_like_is_not_counted(&setup.start());
}

#[test]
fn demoted_redis_recovers_after_promotion() {
    let stack = Stack::start();
    let service = stack.setup().start();
    let (client, database) = (service.client(), service.database());
    for user in 1..=5 {
        client.like(user, VIDEO);
    }
    pipeline_drains(&service);
    assert_eq!(client.read(1, VIDEO).like_count, Some(5));

    stack.redis.set_read_only(true);
    comes_to_be(&client, "cache", "down");
    for user in 1..=5 {
        let accepted = client.unlike(user, VIDEO);
        assert!(!accepted.cached, "{accepted:?}");
    }
    for user in 6..=100 {
        client.like(user, VIDEO);
    }
    database.until_count("sync_events WHERE status = 'completed'", 105);
    // The read does not come from Redis.
    let read = client.read(1, VIDEO);
    assert_eq!((read.liked, read.like_count), (false, Some(95)));
    let lines = service.logged("WARN");
    assert!(lines.len() < 20, "{lines:#?}");

    stack.redis.set_read_only(false);
    comes_to_be(&client, "cache", "up");
    reads_come_to_equal_the_database(&service);
    until_seen(
        "likes to be cached",
        || client.like(1, VIDEO),
        |like| like.cached,
    );
    pipeline_drains(&service);
    everything_holds(&service);
}

#[test]
fn redis_host_may_move_to_another_server() {
    let (old, new) = (Server::start(Kind::Redis), Server::start(Kind::Redis));
    let address = |server: &Server| -> SocketAddr {
        let url = server.url();
        let address = url.strip_prefix("redis://").expect("a URL of Redis");
        address.parse().expect("an address")
    };
    let name = Forwarder::to(address(&old));
    let setup = Setup::new().set("LIKEWISE_REDIS_URL", format!("redis://{}", name.address()));
    let service = setup.start();
    let client = service.client();
    client.like(1, VIDEO);
    pipeline_drains(&service);
    assert_eq!(client.read(1, VIDEO).like_count, Some(1));

    // Open connections stay on the old server.
    old.set_read_only(true);
    name.point_at(address(&new));
    until_seen(
        "a like to be in the new cache",
        || client.like(2, VIDEO),
        |like| like.cached,
    );
    let keys = redis::Client::open(new.url()).expect("a URL");
    let mut keys = keys.get_connection().expect("a server");
    let size: i64 = redis::cmd("DBSIZE").query(&mut keys).expect("a number");
    assert!(size > 0);
    pipeline_drains(&service);
    everything_holds(&service);
}

#[test]
fn lists_fail_fast_while_the_database_hangs() {
    let server = Server::start(Kind::MariaDb);
    let service = Setup::new()
        .on(&Database::first_of(&server))
        .set("LIKEWISE_READ_TIMEOUT_SECONDS", 2)
        .start();
    let client = service.client();
    client.like(1, VIDEO);
    pipeline_drains(&service);
    server.suspend();
    for path in ["/v1/videos/top", "/v1/videos/7/likes", "/v1/videos/top"] {
        let started = Instant::now();
        client.as_user(1).get(path).has_status(503);
        assert!(started.elapsed() < SOON, "{path}: {:?}", started.elapsed());
    }
    server.resume();
    client.until_status("/v1/videos/top", 200);
}

#[test]
fn cold_pages_wait_for_a_permit() {
    const PAGES: i64 = 16;
    let service = Setup::new().set("LIKEWISE_MAILBOX_CAPACITY", 250).start();
    let pages: Vec<_> = (0..PAGES)
        .map(|page| {
            let client = service.client();
            thread::spawn(move || {
                let items: Vec<_> = (1..=100)
                    .map(|item| json!({"resource_type": "video", "resource_id": page * 100 + item}))
                    .collect();
                let client = client.as_user(1);
                client.post("/v1/likes/status", json!({ "items": items }))
            })
        })
        .collect();
    for page in pages {
        page.join().expect("an answer").ok();
    }
}
