//! A 2xx answer means that the event is durable. It reaches `user_behaviors` once, `sync_events` once and the read
//! models, even if the process is killed.

use std::thread::sleep;
use std::time::Duration;

use rand::RngExt;

use crate::support::checks::{
    diary_is_kept, everything_holds, everything_holds_after_a_kill, open_rows, pipeline_drains,
};
use crate::support::crowd::{Crowd, Diary, Outcome};
use crate::support::database::Database;
use crate::support::raw_tcp::Raw;
use crate::support::servers::Kind;
use crate::support::service::{Setup, Signal};
use crate::support::{PATIENCE, say, seed, until, until_seen};

const CROWD: Crowd = Crowd::USUAL;

/// Lets calls wait longer for a lock that a test holds, so that a busy machine does not end them before the test does.
fn patient(setup: Setup) -> Setup {
    setup
        .with_patience()
        .set("LIKEWISE_REQUEST_TIMEOUT_SECONDS", 60)
}

matrix!([embedded, mariadb_stack]: kill_9_under_load_loses_nothing);

fn kill_9_under_load_loses_nothing(setup: Setup) {
    let rounds = if setup.has_broker() { 5 } else { 8 };
    let mut rng = seed::rng("kill_9");
    let mut setup = setup.set("LIKEWISE_LEASE_SECONDS", 3);
    let mut diary = Diary::default();
    for round in 0..rounds {
        if round % 2 == 0 {
            // The kill may also hit the start of the process.
            let starting = setup.launch(&["serve"]);
            sleep(Duration::from_millis(rng.random_range(0..100)));
            drop(starting);
        }
        let service = setup.start();
        // A process killed during a migration leaves its lease.
        service.client().until_status("/readyz", 200);
        let running = CROWD.start(&service, &mut rng);
        running.wait_for(rng.random_range(20..500));
        sleep(Duration::from_micros(rng.random_range(0..20_000)));
        setup = service.kill();
        let heard = running.stop();
        let (acknowledged, other) = (heard.acknowledged().len(), heard.not_acknowledged());
        say(format_args!(
            "round {round}: {acknowledged} acknowledged, {} not",
            other.len()
        ));
        let is_unanswered = |outcome: &&Outcome| matches!(outcome, Outcome::Unanswered(_));
        assert!(other.iter().all(is_unanswered), "{other:?}");
        assert!(acknowledged > 0 && !other.is_empty());
        diary.extend(heard);
    }
    let service = setup.start();
    everything_holds_after_a_kill(&service, &diary);
    diary_is_kept(service.database(), &diary);

    let sent = diary.acknowledged().len() + diary.not_acknowledged().len();
    let stored = service.database().count("user_behaviors");
    assert!(
        stored as usize <= sent,
        "{stored} behaviors of {sent} requests"
    );
}

/// One process serves the API and two others do the work. The test kills and stops the workers in turn while the api
/// accepts likes.
#[test]
fn api_loses_nothing_while_workers_come_and_go() {
    let mut rng = seed::rng("workers_come_and_go");
    let role = |setup: Setup, role| setup.set("LIKEWISE_ROLE", role);
    let parts = Setup::on_parts(Kind::MariaDb).set("LIKEWISE_LEASE_SECONDS", 3);
    let worker = || role(parts.beside(), "worker");
    let api = role(parts.beside(), "api").start();
    let (mut first, mut second) = (worker().start(), worker().start());
    let running = CROWD.start(&api, &mut rng);
    for _ in 0..2 {
        running.wait_for(rng.random_range(100..300));
        first = first.kill().start();
        running.wait_for(rng.random_range(100..300));
        second = second.stop().start();
    }
    let diary = running.stop();
    let refused = diary.not_acknowledged();
    assert!(refused.is_empty(), "{refused:?}");
    everything_holds(&api);
    diary_is_kept(api.database(), &diary);
    for worker in [first, second] {
        worker.client().until_status("/readyz", 200);
    }
}

matrix!([embedded, mariadb_stack]: sigint_under_load_drains);
matrix!([embedded]: sigterm_under_load_drains);

fn sigint_under_load_drains(setup: Setup) {
    signal_under_load_drains(setup, Signal::INT);
}

fn sigterm_under_load_drains(setup: Setup) {
    signal_under_load_drains(setup, Signal::TERM);
}

