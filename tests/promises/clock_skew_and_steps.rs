//! Promise 8, for clocks: wall clocks step and differ, and acknowledged likes still count.

use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use chrono::{SecondsFormat, TimeDelta, Utc};
use serde_json::json;

use crate::nats::{LIKES, Publisher, event};
use crate::support::checks::{everything_holds, pipeline_drains, stored_counts, stored_states};
use crate::support::clock::Clock;
use crate::support::database::Database;
use crate::support::http::Client;
use crate::support::redis_and_nats::Stack;
use crate::support::servers::Kind;
use crate::support::service::{Service, Setup};
use crate::support::{until_equal, until_seen};

/// The time in an event's id, in seconds from now on the machine's clock.
fn seconds_ahead(event_id: &str) -> i64 {
    let id: uuid::Uuid = event_id.parse().expect("an event id");
    let (seconds, _) = id.get_timestamp().expect("a UUID v7").to_unix();
    seconds as i64 - Utc::now().timestamp()
}

#[test]
fn stepped_clock_is_seen_by_the_service() {
    // Forward only, because the ids of one process never go back and it draws some at its start.
    let offsets = [-3_600, 0, 3_600].map(TimeDelta::seconds);
    let clock = Clock::new();
    clock.set(offsets[0]);
    let service = Setup::on_parts(Kind::MariaDb).with_clock(&clock).start();
    let client = service.client();
    for offset in offsets {
        clock.set(offset);
        let offset = offset.num_seconds();
        let ahead = seconds_ahead(&client.like(1, 1).event_id);
        assert!((ahead - offset).abs() < 60, "{ahead} s ahead, not {offset}");
    }
}

/// Waits until a pair is stored in this state.
#[track_caller]
fn stored(service: &Service, pair: (i64, i64), liked: bool) {
    until_equal("the state to be stored", Some(liked), || {
        stored_states(service.database()).get(&pair).copied()
    });
    pipeline_drains(service);
}

/// The lead of a user's newest version over the machine's clock, in seconds.
fn version_ahead(service: &Service, user: i64) -> i64 {
    let newest = service.database().number(&format!(
        "SELECT MAX(version) FROM user_behaviors WHERE user_id = {user}"
    ));
    (newest - Utc::now().timestamp_micros()) / 1_000_000
}

/// Likes while the clock is an hour ahead, and after it is right again. `stamped` is the largest lead of the first
/// like's version, in seconds.
fn versions_return(setup: Setup, stamped: RangeInclusive<i64>) {
    let clock = Clock::new();
    let service = setup.with_clock(&clock).start();
    let client = service.client();
    clock.set(TimeDelta::hours(1));
    client.like(1, 1);
    stored(&service, (1, 1), true);
    let ahead = version_ahead(&service, 1);
    assert!(stamped.contains(&ahead), "{ahead} s ahead");
    clock.set(TimeDelta::zero());
    for user in 2..20 {
        client.like(user, 1);
        stored(&service, (user, 1), true);
        assert!(version_ahead(&service, user) <= 2);
    }
    everything_holds(&service);
    assert_eq!(stored_counts(service.database())[&1], 19);
    let quarantined = "SELECT COUNT(*) FROM likewise_quarantined_events";
    assert_eq!(service.database().number(quarantined), 0);
}

#[test]
fn versions_return_to_a_clock_set_back() {
    versions_return(Setup::new(), 3_000..=3_700);
}

#[test]
fn versions_follow_the_database_clock() {
    versions_return(Setup::on_parts(Kind::MariaDb), -60..=2);
}

matrix!([embedded, postgres_stack]: request_wins_over_a_future_version);

fn request_wins_over_a_future_version(setup: Setup) {
    // The database server dates the event, so no version is ahead and no request is repeated.
    let behaviors = match setup.database() {
        Database::Sqlite(_) => 3,
        _ => 2,
    };
    let clock = Clock::new();
    let service = setup.with_clock(&clock).start();
    let client = service.client();
    clock.set(TimeDelta::hours(1));
    client.like(1, 1);
    clock.set(TimeDelta::zero());
    // The pair is in the cache.
    let unliked = client.unlike(1, 1);
    assert_eq!((unliked.changed, unliked.like_count), (Some(true), Some(0)));
    stored(&service, (1, 1), false);
    // A request over a future version is sent twice. Every other pair follows the clock.
    let recorded = "SELECT COUNT(*) FROM user_behaviors WHERE user_id = 1";
    assert_eq!(service.database().number(recorded), behaviors);
    client.like(2, 1);
    stored(&service, (2, 1), true);
    assert!(version_ahead(&service, 2) <= 2);
    everything_holds(&service);
}

