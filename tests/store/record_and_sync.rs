//! `record_and_sync` commits behaviors, completed ledger rows and read models together, or nothing, and has the same effect
//! as `record` and `sync`.

use chrono::Utc;
use likewise::domain::{Action, BehaviorEvent, BehaviorType, FailureKind, Resource, Source};
use likewise::store::{RecordedAndSynced, StoreError};
use rand::RngExt;
use rand::seq::SliceRandom;

use super::fixture::{Bench, comment, foreign, history, lease_at, like, own};
use crate::support::seed;

matrix!(&[sqlite, mariadb, postgres]:
    batch_is_recorded_and_synced_at_once,
    one_transaction_has_the_effect_of_two_steps,
    older_event_changes_no_state,
    event_that_is_recorded_already_changes_nothing,
    rejected_state_writes_no_ledger_row,
    concurrent_recorders_and_workers_count_once,
);

fn attempt(bench: &Bench, events: &[BehaviorEvent]) -> Result<RecordedAndSynced, StoreError> {
    let events: Vec<_> = events.iter().collect();
    bench.attempt(|store| store.record_and_sync(&events, lease_at(Utc::now())))
}

#[track_caller]
fn done(bench: &Bench, events: &[BehaviorEvent]) -> RecordedAndSynced {
    match attempt(bench, events) {
        Ok(done) => done,
        Err(error) => panic!("{error}"),
    }
}

/// As the behavior recorder: one transaction, or else two steps.
fn recorded(bench: &Bench, events: &[BehaviorEvent]) {
    match attempt(bench, events) {
        Ok(_) => {}
        Err(error) if error.kind() == FailureKind::Invalid => bench.complete(events),
        // One transaction has two seconds, and it may have been committed when these end.
        Err(StoreError::TimedOut(_)) => bench.complete(events),
        Err(error) => panic!("{error}"),
    }
}

fn batch_is_recorded_and_synced_at_once(bench: &Bench) {
    let (video, page) = (Resource::video(7), comment(9));
    let events = [
        own(1.into(), video.clone(), Action::Like, 1_000_000),
        own(2.into(), video.clone(), Action::Like, 1_000_001),
        own(2.into(), video.clone(), Action::Unlike, 1_000_002),
        own(3.into(), page.clone(), Action::Like, 1_000_003),
        foreign(
            4.into(),
            video.clone(),
            BehaviorType::View,
            1_000_004,
            "feed",
        ),
        foreign(
            5.into(),
            video.clone(),
            BehaviorType::View,
            1_000_005,
            "feed",
        ),
    ];
    let done = done(bench, &events);
    assert_eq!(done.rows, 4);
    let settled = done.settled;
    let count = |resource| settled.counts[resource].like_count;
    assert_eq!((count(&video), count(&page)), (1, 1));
    assert_eq!(settled.states.len(), 3);
    assert_eq!(settled.changed, [page, video]);
    let ledger = "SELECT COUNT(*) FROM sync_events WHERE status = 'completed' \
        AND fencing_token = 1 AND retry_count = 0 AND next_attempt_at IS NULL \
        AND lease_until IS NULL AND processed_at = created_at";
    assert_eq!(bench.database().number(ledger), 4);
    let views = "SELECT behavior_count FROM likewise_behavior_counts WHERE behavior_type = 'view'";
    assert_eq!(bench.database().number(views), 2);
    let nothing = attempt(bench, &[]).expect("an empty batch");
    assert_eq!(nothing, RecordedAndSynced::default());
    bench.verified();
}

fn one_transaction_has_the_effect_of_two_steps(bench: &Bench) {
    let mut rng = seed::rng("one transaction");
    for _ in 0..12 {
        let size = rng.random_range(1..60);
        let events = history(size, &mut rng);
        if rng.random_bool(0.4) {
            bench.complete(&events);
            continue;
        }
        let settled = done(bench, &events).settled;
        let wanted = settled.states.keys().cloned().collect();
        let found = bench.ask(|store| store.find(&wanted));
        assert_eq!(
            (settled.states, settled.counts),
            (found.states, found.counts)
        );
    }
    bench.verified();
}

