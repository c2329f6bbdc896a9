//! An actor that panics restarts with its messages intact. One that panics too often ends the process, and the next
//! process loses nothing.

use std::time::Duration;

use crate::support::checks::{diary_is_kept, everything_holds, pipeline_drains};
use crate::support::crowd::{Crowd, Outcome};
use crate::support::servers::Kind;
use crate::support::service::{Service, Setup};
use crate::support::{say, seed, until_equal, until_seen};

const ACTORS: [&str; 4] = [
    "cache_writer",
    "behavior_recorder",
    "sync_publisher",
    "retry_scheduler",
];
const CROWD: Crowd = Crowd::USUAL;

const ACTORS_OF_A_BROKER: [&str; 2] = ["event_publisher", "nats_subscriber"];

fn with_faults() -> Setup {
    Setup::new().set("LIKEWISE_FAULT_INJECTION", true)
}

matrix!([embedded, mariadb_stack]: panic_loses_no_message);

fn panic_loses_no_message(setup: Setup) {
    const PANICS: u64 = 5;
    const QUEUED: i64 = 24;
    let mut actors = ACTORS.to_vec();
    if setup.has_broker() {
        actors.extend(ACTORS_OF_A_BROKER);
    }
    let mut rng = seed::rng("panics");
    // A long lease, so that no row is processed twice because its lease expired.
    let service = setup
        .set("LIKEWISE_FAULT_INJECTION", true)
        .set("LIKEWISE_LEASE_SECONDS", 600)
        .start();
    let client = service.client();
    let running = CROWD.start(&service, &mut rng);
    for (index, actor) in actors.iter().copied().enumerate() {
        let processed = client.actor(actor).processed;
        for _ in 0..PANICS {
            client.provoke(actor);
        }
        // These requests queue behind the panics while the actor waits out each back-off.
        let first_user = 10_000 + index as i64 * QUEUED;
        like_all_at_once(&service, first_user..first_user + QUEUED);
        until_seen(
            "the actor to run again",
            || client.actor(actor),
            |now| (now.panics, now.restarts, now.state.as_str()) == (PANICS, PANICS, "running"),
        );
        let last_error = client.actor(actor).last_error.expect("an error");
        assert!(last_error.contains("panicked"), "{last_error}");
        running.wait_for(50);
        if actor != "retry_scheduler" {
            let now = client.actor(actor).processed;
            assert!(
                now > processed,
                "{actor}: {now} processed, {processed} before"
            );
        }
    }
    let diary = running.stop();
    let refused = diary.not_acknowledged();
    assert!(refused.is_empty(), "{refused:?}");
    everything_holds(&service);
    diary_is_kept(service.database(), &diary);
    // The retry scheduler claimed nothing: the queues themselves stayed intact.
    let again = "SELECT COUNT(*) FROM sync_events WHERE fencing_token <> 1 OR retry_count <> 0";
    assert_eq!(service.database().number(again), 0);
    client.until_status("/readyz", 200);
}

/// Each like must be accepted and cached. A lost message would leave its client without an answer, or with an error.
fn like_all_at_once(service: &Service, users: std::ops::Range<i64>) {
    let likes: Vec<_> = users
        .map(|user| {
            let client = service.client();
            std::thread::spawn(move || client.like(user, 1))
        })
        .collect();
    for like in likes {
        let accepted = like.join().expect("an accepted like");
        assert!(accepted.cached, "{accepted:?}");
    }
}

#[test]
fn retry_scheduler_keeps_its_schedule_through_a_panic() {
    let service = with_faults().start();
    let (client, database) = (service.client(), service.database());
    client.like(1, 1);
    pipeline_drains(&service);
    client.provoke("retry_scheduler");
    until_equal("the restart", 1, || {
        client.actor("retry_scheduler").restarts
    });
    database.execute(&[
        "UPDATE sync_events SET status = 'processing', processed_at = NULL, \
        next_attempt_at = '2020-01-01 00:00:00', lease_until = '2020-01-01 00:00:00'",
    ]);
    pipeline_drains(&service);
    let token = "SELECT fencing_token FROM sync_events";
    assert_eq!(database.number(token), 2);
}

#[test]
fn repeated_panics_end_the_process_without_loss() {
    each_panics_too_often(&ACTORS, Setup::new);
}

#[test]
fn repeated_panics_of_broker_actors_lose_nothing() {
    each_panics_too_often(&ACTORS_OF_A_BROKER, || Setup::on_parts(Kind::MariaDb));
}

fn each_panics_too_often(actors: &[&'static str], setup: fn() -> Setup) {
    std::thread::scope(|scope| {
        let threads: Vec<_> = actors
            .iter()
            .copied()
            .map(|actor| (actor, scope.spawn(move || panic_too_often(actor, setup()))))
            .collect();
        for (actor, thread) in threads {
            assert!(thread.join().is_ok(), "{actor}");
        }
    });
}

fn panic_too_often(actor: &str, setup: Setup) {
    const TOO_MANY: usize = 21;
    let mut rng = seed::rng(actor);
    let mut service = setup
        .set("LIKEWISE_FAULT_INJECTION", true)
        .set("LIKEWISE_LEASE_SECONDS", 3)
        .start();
    let client = service.client();
    let crowd = Crowd {
        threads: 2,
        ..CROWD
    };
    let running = crowd.start(&service, &mut rng);
    running.wait_for(50);
    for _ in 0..TOO_MANY {
        client.provoke(actor);
    }
    let status = service.wait(Duration::from_secs(60));
    let diary = running.stop();
    say(format_args!(
        "{actor}: {status}, {} acknowledged, others {:?}",
        diary.acknowledged().len(),
        diary.not_acknowledged()
    ));
    assert_eq!(status.code(), Some(1), "{actor}");
    // Clients see only errors that say that nothing was stored, or no answer.
    for outcome in diary.not_acknowledged() {
        match outcome {
            Outcome::Refused(code) => {
                assert!(
                    ["unavailable", "overloaded"].contains(&code.as_str()),
                    "{code}"
                );
            }
            Outcome::Unanswered(_) | Outcome::Acknowledged(_) => {}
        }
    }
    let service = service.end().start();
    everything_holds(&service);
    diary_is_kept(service.database(), &diary);
    assert_eq!(service.client().actor(actor).state, "running");
    service.client().like(1, 1);
}