#[test]
fn request_wins_after_a_restart_with_the_clock_set_back() {
    let clock = Clock::new();
    clock.set(TimeDelta::hours(1));
    let service = Setup::new().with_clock(&clock).start();
    service.client().like(1, 1);
    stored(&service, (1, 1), true);
    clock.set(TimeDelta::zero());
    // The restart lost the cache in the process.
    let service = service.stop().start();
    let unliked = service.client().unlike(1, 1);
    assert_eq!((unliked.changed, unliked.like_count), (Some(true), Some(0)));
    stored(&service, (1, 1), false);
    assert!(!service.client().read(1, 1).liked);
    everything_holds(&service);
}

/// Publishes likes of users 1 to 4, dated two minutes ahead, to a service that has not read them.
fn liked_ahead(service: &Service, stack: &Stack) {
    let ahead = Utc::now() + TimeDelta::minutes(2);
    let ahead = ahead.to_rfc3339_opts(SecondsFormat::Micros, true);
    let publisher = Publisher::of(&stack.nats);
    for user in 1..=4 {
        publisher.publish(LIKES, event(user, 1, "like", &ahead).to_string());
    }
    for user in 1..=4 {
        stored(service, (user, 1), true);
    }
}

/// Sends two unlikes one by one, and two in a batch.
fn take_back(client: &Client) {
    client.unlike(1, 1);
    client.unlike(2, 1);
    let unlike = |user: i64| json!({"user_id": user, "resource_type": "video", "resource_id": 1, "behavior": "unlike"});
    // The last unlike of the pair in the batch wins.
    let like =
        json!({"user_id": 3, "resource_type": "video", "resource_id": 1, "behavior": "like"});
    let body = json!({"behaviors": [like, unlike(3), unlike(4)]}).to_string();
    let headers = [("Content-Type", "application/json")];
    let answer = client.try_send("POST", "/v1/likes", &headers, body.as_bytes());
    let answer = answer.expect("an answer");
    assert_eq!(answer.json()["accepted"], 3, "{answer:?}");
}

fn all_are_taken_back(service: &Service) {
    for user in 1..=4 {
        stored(service, (user, 1), false);
    }
    assert_eq!(stored_counts(service.database())[&1], 0);
    everything_holds(service);
}

#[test]
fn request_wins_over_an_uncached_foreign_event() {
    let stack = Stack::start();
    let service = stack.setup().start();
    liked_ahead(&service, &stack);
    take_back(&service.client());
    all_are_taken_back(&service);
}

#[test]
fn request_wins_over_a_foreign_event_while_redis_is_away() {
    let mut stack = Stack::start();
    let service = stack.setup().start();
    liked_ahead(&service, &stack);
    stack.redis.kill();
    take_back(&service.client());
    for user in 1..=4 {
        stored(&service, (user, 1), false);
    }
    stack.redis.run();
    service.client().until_read(1, 1, (false, Some(0)));
    all_are_taken_back(&service);
}

/// The lead of a process's clock over the database's, as the process reports it, in seconds.
fn skew(client: &Client) -> f64 {
    let report = client.get("/readyz").json();
    let skew = report["clock_skew_ms"].as_i64();
    skew.unwrap_or_else(|| panic!("no skew: {report:#}")) as f64 / 1_000.0
}

fn log_lines(service: &Service, text: &str) -> usize {
    let log = service.setup().folder().join("stderr.0");
    let log = std::fs::read_to_string(log).expect("a log");
    log.lines().filter(|line| line.contains(text)).count()
}

fn clock_skew_is_reported(setup: Setup) {
    let clock = Clock::new();
    let setup = setup.with_clock(&clock);
    let service = setup.start_as(&["serve", "--role", "worker"]);
    let client = service.client();
    let comes_to = |expected: f64| {
        until_seen(
            "the skew to be measured",
            || skew(&client),
            |skew| (skew - expected).abs() < 0.9,
        );
    };
    let looks = |more: u64| {
        let before = client.actor("health_monitor").processed;
        let looks = || client.actor("health_monitor").processed;
        until_seen("more looks", looks, |looks| *looks >= before + more);
    };
    comes_to(0.0);
    assert_eq!(log_lines(&service, "clock is off"), 0);
    clock.set(TimeDelta::hours(-1));
    comes_to(-3_600.0);
    looks(3);
    assert_eq!(log_lines(&service, "clock is off"), 1);
    let details = client.actor("health_monitor").details;
    let shown = details["clock_skew_ms"].as_i64().expect("a skew");
    assert!((-3_601_000..-3_599_000).contains(&shown), "{details}");
    let metrics = client.get("/metrics").text;
    assert!(
        metrics.contains("likewise_clock_skew_seconds -3"),
        "{metrics}"
    );
    clock.set(TimeDelta::zero());
    comes_to(0.0);
    looks(3);
    assert_eq!(log_lines(&service, "clock is off"), 1);
    assert_eq!(log_lines(&service, "agrees with the database's again"), 1);
}

matrix!([mariadb_stack, postgres_stack]: clock_skew_is_reported);

