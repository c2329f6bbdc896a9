//! `record`: once is enough, twice is no more, and what came first stands.

use std::collections::BTreeSet;

use chrono::Utc;
use likewise::domain::{Action, BehaviorEvent, BehaviorType, LedgerRow, Resource, Source};
use rand::seq::SliceRandom;

use super::bench::{Bench, MAX_RETRIES, comment, foreign, later, lease_at, like, own};
use crate::support::seed;

on_every_database!(
    again_changes_nothing,
    of_other_content_the_first_stands,
    an_id_that_stands_for_a_view_takes_no_like,
    a_thousand_with_any_text,
    several_recorders_of_the_same_events,
    times_are_timestamps_in_utc,
    nothing_is_half_written,
);

fn sorted(mut rows: Vec<LedgerRow>) -> Vec<LedgerRow> {
    rows.sort_by_key(|row| row.event_id);
    rows
}

fn again_changes_nothing(bench: &Bench) {
    let video = Resource::video(7);
    let events = [
        like(1, 7),
        own(1, comment(9), Action::Like, 17),
        foreign(2, video, BehaviorType::Like, 18, "legacy"),
        foreign(2, video, BehaviorType::View, 19, "legacy"),
        foreign(3, video, BehaviorType::Unlike, 20, "legacy"),
    ];
    let expected: Vec<_> = events
        .iter()
        .filter_map(|event| LedgerRow::born(event, MAX_RETRIES))
        .collect();
    for _ in 0..3 {
        assert_eq!(sorted(bench.record(&events)), sorted(expected.clone()));
        assert_eq!(bench.database().sizes()[..2], sizes(5, 4));
    }
    let twice = [events[2].clone(), events[2].clone(), events[0].clone()];
    assert!(!bench.record(&twice).is_empty());
    assert!(bench.record(&[]).is_empty());
    assert!(bench.record(&events[3..4]).is_empty());
    assert_eq!(bench.database().sizes()[..2], sizes(5, 4));
    let fresh = foreign(4, video, BehaviorType::Like, 21, "legacy");
    bench.record(&[fresh.clone(), fresh]);
    assert_eq!(bench.database().sizes()[..2], sizes(6, 5));
}

fn sizes(behaviors: i64, ledger: i64) -> [(&'static str, i64); 2] {
    [("user_behaviors", behaviors), ("sync_events", ledger)]
}

fn of_other_content_the_first_stands(bench: &Bench) {
    let first = foreign(1, Resource::video(7), BehaviorType::Like, 17, "legacy");
    let other = BehaviorEvent {
        event_id: first.event_id,
        ..foreign(2, comment(8), BehaviorType::Unlike, 99, "another")
    };
    let born = [LedgerRow::born(&first, MAX_RETRIES).expect("a like event")];
    let other = [other];
    assert_eq!(bench.record(&[first]), born);
    assert_eq!(bench.record(&other), born);
    // A worker has it: it is not handed out again.
    let claimed = bench.ask(|store| store.claim(lease_at(later()), 10)).rows;
    assert_eq!(claimed.len(), 1);
    assert_eq!(bench.record(&other), []);
    bench.sync(&claimed);
    assert_eq!(bench.record(&other), []);
    bench.verified();
}

/// In one batch or in two, a like under the id of a view is the view again, and no like event.
fn an_id_that_stands_for_a_view_takes_no_like(bench: &Bench) {
    let video = Resource::video(7);
    for user_id in 1..=2 {
        let view = foreign(user_id, video, BehaviorType::View, 17, "another");
        let like = BehaviorEvent {
            behavior: BehaviorType::Like,
            ..view.clone()
        };
        let other = foreign(9, video, BehaviorType::Like, 16 + user_id, "another");
        let rows = if user_id == 1 {
            bench.record(&[view, like, other])
        } else {
            bench.record(&[view]);
            bench.record(&[like, other])
        };
        assert_eq!(rows.len(), 1);
        bench.sync(&rows);
    }
    assert_eq!(bench.database().sizes()[..2], sizes(4, 2));
    bench.verified();
}

fn a_thousand_with_any_text(bench: &Bench) {
    let source = "源 🙂 \"quoted\" 'too' \\ $1 ? \n\t\u{1} ü";
    let start = Utc::now().timestamp_micros();
    let events: Vec<_> = (1..=1_000)
        .map(|n| {
            foreign(
                n,
                Resource::video(n % 50 + 1),
                BehaviorType::Like,
                start + n,
                source,
            )
        })
        .collect();
    let rows = bench.record(&events);
    assert_eq!(rows.len(), 1_000);
    let sources = bench
        .database()
        .texts("SELECT DISTINCT source FROM user_behaviors");
    assert_eq!(sources, [source]);
    bench.sync(&rows);
    assert_eq!(bench.ask(|store| store.open_rows()), 0);
    bench.verified();
}

/// As workers do to whom the same messages are delivered twice.
fn several_recorders_of_the_same_events(bench: &Bench) {
    const WORKERS: usize = 3;
    const ROUNDS: i64 = 4;
    let mut rng = seed::rng("recorders");
    for round in 0..ROUNDS {
        let events: Vec<_> = (1..=200)
            .map(|n| {
                let video = Resource::video(n % 5 + 1);
                foreign(
                    n,
                    video,
                    BehaviorType::Like,
                    1_000 * (round + 1) + n,
                    "twice",
                )
            })
            .collect();
        let orders = [(); WORKERS].map(|()| {
            let mut events = events.clone();
            events.shuffle(&mut rng);
            events
        });
        std::thread::scope(|scope| {
            for order in &orders {
                scope.spawn(|| {
                    let worker = Bench::on(bench.database());
                    for batch in order.chunks(100) {
                        let rows = worker.record(batch);
                        let ids: BTreeSet<_> = rows.iter().map(|row| row.event_id).collect();
                        assert_eq!(ids.len(), batch.len());
                    }
                });
            }
        });
    }
    let all = 200 * ROUNDS;
    assert_eq!(bench.database().sizes()[..2], sizes(all, all));
    bench.had_no_deadlock();
}

fn times_are_timestamps_in_utc(bench: &Bench) {
    bench.record(&[like(1, 7)]);
    for (table, column) in [
        ("sync_events", "created_at"),
        ("sync_events", "updated_at"),
        ("user_behaviors", "created_at"),
        ("user_behaviors", "behavior_time"),
    ] {
        let times = bench
            .database()
            .texts(&format!("SELECT {column} FROM {table}"));
        let time = chrono::NaiveDateTime::parse_from_str(&times[0], "%Y-%m-%d %H:%M:%S%.f");
        let time = time.unwrap_or_else(|error| panic!("{table}.{column} {times:?}: {error}"));
        let age = (Utc::now().naive_utc() - time).num_seconds();
        assert!((0..60).contains(&age), "{table}.{column} {times:?}");
    }
}

fn nothing_is_half_written(bench: &Bench) {
    let too_long = BehaviorEvent {
        source: Source::Foreign("x".repeat(300)),
        ..like(2, 7)
    };
    let batch = [like(1, 7), too_long];
    let batch: Vec<_> = batch.iter().collect();
    let recorded = bench.attempt(|store| store.record(&batch, lease_at(Utc::now())));
    // SQLite takes any length.
    if recorded.is_err() {
        assert_eq!(bench.database().sizes()[..2], sizes(0, 0));
        let error = recorded.expect_err("a refusal");
        assert_eq!(
            error.kind(),
            likewise::domain::FailureKind::Invalid,
            "{error}"
        );
    }
}
