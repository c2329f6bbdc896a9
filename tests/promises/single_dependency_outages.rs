//! Without Redis, NATS or the database, likes are still accepted, no acknowledged like is lost, and the service
//! recovers without a restart.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use serde_json::Value;

use crate::support::checks::{
    diary_is_kept, everything_holds, pipeline_drains, reads_come_to_equal_the_database,
};
use crate::support::crowd::Crowd;
use crate::support::database::Database;
use crate::support::http::{Accepted, Answer};
use crate::support::redis_and_nats::Stack;
use crate::support::servers::{Kind, Server};
use crate::support::service::{Service, Setup};
use crate::support::{PATIENCE, say, seed, until, until_seen};

const CROWD: Crowd = Crowd::USUAL;

/// The longest time of a request in any outage: less than the database's own time-out of ten seconds.
const SOON: Duration = Duration::from_secs(9);

/// Users and videos that no crowd uses.
const PROBE: i64 = 1_000;

/// A user without a like, whom no process has read before the outage.
const STRANGER: i64 = 9_999;

/// The dependencies of a service.
struct Whole {
    stack: Stack,
    database: Server,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Redis,
    Nats,
    Database,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Killed,
    Suspended,
}

impl Whole {
    fn start() -> Self {
        Self {
            stack: Stack::start(),
            database: Server::start(Kind::MariaDb),
        }
    }

    fn setup(&self) -> Setup {
        let setup = self.stack.setup().on(&Database::first_of(&self.database));
        setup.with_usual_limits()
    }

    fn server(&mut self, part: Part) -> &mut Server {
        match part {
            Part::Redis => &mut self.stack.redis,
            Part::Nats => &mut self.stack.nats,
            Part::Database => &mut self.database,
        }
    }

    fn take_away(&mut self, part: Part, way: Way) {
        match way {
            Way::Killed => self.server(part).kill(),
            Way::Suspended => self.server(part).suspend(),
        }
    }

    fn bring_back(&mut self, part: Part, way: Way) {
        match way {
            Way::Killed => self.server(part).run(),
            Way::Suspended => self.server(part).resume(),
        }
    }
}

impl Part {
    /// The dependency's name in `/readyz`.
    const fn name(self) -> &'static str {
        match self {
            Self::Redis => "cache",
            Self::Nats => "broker",
            Self::Database => "database",
        }
    }

    /// The expected answer to a like during the outage.
    fn shows_in(self, accepted: &Accepted) -> bool {
        match self {
            Self::Redis => !accepted.cached && accepted.like_count.is_none(),
            Self::Nats => accepted.durability == "database" && accepted.cached,
            Self::Database => accepted.durability == "broker" && accepted.cached,
        }
    }
}

#[test]
fn service_survives_a_killed_redis() {
    gone_under_load(Part::Redis, Way::Killed);
}

#[test]
fn service_survives_a_hung_redis() {
    gone_under_load(Part::Redis, Way::Suspended);
}

#[test]
fn service_survives_a_killed_nats() {
    gone_under_load(Part::Nats, Way::Killed);
}

#[test]
fn service_survives_a_hung_nats() {
    gone_under_load(Part::Nats, Way::Suspended);
}

#[test]
fn service_survives_a_killed_database() {
    gone_under_load(Part::Database, Way::Killed);
}

#[test]
fn service_survives_a_hung_database() {
    gone_under_load(Part::Database, Way::Suspended);
}

fn gone_under_load(part: Part, way: Way) {
    let mut rng = seed::rng(&format!("{part:?} {way:?}"));
    let mut whole = Whole::start();
    let service = whole.setup().start();
    for user in PROBE..PROBE + 5 {
        assert_whole(&service.client().like(user, PROBE));
    }
    pipeline_drains(&service);
    let running = CROWD.start(&service, &mut rng);
    running.wait_for(200);

    whole.take_away(part, way);
    let gone = Instant::now();
    while_gone(&service, part);
    running.wait_for(100);
    say(format_args!(
        "{part:?} {way:?}: gone for {:?}",
        gone.elapsed()
    ));
    whole.bring_back(part, way);
    let back = Instant::now();
    until("every part to be up", PATIENCE, || all_up(&service));
    let probe = || timed_like(&service, PROBE, PROBE);
    until_seen("likes to be answered as before", probe, is_whole);
    // The cache writer skips a database that hung a moment ago.
    let unread = format!("/v1/videos/{}/like", PROBE + 77);
    let read = || service.client().as_user(1).get(&unread);
    until_seen("an entry that is not cached to be read", read, |answer| {
        answer.status == 200 && answer.json()["like_count"] == 0
    });
    let took = back.elapsed();
    say(format_args!("{part:?} {way:?}: recovered after {took:?}"));
    running.wait_for(200);
    let diary = running.stop();
    let refused = diary.not_acknowledged();
    assert!(refused.is_empty(), "{refused:?}");
    everything_holds(&service);
    diary_is_kept(service.database(), &diary);
    service.stop();
}