#[test]
fn leases_follow_the_database_clock() {
    let clock = Clock::new();
    let setup = Setup::new().on(&Database::hosted(Kind::MariaDb));
    let setup = setup.set("LIKEWISE_LEASE_SECONDS", 5);
    let service = setup.with_clock(&clock).start();
    let client = service.client();
    client.like(1, 1);
    stored(&service, (1, 1), true);
    // The recorder can write, and the sync publisher cannot.
    let held = service
        .database()
        .hold_rows("SELECT * FROM likewise_like_counts");
    for (user, hours) in [(2, 1), (3, -1)] {
        clock.set(TimeDelta::hours(hours));
        client.like(user, 1);
        // An attempt that has failed holds no lease any more, and the row is due within a back-off.
        let left = service.database().number(&format!(
            "SELECT TIMESTAMPDIFF(SECOND, UTC_TIMESTAMP(6), COALESCE(lease_until, next_attempt_at)) \
             FROM sync_events WHERE user_id = {user}"
        ));
        assert!((-60..=30).contains(&left), "{left} seconds");
    }
    let setup = service.kill();
    drop(held);
    clock.set(TimeDelta::zero());
    // The next process resumes when the leases expire, also after a step of the clock.
    let service = setup.start();
    for user in 1..=3 {
        stored(&service, (user, 1), true);
    }
    everything_holds(&service);
}

matrix!([mariadb, postgres]:
    fast_clock_prunes_nothing_young,
    commands_follow_the_database_clock,
);

fn fast_clock_prunes_nothing_young(setup: Setup) {
    let clock = Clock::new();
    let service = setup.with_clock(&clock).start();
    let like = |service: &Service| {
        let client = service.client().as_user(1);
        client.send("PUT", "/v1/videos/1/like", &[("Idempotency-Key", "k")])
    };
    let first = like(&service);
    first.has_status(200);
    service.client().unlike(1, 1);
    stored(&service, (1, 1), false);
    let setup = service.stop();
    // Otherwise the worker would prune again only tomorrow.
    setup.database().execute(&["DELETE FROM likewise_jobs"]);
    clock.set(TimeDelta::days(100));
    let service = setup.start();
    let pruned = "likewise_jobs WHERE kind = 'prune' AND state = 'completed'";
    service.database().until_count(pruned, 1);
    assert_eq!(service.database().count("sync_events"), 2);
    let again = like(&service);
    assert_eq!(again.header("Idempotency-Replayed"), Some("true"));
    assert_eq!(again.text, first.text);
    assert!(!service.client().read(1, 1).liked);
    let prune = ["prune", "--ledger-days", "30", "--behaviors-days", "30"];
    let pruned = service.setup().run(&prune);
    pruned
        .exits(0)
        .prints("deleted 0 ledger rows and 0 behaviors");
    everything_holds(&service);
    // No limit of retention is in the future, so the loss of young rows shows.
    service
        .database()
        .execute(&["DELETE FROM sync_events WHERE user_id = 1"]);
    let broken = service.setup().verify(5).broken();
    assert!(!broken.is_empty());
}

fn commands_follow_the_database_clock(setup: Setup) {
    let clock = Clock::new();
    let setup = setup.with_clock(&clock);
    setup.run(&["migrate"]).exits(0);
    clock.set(TimeDelta::hours(1));
    let rebuilt = setup.run(&["rebuild", "read-models"]);
    rebuilt.exits(0).prints("created job");
    let soon = Utc::now() + TimeDelta::minutes(1);
    let ahead = format!(
        "likewise_jobs WHERE created_at > '{}'",
        soon.format("%F %T")
    );
    let database = setup.database();
    assert_eq!(database.count("likewise_jobs"), 1);
    assert_eq!(database.count(&ahead), 0);
}

/// The clock of SQLite is the process's, so NATS's clock is an hour ahead of the database's.
#[test]
fn waiting_likes_stay_while_the_clock_of_nats_is_ahead() {
    let (clock, stack) = (Clock::new(), Stack::start());
    let behind = TimeDelta::hours(-1);
    clock.set(behind);
    let api = stack.setup().with_clock(&clock);
    let api = api.start_as(&["serve", "--role", "api"]);
    let client = api.client();
    // No worker takes it from the stream.
    assert_eq!(client.like(1, 7).durability, "broker");
    // From here on it has been in flight for too long.
    clock.set(behind + TimeDelta::minutes(1));
    // A read has the entries compared with the database and the stream, every five seconds at most.
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(12) {
        let read = client.read(1, 7);
        assert_eq!((read.liked, read.like_count), (true, Some(1)));
        std::thread::sleep(Duration::from_millis(100));
    }
    let writer = client.actor("cache_writer");
    let compared = writer.messages.iter().find(|of| of["type"] == "Reconcile");
    assert!(compared.is_some(), "{:?}", writer.messages);
    let worker = stack.setup().on(api.database()).with_clock(&clock);
    let worker = worker.start_as(&["serve", "--role", "worker"]);
    stored(&worker, (1, 7), true);
    everything_holds(&api);
}
