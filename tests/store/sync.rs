//! `sync`: the newest version of each pair wins and counts are exact, for any workers, order and repetition.

use std::collections::BTreeMap;

use chrono::Utc;
use likewise::domain::{Action, BehaviorEvent, LedgerRow, Pair, Resource, Verdict, VersionedState};
use likewise::store::FailedAttempt;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};

use super::fixture::{Bench, MAX_RETRIES, history, later, lease_at, own, pair};
use crate::support::database::Value;
use crate::support::seed;

matrix!(&[sqlite, mariadb, postgres]:
    sync_is_independent_of_order_batches_and_duplicates,
    concurrent_workers_share_pairs_without_deadlock,
    workers_lock_resources_without_deadlock,
    workers_lock_counts_that_another_process_dropped,
    completion_with_an_old_token_changes_nothing,
    dead_event_has_no_effect_on_any_worker,
    unlike_keeps_its_row_against_older_likes,
);

/// The fold of the events.
fn model(events: &[BehaviorEvent]) -> BTreeMap<Pair, VersionedState> {
    let mut states = BTreeMap::new();
    for event in events {
        let mark = VersionedState::new(event.version, event.action().expect("a like event"));
        let state = states
            .entry(pair(event.user_id.clone(), event.resource.clone()))
            .or_insert(mark);
        *state = mark.max(*state);
    }
    states
}

/// Checks that states and counts equal the fold of the events, and that the ledger is closed.
#[track_caller]
fn stored(bench: &Bench, events: &[BehaviorEvent]) {
    let states = model(events);
    let wanted = states.keys().cloned().collect();
    let found = bench.ask(|store| store.find(&wanted));
    assert_eq!(found.states, states);
    let mut counts: BTreeMap<Resource, i64> = BTreeMap::new();
    for (pair, mark) in &states {
        *counts.entry(pair.resource.clone()).or_default() += mark.weight();
    }
    let stored: BTreeMap<_, _> = found
        .counts
        .iter()
        .map(|(resource, count)| (resource.clone(), count.like_count))
        .collect();
    assert_eq!(stored, counts);
    let open = "SELECT COUNT(*) FROM sync_events WHERE status <> 'completed' \
        OR processed_at IS NULL OR next_attempt_at IS NOT NULL OR lease_until IS NOT NULL";
    assert_eq!(bench.database().number(open), 0);
    bench.verified();
}

/// The rows in random order, some of them twice, in batches of random size.
fn batches(rows: &[LedgerRow], rng: &mut SmallRng) -> Vec<Vec<LedgerRow>> {
    let mut deck = rows.to_vec();
    let again = rng.random_range(0..=rows.len() / 2);
    deck.extend_from_slice(&rows[..again]);
    deck.shuffle(rng);
    let mut batches = Vec::new();
    while !deck.is_empty() {
        let size = rng.random_range(1..=deck.len().min(40));
        batches.push(deck.split_off(deck.len() - size));
    }
    batches
}

fn sync_is_independent_of_order_batches_and_duplicates(bench: &Bench) {
    let mut rng = seed::rng("fold");
    let mut events = Vec::new();
    for _ in 0..4 {
        let part = history(120, &mut rng);
        let rows = bench.record(&part);
        events.extend(part);
        for batch in batches(&rows, &mut rng) {
            let settled = bench.sync(&batch);
            // The answer equals the stored state.
            let wanted = settled.states.keys().cloned().collect();
            let found = bench.ask(|store| store.find(&wanted));
            assert_eq!(settled.states, found.states);
            assert_eq!(settled.counts, found.counts);
            let batch_pairs = batch
                .iter()
                .map(|row| pair(row.user_id.clone(), row.resource.clone()));
            assert_eq!(wanted, batch_pairs.collect());
        }
        stored(bench, &events);
    }
    assert!(bench.sync(&[]).states.is_empty());
}

fn concurrent_workers_share_pairs_without_deadlock(bench: &Bench) {
    const WORKERS: usize = 4;
    let mut rng = seed::rng("workers");
    let mut events = Vec::new();
    for _ in 0..3 {
        let part = history(300, &mut rng);
        let rows = bench.record(&part);
        events.extend(part);
        let rngs = [(); WORKERS].map(|()| SmallRng::from_rng(&mut rng));
        std::thread::scope(|scope| {
            for mut rng in rngs {
                let rows = &rows;
                scope.spawn(move || {
                    let worker = Bench::on(bench.database());
                    for batch in batches(rows, &mut rng) {
                        worker.sync(&batch);
                    }
                });
            }
        });
        stored(bench, &events);
    }
    bench.had_no_deadlock();
}

/// Each worker has its own events, on shared resources without a count yet.
fn workers_lock_resources_without_deadlock(bench: &Bench) {
    const WORKERS: i64 = 4;
    let mut rng = seed::rng("resources");
    let version = Utc::now().timestamp_micros();
    let mut events = Vec::new();
    let mut decks = Vec::new();
    for worker in 0..WORKERS {
        let mut part: Vec<_> = (0..400)
            .map(|n| {
                let resource = Resource::video(rng.random_range(1..=120));
                own(
                    (1 + worker * 1_000 + n).into(),
                    resource,
                    Action::Like,
                    version + n,
                )
            })
            .collect();
        part.shuffle(&mut rng);
        decks.push(bench.record(&part));
        events.extend(part);
    }
    std::thread::scope(|scope| {
        for rows in &decks {
            scope.spawn(|| {
                let worker = Bench::on(bench.database());
                for batch in rows.chunks(25) {
                    worker.sync(batch);
                }
            });
        }
    });
    stored(bench, &events);
    bench.had_no_deadlock();
}