/// Sends likes, reads and health requests during an outage.
fn while_gone(service: &Service, part: Part) {
    let client = service.client();
    let mut probe = PROBE + 10;
    let mut like = || {
        probe += 1;
        let accepted = timed_like(service, probe, PROBE);
        (part.shows_in(&accepted), accepted)
    };
    until_seen("a like that shows the outage", &mut like, |(shows, _)| {
        *shows
    });
    for _ in 0..10 {
        let (shows, accepted) = like();
        assert!(shows, "{accepted:?}");
    }
    // Earlier likes are still readable, from the cache or the database.
    for user in PROBE..PROBE + 5 {
        let answer = timed(|| client.try_like("GET", user, PROBE));
        assert_eq!(answer.ok()["liked"], true, "{answer:?}");
    }
    // Only the database can answer this.
    let unknown = timed(|| client.try_like("GET", STRANGER, PROBE + 1));
    if part == Part::Database {
        is_unavailable(&unknown);
        let accepted = timed_like(service, STRANGER, PROBE + 2);
        assert_eq!(accepted.durability, "broker");
        assert_eq!((accepted.changed, accepted.like_count), (None, None));
    } else {
        assert_eq!(unknown.ok()["liked"], false, "{unknown:?}");
    }
    until_seen(
        "/readyz to tell",
        || readiness(service),
        |(status, seen)| *status == 200 && seen["parts"][part.name()]["state"] == "down",
    );
}

#[track_caller]
fn timed(ask: impl FnOnce() -> Result<Answer, String>) -> Answer {
    let started = Instant::now();
    let answer = ask().unwrap_or_else(|error| panic!("no answer: {error}"));
    let took = started.elapsed();
    assert!(took < SOON, "answered after {took:?}: {answer:?}");
    answer
}

#[track_caller]
fn timed_like(service: &Service, user: i64, video: i64) -> Accepted {
    let answer = timed(|| service.client().try_like("PUT", user, video));
    answer.has_status(200).read()
}

#[track_caller]
fn is_unavailable(answer: &Answer) {
    answer.is_problem(503, "unavailable");
    assert!(answer.header("retry-after").is_some(), "{answer:?}");
}

fn is_whole(accepted: &Accepted) -> bool {
    accepted.durability == "broker" && accepted.cached && accepted.like_count.is_some()
}

#[track_caller]
fn assert_whole(accepted: &Accepted) {
    assert!(is_whole(accepted), "{accepted:?}");
}

fn readiness(service: &Service) -> (u16, Value) {
    let answer = service.client().get("/readyz");
    (answer.status, answer.json())
}

fn all_up(service: &Service) -> Result<(), Value> {
    let (status, seen) = readiness(service);
    let parts = seen["parts"].as_object().expect("parts");
    let up = parts.values().all(|part| part["state"] == "up");
    (up && status == 200).then_some(()).ok_or(seen)
}

#[test]
fn without_nats_and_database_likes_are_rejected() {
    let mut whole = Whole::start();
    let service = whole.setup().start();
    let client = service.client();
    assert_whole(&client.like(1, 1));
    assert_whole(&client.like(2, 1));
    client.unlike(3, 1);
    pipeline_drains(&service);
    let before = [client.read(1, 1), client.read(3, 1)];

    whole.take_away(Part::Nats, Way::Killed);
    whole.take_away(Part::Database, Way::Killed);
    for (method, user, video) in [("DELETE", 1, 1), ("PUT", 3, 1), ("PUT", 1, 2)] {
        is_unavailable(&timed(|| client.try_like(method, user, video)));
    }
    assert_eq!([client.read(1, 1), client.read(3, 1)], before);
    client.until_status("/readyz", 503);

    whole.bring_back(Part::Database, Way::Killed);
    whole.bring_back(Part::Nats, Way::Killed);
    until("every part to be up", PATIENCE, || all_up(&service));
    everything_holds(&service);
    assert_eq!([client.read(1, 1), client.read(3, 1)], before);
    assert!(!client.read(1, 2).liked);
    assert_eq!(service.database().count("user_behaviors"), 3);
    service.stop();
}

