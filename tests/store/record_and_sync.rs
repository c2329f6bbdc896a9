//! `record_and_sync` commits behaviors, completed ledger rows and read models together, or nothing, and has the same effect
//! as `record` and `sync`.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use likewise::domain::{
    Action, BehaviorEvent, BehaviorType, CommitEffect, FailureKind, Pair, Resource, Source,
    TraceParent, Version, VersionedState,
};
use likewise::store::{RecordedAndSynced, StoreError};
use rand::RngExt;
use rand::seq::SliceRandom;

use super::fixture::{Bench, comment, foreign, history, lease_at, like, own, waiting_for_table};
use crate::support::database::Value;
use crate::support::{seed, until_seen};

matrix!(&[sqlite, mariadb, postgres]:
    batch_is_recorded_and_synced_at_once,
    one_transaction_has_the_effect_of_two_steps,
    times_sources_and_traces_are_stored_as_given,
    ledger_has_the_like_events_of_a_batch_only,
    older_event_changes_no_state,
    effect_has_the_state_before_the_batch,
    inserted_count_follows_the_stored_states,
    event_that_is_recorded_already_changes_nothing,
    rejected_state_writes_no_ledger_row,
    concurrent_recorders_and_workers_count_once,
);
matrix!(&[mariadb, postgres]: workers_insert_the_first_count_once);

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
        // One transaction has two seconds, and it may have been committed when these end. Within them, others may insert one of
        // its counts first at each attempt.
        Err(StoreError::TimedOut(_) | StoreError::Busy(_)) => bench.complete(events),
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
    let first = "likewise_like_counts WHERE revision = 1";
    assert_eq!(bench.database().count(first), 2);
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

/// In a batch of events whose version tells their time, and in one of others too.
fn times_sources_and_traces_are_stored_as_given(bench: &Bench) {
    const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    const NOW: i64 = 1_790_000_000_123_457;
    let video = Resource::video(7);
    let liked = |user: i64, version| own(user.into(), video.clone(), Action::Like, version);
    let moved = BehaviorEvent {
        occurred_at: Version(NOW + 1).moment(),
        ..liked(6, NOW)
    };
    let plain = vec![liked(1, 1), liked(2, NOW), liked(3, Version::LAST.0)];
    let mixed = vec![
        liked(4, NOW),
        liked(5, NOW).traced(TraceParent::parse(TRACE)),
        moved,
        foreign(7.into(), video.clone(), BehaviorType::Like, NOW, "feed"),
    ];
    done(bench, &plain);
    done(bench, &mixed);
    let events = [plain, mixed].concat();
    let time = |moment: DateTime<Utc>| moment.format("%Y-%m-%d %H:%M:%S%.6f").to_string();
    for event in &events {
        let found = format!(
            "SELECT b.source, b.behavior_time, e.traceparent, l.created_at, l.deleted_at \
             FROM user_behaviors b JOIN sync_events e ON e.id = b.event_id \
             JOIN video_likes l ON l.user_id = b.user_id WHERE b.event_id = '{}'",
            event.event_id
        );
        let trace = event.trace.map(|trace| trace.to_string());
        let expected: Vec<Value> = vec![
            (&*event.source.name()).into(),
            time(event.occurred_at).as_str().into(),
            trace.map_or(Value::Null, |trace| trace.as_str().into()),
            time(event.version.moment()).as_str().into(),
            Value::Null,
        ];
        assert_eq!(bench.database().rows(&found), [expected], "{event:?}");
    }
    // None of them conflicts with what is recorded.
    assert_eq!(bench.record(&events).len(), events.len());
    assert_eq!(bench.database().count("user_behaviors"), 7);
    bench.verified();
}

/// SQLite selects the rows from the log, where those of earlier batches precede them.
fn ledger_has_the_like_events_of_a_batch_only(bench: &Bench) {
    let video = Resource::video(7);
    let event = |user: i64, behavior, version| BehaviorEvent {
        source: Source::Api,
        ..foreign(user.into(), video.clone(), behavior, version, "feed")
    };
    let earlier = [
        event(1, BehaviorType::Like, 1_000_000),
        event(2, BehaviorType::View, 1_000_001),
    ];
    let batch = [
        event(3, BehaviorType::View, 2_000_000),
        event(3, BehaviorType::Like, 2_000_001),
        event(1, BehaviorType::Unlike, 2_000_002),
        event(4, BehaviorType::View, 2_000_003),
    ];
    assert_eq!(done(bench, &earlier).rows, 1);
    assert_eq!(done(bench, &batch).rows, 2);
    let listed = bench.database().rows("SELECT id FROM sync_events");
    let listed: BTreeSet<_> = listed.iter().map(|row| row[0].text().to_owned()).collect();
    let likes = [&earlier[0], &batch[1], &batch[2]];
    let likes: BTreeSet<_> = likes.map(|event| event.event_id.to_string()).into();
    assert_eq!(listed, likes);
    bench.verified();
}

/// The data is damaged: a pair has a state, and its resource has no count.
fn inserted_count_follows_the_stored_states(bench: &Bench) {
    let liked = |version| own(1.into(), Resource::video(7), Action::Like, version);
    done(bench, &[liked(1_000_000)]);
    bench.execute(&["DELETE FROM likewise_like_counts"]);
    // It does not know that there was a count.
    let worker = Bench::on(bench.database());
    let settled = done(&worker, &[liked(2_000_000)]).settled;
    let wanted = settled.states.keys().cloned().collect();
    let found = worker.ask(|store| store.find(&wanted));
    assert_eq!(settled.counts, found.counts);
    assert!(settled.changed.is_empty(), "{settled:?}");
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

fn effect_has_the_state_before_the_batch(bench: &Bench) {
    let video = Resource::video(7);
    let event = |user: i64, action, version| own(user.into(), video.clone(), action, version);
    done(bench, &[event(1, Action::Like, 1_000_000)]);
    let batch = [
        event(1, Action::Unlike, 2_000_000),
        event(1, Action::Like, 2_000_001),
        event(2, Action::Like, 2_000_002),
    ];
    let done = done(bench, &batch);
    let effect = |user: i64| {
        done.effect_on(&Pair {
            resource: video.clone(),
            user_id: user.into(),
        })
    };
    let count = done.settled.counts[&video];
    assert_eq!(count.like_count, 2);
    let liked = VersionedState::new(Version(1_000_000), Action::Like);
    for (user, before) in [(1, liked), (2, VersionedState::NEVER)] {
        assert_eq!(effect(user), Some(CommitEffect { before, count }));
    }
    assert_eq!(effect(3), None, "a pair without an event");
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

/// Both find no count before one of them inserts it. The other begins again, and takes no second step.
fn workers_insert_the_first_count_once(bench: &Bench) {
    let database = bench.database();
    let workers = [1, 2].map(|user: i64| (Bench::on(database), [like(user.into(), 7)]));
    let held = database.hold_tables(&["likewise_like_counts"]);
    std::thread::scope(|scope| {
        for (worker, events) in &workers {
            scope.spawn(move || match attempt(worker, events) {
                Ok(done) => assert_eq!(done.rows, 1),
                // Two seconds may be too short on a busy machine.
                Err(StoreError::TimedOut(_)) => worker.complete(events),
                Err(error) => panic!("{error}"),
            });
        }
        until_seen(
            "both workers to wait for the table",
            || waiting_for_table(database),
            |waiting| *waiting >= 2,
        );
        drop(held);
    });
    let count = "SELECT like_count FROM likewise_like_counts WHERE resource_id = 7";
    assert_eq!(database.number(count), 2);
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