/// Each worker knows the counts, of zero, that are dropped.
fn workers_lock_counts_that_another_process_dropped(bench: &Bench) {
    const WORKERS: i64 = 4;
    const RESOURCES: i64 = 200;
    let mut version = Utc::now().timestamp_micros();
    let mut events = Vec::new();
    let workers: Vec<_> = (0..WORKERS).map(|_| Bench::on(bench.database())).collect();
    let mut sync_all = |round: i64, action| {
        let decks: Vec<_> = (1..=WORKERS)
            .map(|worker| {
                version += 1;
                let user = round * WORKERS + worker;
                let liked = (1..=RESOURCES)
                    .map(|id| own(user.into(), Resource::video(id), action, version))
                    .collect::<Vec<_>>();
                let rows = bench.record(&liked);
                events.extend(liked);
                rows
            })
            .collect();
        let start = std::sync::Barrier::new(workers.len());
        std::thread::scope(|scope| {
            for (worker, rows) in workers.iter().zip(&decks) {
                let start = &start;
                scope.spawn(move || {
                    start.wait();
                    worker.sync(rows);
                });
            }
        });
    };
    for round in 0..3 {
        sync_all(round, Action::Like);
        sync_all(round, Action::Unlike);
        bench.execute(&["DELETE FROM likewise_like_counts"]);
    }
    sync_all(3, Action::Like);
    stored(bench, &events);
}

fn completion_with_an_old_token_changes_nothing(bench: &Bench) {
    let event = own(1.into(), Resource::video(7), Action::Like, 17);
    let old = bench.record(&[event]);
    let new = bench.ask(|store| store.claim(lease_at(later()), 10)).rows;
    assert_eq!((old[0].fencing_token, new[0].fencing_token), (1, 2));
    let everything = "SELECT * FROM sync_events";
    let before = bench.database().rows(everything);
    let settled = bench.sync(&old);
    assert_eq!(bench.database().rows(everything), before);
    assert!(settled.states.is_empty() && settled.changed.is_empty());
    assert_eq!(bench.database().count("likewise_like_counts"), 0);
    bench.sync(&new);
    let ledger = "SELECT status, fencing_token, retry_count FROM sync_events";
    let completed: Vec<Value> = vec!["completed".into(), 2.into(), 0.into()];
    assert_eq!(bench.database().rows(ledger), [completed]);
    // The row is closed now, and a sync still has no effect.
    let before = bench.database().rows(everything);
    bench.sync(&old);
    bench.sync(&new);
    assert_eq!(bench.database().rows(everything), before);
    bench.verified();
    assert_eq!(new[0].max_retries, MAX_RETRIES);
}

/// A worker hangs while others fail, and an event is redelivered after it is dead.
fn dead_event_has_no_effect_on_any_worker(bench: &Bench) {
    let video = Resource::video(7);
    let event = own(1.into(), video.clone(), Action::Like, 17);
    let neighbour = own(2.into(), video.clone(), Action::Like, 18);
    let old = bench.record(&[event.clone(), neighbour]);
    let claimed = bench.ask(|store| store.claim(lease_at(later()), 10)).rows;
    let (row, neighbours): (Vec<_>, Vec<_>) = claimed
        .into_iter()
        .partition(|row| row.event_id == event.event_id);
    let attempt = FailedAttempt {
        row: row[0].clone(),
        verdict: Verdict::Dead,
        error: "refused".into(),
    };
    bench.ask(|store| store.fail(std::slice::from_ref(&attempt), Utc::now()));
    bench.sync(&old);
    let again = bench.record(&[event]);
    bench.sync(&again);
    let rows = "SELECT COUNT(*) FROM video_likes WHERE user_id = 1";
    assert_eq!(bench.database().number(rows), 0);
    let settled = bench.sync(&neighbours);
    assert_eq!(settled.counts[&video].like_count, 1);
    bench.verified();
}

fn unlike_keeps_its_row_against_older_likes(bench: &Bench) {
    let video = Resource::video(7);
    let like = bench.record(&[own(1.into(), video.clone(), Action::Like, 1_000_000)]);
    let unlike = bench.record(&[own(1.into(), video.clone(), Action::Unlike, 2_000_000)]);
    let count = "SELECT like_count FROM likewise_like_counts";
    bench.sync(&unlike);
    let settled = bench.sync(&like);
    assert!(settled.changed.is_empty());
    assert_eq!(bench.database().number(count), 0);
    let rows = "SELECT user_id, video_id, version, deleted_at FROM video_likes";
    let expected: Vec<Value> = vec![
        1.into(),
        7.into(),
        2_000_000.into(),
        "1970-01-01 00:00:02.000000".into(),
    ];
    assert_eq!(bench.database().rows(rows), [expected]);
    let again = bench.record(&[own(1.into(), video.clone(), Action::Like, 3_000_000)]);
    assert_eq!(bench.sync(&again).changed, [video]);
    assert_eq!(bench.database().number(count), 1);
    let times = bench.database().texts("SELECT created_at FROM video_likes");
    assert_eq!(times, ["1970-01-01 00:00:03.000000"]);
    bench.verified();
}
