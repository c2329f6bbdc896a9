//! Every queue has a hard bound. Overload answers 503 with `Retry-After` and changes nothing; memory
//! stays flat.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::support::checks::{pipeline_drains, reads_equal_database, stored_once};
use crate::support::crowd::Pair;
use crate::support::http::Accepted;
use crate::support::service::{Service, Setup};
use crate::support::{PATIENCE, interactions, say, until, until_equal};

const CAPACITY: u64 = 8;
const THREADS: i64 = 12;
/// The number of requests: many times the capacity of every queue.
const REFUSALS: usize = 500;
/// An upper bound of what each of a load's connections may leave in the allocator.
const MEMORY_LEEWAY_KIB: u64 = 12 * 1024;

/// The answers to a flood. Each pair was requested once.
#[derive(Default)]
struct Flood {
    accepted: BTreeMap<Pair, Accepted>,
    refused: Vec<Pair>,
}

#[test]
fn full_pipeline_rejects_and_changes_nothing() {
    let service = Setup::new()
        .set("LIKEWISE_MAILBOX_CAPACITY", CAPACITY)
        .set("LIKEWISE_LEASE_SECONDS", 3)
        .start();
    let mut total = Flood::default();
    let mut memory = Vec::new();
    let mut loaded = 0;
    for round in 0..3 {
        let (flood, by_load) = flood(&service, round);
        loaded += by_load;
        total.accepted.extend(flood.accepted);
        total.refused.extend(flood.refused);
        pipeline_drains(&service);
        memory.push(service.memory_kib());
    }
    say(format_args!(
        "{} accepted and {} refused, {loaded} accepted of the loads, memory {memory:?} KiB",
        total.accepted.len(),
        total.refused.len()
    ));
    let is_flat = memory[2] <= memory[0] + MEMORY_LEEWAY_KIB;
    assert!(is_flat, "resident memory after each flood: {memory:?} KiB");

    let database = service.database();
    let events = total.accepted.values();
    stored_once(database, events.map(|accepted| accepted.event_id.as_str()));
    let stored = database.count("user_behaviors");
    assert_eq!(stored as usize, total.accepted.len() + loaded);
    service.setup().verify(60).holds();
    reads_equal_database(&service);
    let client = service.client();
    for (user, video) in total.refused.iter().step_by(total.refused.len() / 300 + 1) {
        assert!(!client.read(*user, *video).liked, "{user}, {video}");
    }
}

/// Sends more requests than the queues hold, while the recorder cannot write.
fn flood(service: &Service, round: i64) -> (Flood, usize) {
    const LOAD: i64 = 20_000;
    let first_user = 1 + round * 10_000_000;
    let of_load: Vec<Pair> = (0..LOAD).map(|n| (first_user + n, n % 50 + 1)).collect();
    let file = format!("flood.{round}.csv");
    interactions::write(&service.setup().folder().join(&file), &of_load);

    let stop = AtomicBool::new(false);
    let refusals = AtomicUsize::new(0);
    let held = service.database().hold_writes();
    let url = service.url();
    let load = format!("load --json --from {file} --url {url} --concurrency 256 --timeout 30");
    let load = service.setup().launch(&load.split(' ').collect::<Vec<_>>());
    let flood = std::thread::scope(|scope| {
        let threads: Vec<_> = (1..=THREADS)
            .map(|thread| {
                let (stop, refusals) = (&stop, &refusals);
                let first_user = first_user + thread * 100_000;
                scope.spawn(move || ask_until(service, first_user, stop, refusals))
            })
            .collect();
        // Also ends the clients of a test that fails.
        scopeguard::defer!(stop.store(true, Ordering::Relaxed));
        let client = service.client();
        until("every queue to be full", PATIENCE, || {
            for actor in client.actors() {
                let mailbox = &actor.mailbox;
                assert!(
                    mailbox.depth + mailbox.reserved <= mailbox.capacity,
                    "{actor:?}"
                );
            }
            let refused = refusals.load(Ordering::Relaxed);
            let mailbox = client.actor("behavior_recorder").mailbox;
            let is_full = refused >= REFUSALS && mailbox.depth + mailbox.reserved == CAPACITY;
            let seen = format!("{refused} refusals, {mailbox:?}");
            is_full.then_some(()).ok_or(seen)
        });
        drop(held);
        // Waiting requests succeed, and so do some of the new ones.
        let like = || {
            let answer = client.try_like("PUT", first_user + 90_000, 1);
            answer.expect("an answer").status
        };
        until_equal("the service to accept again", 200, like);
        stop.store(true, Ordering::Relaxed);
        let mut flood = Flood::default();
        for thread in threads {
            let part = thread.join().expect("a client thread");
            flood.accepted.extend(part.accepted);
            flood.refused.extend(part.refused);
        }
        flood
    });
    let loaded = load.finish();
    let report: serde_json::Value = serde_json::from_str(&loaded.stdout).expect("a report");
    assert_eq!(report["sent"], LOAD, "{report:#}");
    let failures = report["failures"].as_object().expect("failures");
    let mut kinds = failures.keys();
    assert!(kinds.all(|kind| kind.contains("503")), "{report:#}");
    // Excludes the like that was accepted again.
    let by_load = report["accepted"].as_u64().expect("a number") as usize;
    (flood, by_load + 1)
}

/// One client, which requests another pair each time.
fn ask_until(
    service: &Service,
    first_user: i64,
    stop: &AtomicBool,
    refusals: &AtomicUsize,
) -> Flood {
    let client = service.client();
    let mut flood = Flood::default();
    for user in first_user.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let pair = (user, user % 50 + 1);
        let answer = client.try_like("PUT", pair.0, pair.1).expect("an answer");
        if answer.status == 200 {
            flood.accepted.insert(pair, answer.read());
            continue;
        }
        let wait = answer.has_status(503).header("retry-after");
        let wait: u64 = wait.expect("Retry-After").parse().expect("seconds");
        assert!(wait >= 1);
        match answer.problem().as_str() {
            "overloaded" => refusals.fetch_add(1, Ordering::Relaxed),
            // Requests that entered the queue but were not stored in time.
            "unavailable" => 0,
            code => panic!("{code}: {answer:?}"),
        };
        flood.refused.push(pair);
    }
    flood
}