#[test]
fn without_redis_and_nats_likes_are_rejected() {
    two_gone(&[Part::Redis, Part::Nats]);
}

#[test]
fn without_redis_and_database_likes_are_rejected() {
    two_gone(&[Part::Redis, Part::Database]);
}

/// Likes could still become durable in one place, but could not be completed.
fn two_gone(parts: &[Part]) {
    let mut rng = seed::rng(&format!("{parts:?}"));
    let mut whole = Whole::start();
    let service = whole.setup().start();
    let client = service.client();
    let running = CROWD.start(&service, &mut rng);
    running.wait_for(100);
    for part in parts {
        whole.take_away(*part, Way::Killed);
    }
    client.until_status("/readyz", 503);
    let diary = running.stop();
    refused_without_a_trace(&service);
    let running = CROWD.start(&service, &mut rng);
    running.wait_for(40);
    for part in parts {
        whole.bring_back(*part, Way::Killed);
    }
    until("every part to be up", PATIENCE, || all_up(&service));
    until_like_answered(&service, PROBE, 200);
    let refused = client.read(PROBE + 2, PROBE + 2);
    assert!(!refused.liked, "{refused:?}");
    running.wait_for(100);
    let mut diary = diary;
    diary.extend(running.stop());
    everything_holds(&service);
    diary_is_kept(service.database(), &diary);
    let recorded = format!("user_behaviors WHERE user_id = {}", PROBE + 2);
    assert_eq!(service.database().count(&recorded), 0);
    service.stop();
}

/// Sends likes of this user until one is answered with this status.
#[track_caller]
fn until_like_answered(service: &Service, user: i64, status: u16) {
    until("likes to be answered", PATIENCE, || {
        let answer = service.client().try_like("PUT", user, user)?;
        (answer.status == status).then_some(()).ok_or(answer.text)
    });
}

/// Each like is answered with 503 and `Retry-After`.
fn refused_without_a_trace(service: &Service) {
    until_like_answered(service, PROBE + 1, 503);
    for _ in 0..20 {
        is_unavailable(&timed(|| {
            service.client().try_like("PUT", PROBE + 2, PROBE + 2)
        }));
    }
}

#[test]
fn redis_flush_under_load_never_contradicts_the_database() {
    const ROUNDS: usize = 5;
    let mut rng = seed::rng("flushall");
    let stack = Stack::start();
    let service = stack.setup().start();
    let running = CROWD.start(&service, &mut rng);
    let client = redis::Client::open(stack.redis.url()).expect("a URL");
    let mut connection = client.get_connection().expect("a connection");
    for _ in 0..ROUNDS {
        running.wait_for(60);
        let flushed = redis::cmd("FLUSHALL").query(&mut connection);
        let () = flushed.expect("an answer");
    }
    running.wait_for(60);
    let diary = running.stop();
    assert!(diary.not_acknowledged().is_empty());
    everything_holds(&service);
    diary_is_kept(service.database(), &diary);
    service.stop();
}

#[test]
fn redis_restored_with_older_data_recovers() {
    let mut rng = seed::rng("older data");
    let mut stack = Stack::start();
    let service = stack.setup().start();
    let saved = tempfile::tempdir().expect("a temporary folder");
    play(&service, &mut rng);
    stack.redis.stop();
    copy(&stack.redis.data(), &saved.path().join("data"));
    stack.redis.run();
    until("every part to be up", PATIENCE, || all_up(&service));
    play(&service, &mut rng);

    stack.redis.kill();
    fs::remove_dir_all(stack.redis.data()).expect("the newer data goes");
    copy(&saved.path().join("data"), &stack.redis.data());
    stack.redis.run();
    reads_come_to_equal_the_database(&service);
    everything_holds(&service);
    service.stop();
}

fn play(service: &Service, rng: &mut SmallRng) {
    let running = CROWD.start(service, rng);
    running.wait_for(300);
    let diary = running.stop();
    assert!(diary.not_acknowledged().is_empty());
    pipeline_drains(service);
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    let copied = Command::new("cp").arg("-a").args([from, to]).status();
    assert!(copied.expect("cp runs").success());
}