fn signal_under_load_drains(setup: Setup, signal: Signal) {
    let mut rng = seed::rng("signal_under_load");
    let mut service = setup.start();
    let running = CROWD.start(&service, &mut rng);
    running.wait_for(rng.random_range(100..600));
    service.signal(signal);
    let status = service.wait(PATIENCE);
    assert_eq!(status.code(), Some(0), "{status}");
    let diary = running.stop();
    let setup = service.end();
    assert_eq!(open_rows(setup.database()), 0);
    if setup.has_broker() {
        // The next worker takes the remaining messages from the stream.
        let service = setup.start();
        everything_holds(&service);
        diary_is_kept(service.database(), &diary);
        return;
    }
    diary_is_kept(setup.database(), &diary);
    setup.verify(0).holds();
}

#[test]
fn like_in_flight_at_shutdown_is_answered() {
    let mut service = patient(Setup::new()).start();
    let client = service.client();
    client.like(1, 1);
    pipeline_drains(&service);
    let held = service.database().hold_writes();
    let late = {
        let client = service.client();
        std::thread::spawn(move || client.try_like("PUT", 2, 1))
    };
    client.until_depth("behavior_recorder", 1);
    service.signal(Signal::TERM);
    // Requests during the drain learn that the process is not ready, or get no connection.
    until(
        "the service to turn new requests away",
        PATIENCE,
        || match service.client().try_send("GET", "/readyz", &[], b"") {
            Ok(answer) if answer.status == 200 => Err("ready".to_owned()),
            Ok(answer) => {
                let report = answer.has_status(503).json();
                assert_eq!(report["ready"], false, "{report}");
                assert_eq!(report["draining"], true, "{report}");
                Ok(())
            }
            Err(_) => Ok(()),
        },
    );
    drop(held);
    late.join().expect("a client").expect("an answer").ok();
    assert_eq!(service.wait(PATIENCE).code(), Some(0));
    let setup = service.end();
    assert_eq!(open_rows(setup.database()), 0);
    setup.verify(0).holds();
    let count = "SELECT like_count FROM likewise_like_counts WHERE resource_id = 1";
    assert_eq!(setup.database().number(count), 2);
}

#[test]
fn accepted_events_are_finished_before_shutdown() {
    let setup = Setup::new().on(&Database::hosted(Kind::MariaDb));
    let mut service = patient(setup).start();
    let client = service.client();
    client.like(1, 1);
    pipeline_drains(&service);
    // Behaviors are recorded, but the sync of this video blocks.
    let count = "SELECT * FROM likewise_like_counts WHERE resource_id = 1";
    let held = service.database().hold_rows(count);
    client.like(2, 1);
    service.signal(Signal::TERM);
    client.until_refused();
    drop(held);
    assert_eq!(service.wait(PATIENCE).code(), Some(0));
    let setup = service.end();
    assert_eq!(open_rows(setup.database()), 0);
    setup.verify(0).holds();
}

#[test]
fn shutdown_during_a_claim_is_clean() {
    // Less than the drain timeout of twenty seconds.
    const SOON: Duration = Duration::from_secs(19);
    let mut service = Setup::new().start();
    let client = service.client();
    let held = service.database().hold_writes();
    let reserved = || client.actor("sync_publisher").mailbox.reserved;
    until_seen("a claim to wait for the database", reserved, |reserved| {
        *reserved > 0
    });
    service.signal(Signal::TERM);
    service.client().until_refused();
    drop(held);
    let status = service.wait(SOON);
    assert_eq!(status.code(), Some(0), "{status}");
}

#[test]
fn client_disconnect_leaves_no_partial_like() {
    let service = patient(Setup::new()).start();
    let held = service.database().hold_writes();
    for user in 1..=20 {
        let request = format!(
            "PUT /v1/videos/1/like HTTP/1.1\r\nHost: localhost\r\nX-User-Id: {user}\r\n\r\n"
        );
        let mut raw = Raw::connect(service.address());
        raw.send(request.as_bytes());
        let client = service.client();
        // The client disconnects while its like is in flight.
        client.until_depth("behavior_recorder", user as u64);
        drop(raw);
    }
    drop(held);
    service.database().until_count("user_behaviors", 20);
    everything_holds(&service);
}