fn older_event_changes_no_state(bench: &Bench) {
    let video = Resource::video(7);
    let event = |action, version| own(1.into(), video.clone(), action, version);
    done(bench, &[event(Action::Unlike, 2_000_000)]);
    let settled = done(bench, &[event(Action::Like, 1_000_000)]).settled;
    assert!(settled.changed.is_empty(), "{settled:?}");
    assert_eq!(settled.counts[&video].like_count, 0);
    assert!(settled.states.values().all(|state| !state.liked));
    assert_eq!(
        bench
            .database()
            .count("video_likes WHERE deleted_at IS NULL"),
        0
    );
    // Between equal versions the unlike is newer, also within a batch.
    let equal = [
        event(Action::Unlike, 3_000_000),
        event(Action::Like, 3_000_000),
    ];
    assert!(done(bench, &equal).settled.changed.is_empty());
    bench.verified();
}

fn event_that_is_recorded_already_changes_nothing(bench: &Bench) {
    let known = like(1.into(), 7);
    let view = foreign(2.into(), Resource::video(7), BehaviorType::View, 18, "feed");
    done(bench, &[known.clone(), view.clone()]);
    let sizes = bench.database().sizes();
    let other = BehaviorEvent {
        event_id: known.event_id,
        ..like(3.into(), 8)
    };
    let twice = like(4.into(), 9);
    for batch in [
        [like(5.into(), 7), known.clone()],
        [like(5.into(), 7), view.clone()],
        [like(5.into(), 7), other.clone()],
        [twice.clone(), twice],
    ] {
        let error = attempt(bench, &batch).expect_err("an event that is recorded");
        assert_eq!(error.kind(), FailureKind::Invalid, "{error}");
        assert_eq!(bench.database().sizes(), sizes);
    }
    let count = "SELECT like_count FROM likewise_like_counts WHERE resource_id = 7";
    assert_eq!(bench.database().number(count), 1);
    let mixed = [like(5.into(), 7), known, view, other];
    assert_eq!(bench.try_record(&mixed).conflicts, [3]);
    let rows = bench.record(&mixed[..3]);
    let settled = bench.sync(&rows);
    assert_eq!(settled.counts[&Resource::video(7)].like_count, 2);
    bench.verified();
}

fn rejected_state_writes_no_ledger_row(bench: &Bench) {
    bench.database().constrain_likes_of(13, "refused by a test");
    let sizes = bench.database().sizes();
    let batch = [like(12.into(), 7), like(13.into(), 7)];
    let error = attempt(bench, &batch).expect_err("a state that is refused");
    assert!(error.may_be_of_one_row(), "{error}");
    assert_eq!(bench.database().sizes(), sizes);
    let too_long = BehaviorEvent {
        source: Source::Foreign("x".repeat(300)),
        ..like(14.into(), 7)
    };
    // SQLite accepts any length.
    if let Err(error) = attempt(bench, &[like(15.into(), 7), too_long]) {
        assert_eq!(error.kind(), FailureKind::Invalid, "{error}");
        assert_eq!(bench.database().sizes(), sizes);
    }
    bench.verified();
}

/// Recorders get the same messages in different batches, beside a worker that syncs others of the same pairs.
fn concurrent_recorders_and_workers_count_once(bench: &Bench) {
    let mut rng = seed::rng("one transaction and two steps");
    for _ in 0..3 {
        let events = history(240, &mut rng);
        let (pending, fresh) = events.split_at(60);
        let rows = bench.record(pending);
        let orders = [(); 3].map(|()| {
            let mut events = fresh.to_vec();
            events.shuffle(&mut rng);
            events
        });
        std::thread::scope(|scope| {
            for order in &orders {
                scope.spawn(|| {
                    let worker = Bench::on(bench.database());
                    order.chunks(40).for_each(|batch| recorded(&worker, batch));
                });
            }
            scope.spawn(|| {
                let worker = Bench::on(bench.database());
                rows.chunks(20).for_each(|batch| drop(worker.sync(batch)));
            });
        });
        bench.verified();
    }
    bench.had_no_deadlock();
}
