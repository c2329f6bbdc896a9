//! `record` is idempotent, and the first content of an event id stands.

use std::collections::BTreeSet;

use chrono::{TimeDelta, Utc};
use likewise::domain::{
    Action, BehaviorEvent, BehaviorType, FailureKind, LedgerRow, Resource, ResourceType, Source,
};
use likewise::store::{Recorded, Store};
use rand::seq::SliceRandom;

use super::fixture::{Bench, MAX_RETRIES, comment, foreign, later, lease_at, like, own};
use crate::support::seed;

matrix!(&[sqlite, mariadb, postgres]:
    recording_again_changes_nothing,
    first_content_of_an_event_id_stands,
    any_different_field_conflicts,
    same_event_from_elsewhere_is_no_conflict,
    ledger_status_decides_the_effect,
    event_id_of_a_view_accepts_no_like,
    thousand_events_with_any_text_are_recorded,
    concurrent_recorders_record_events_once,
    times_are_stored_in_utc,
    failed_recording_writes_nothing,
);

fn sorted(mut rows: Vec<LedgerRow>) -> Vec<LedgerRow> {
    rows.sort_by_key(|row| row.event_id);
    rows
}

fn recording_again_changes_nothing(bench: &Bench) {
    let video = Resource::video(7);
    let events = [
        like(1.into(), 7),
        own(1.into(), comment(9), Action::Like, 17),
        foreign(2.into(), video.clone(), BehaviorType::Like, 18, "legacy"),
        foreign(2.into(), video.clone(), BehaviorType::View, 19, "legacy"),
        foreign(3.into(), video.clone(), BehaviorType::Unlike, 20, "legacy"),
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
    let fresh = foreign(4.into(), video, BehaviorType::Like, 21, "legacy");
    bench.record(&[fresh.clone(), fresh]);
    assert_eq!(bench.database().sizes()[..2], sizes(6, 5));
}

fn sizes(behaviors: i64, ledger: i64) -> [(&'static str, i64); 2] {
    [("user_behaviors", behaviors), ("sync_events", ledger)]
}

fn first_content_of_an_event_id_stands(bench: &Bench) {
    let first = foreign(1.into(), Resource::video(7), BehaviorType::Like, 17, "feed");
    let born = [LedgerRow::born(&first, MAX_RETRIES).expect("a like event")];
    let other = [BehaviorEvent {
        event_id: first.event_id,
        ..own(2.into(), comment(8), Action::Unlike, 99)
    }];
    assert_eq!(bench.record(std::slice::from_ref(&first)), born);
    let refused = Recorded {
        rows: Vec::new(),
        conflicts: vec![0],
        ..Recorded::default()
    };
    // Tests the pending, claimed and completed states of the first event.
    assert_eq!(bench.try_record(&other), refused);
    let claimed = bench.claim(later(), 10);
    assert_eq!(claimed.len(), 1);
    assert_eq!(bench.try_record(&other), refused);
    bench.sync(&claimed);
    assert_eq!(bench.try_record(&other), refused);
    assert_eq!(bench.record(&[first]), born);
    bench.verified();
}

/// Tests each field in which two events of one id can differ, in one batch and in two.
fn any_different_field_conflicts(bench: &Bench) {
    type Change = fn(&mut BehaviorEvent);
    let changes: [Change; 7] = [
        |event| event.user_id = 9_999.into(),
        |event| event.resource.id = 9_999.into(),
        |event| event.resource.resource_type = ResourceType::COMMENT,
        |event| event.behavior = BehaviorType::Unlike,
        |event| event.behavior = BehaviorType::View,
        |event| event.version.0 += 1,
        |event| event.occurred_at += TimeDelta::microseconds(1),
    ];
    let video = Resource::video(7);
    let mut user_id = 0;
    for behavior in [BehaviorType::Like, BehaviorType::Share] {
        for change in changes {
            let mut next = || {
                user_id += 10;
                foreign(user_id.into(), video.clone(), behavior, 17, "feed")
            };
            let (first, neighbour) = (next(), next());
            let mut other = first.clone();
            change(&mut other);
            bench.record(std::slice::from_ref(&first));
            let together = [other.clone(), first.clone(), neighbour, first];
            assert_eq!(bench.try_record(&together).conflicts, [0], "{other:?}");
            let (first, neighbour) = (next(), next());
            let mut other = first.clone();
            change(&mut other);
            let together = [first.clone(), neighbour, other, first];
            assert_eq!(bench.try_record(&together).conflicts, [2]);
        }
    }
}

fn legacy_like(user_id: i64) -> BehaviorEvent {
    let video = Resource::video(7);
    foreign(user_id.into(), video, BehaviorType::Like, 17, "legacy")
}

/// The sender of an event and its place in the stream are no part of its content.
fn same_event_from_elsewhere_is_no_conflict(bench: &Bench) {
    let first = own(1.into(), Resource::video(7), Action::Like, 17);
    let again = BehaviorEvent {
        source: Source::Foreign("feed".into()),
        stream_sequence: Some(99),
        ..first.clone()
    };
    let rows = bench.record(&[first]);
    assert_eq!(rows, bench.record(&[again]));
    bench.sync(&rows);
    // Events of the Go services get another version from each place in the stream.
    let legacy = legacy_like(2);
    let rows = bench.record(std::slice::from_ref(&legacy));
    bench.sync(&rows);
    let mut again = legacy;
    again.version.0 += 5;
    bench.sync(&bench.record(&[again]));
    bench.verified();
    // In one batch, recorded together or apart, the version of the first has the effect.
    for (user_id, together) in [(3, true), (4, false)] {
        let first = legacy_like(user_id);
        let mut again = first.clone();
        again.version.0 += 5;
        let rows = if together {
            bench.record(&[first, again])
        } else {
            let mut rows = bench.record(&[first]);
            rows.extend(bench.record(&[again]));
            rows
        };
        assert_eq!(rows.len(), 2);
        bench.sync(&rows);
    }
    bench.verified();
}

/// A worker whose event differs from the ledger changes nothing.
fn ledger_status_decides_the_effect(bench: &Bench) {
    let rows = bench.record(&[like(1.into(), 7), like(2.into(), 7)]);
    let mut forged = rows.clone();
    forged[0].action = Action::Unlike;
    forged[1].user_id = 99.into();
    forged[1].resource = comment(3);
    bench.sync(&forged);
    assert_eq!(bench.database().count("video_likes"), 0);
    bench.sync(&rows);
    for row in &mut forged {
        row.version.0 += 1;
    }
    bench.sync(&forged);
    assert_eq!(bench.database().count("comment_likes"), 0);
    bench.verified();
}

/// In one batch or in two, a like under the id of a view is refused, and creates no ledger row.
fn event_id_of_a_view_accepts_no_like(bench: &Bench) {
    let video = Resource::video(7);
    for user_id in 1..=2 {
        let of = |user: i64, behavior, version| {
            foreign(user.into(), video.clone(), behavior, version, "another")
        };
        let view = of(user_id, BehaviorType::View, 17);
        let like = BehaviorEvent {
            behavior: BehaviorType::Like,
            ..view.clone()
        };
        let other = of(9, BehaviorType::Like, 16 + user_id);
        let recorded = if user_id == 1 {
            bench.try_record(&[view, like, other])
        } else {
            bench.record(&[view]);
            bench.try_record(&[other, like])
        };
        assert_eq!((recorded.rows.len(), recorded.conflicts), (1, vec![1]));
        bench.sync(&recorded.rows);
    }
    assert_eq!(bench.database().sizes()[..2], sizes(4, 2));
    bench.verified();
}

fn thousand_events_with_any_text_are_recorded(bench: &Bench) {
    let source = "源 🙂 \"quoted\" 'too' \\ $1 ? \n\t\u{1} ü";
    let start = Utc::now().timestamp_micros();
    let events: Vec<_> = (1..=1_000)
        .map(|n| {
            let video = Resource::video(n % 50 + 1);
            foreign(n.into(), video, BehaviorType::Like, start + n, source)
        })
        .collect();
    let rows = bench.record(&events);
    assert_eq!(rows.len(), 1_000);
    let sources = "SELECT DISTINCT source FROM user_behaviors";
    assert_eq!(bench.database().texts(sources), [source]);
    bench.sync(&rows);
    assert_eq!(bench.ask(Store::open_rows), 0);
    bench.verified();
}

/// Concurrent workers receive the same messages twice.
fn concurrent_recorders_record_events_once(bench: &Bench) {
    const WORKERS: usize = 3;
    const ROUNDS: i64 = 4;
    let mut rng = seed::rng("recorders");
    for round in 0..ROUNDS {
        let events: Vec<_> = (1..=200)
            .map(|n| {
                let video = Resource::video(n % 5 + 1);
                let version = 1_000 * (round + 1) + n;
                foreign(n.into(), video, BehaviorType::Like, version, "twice")
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

fn times_are_stored_in_utc(bench: &Bench) {
    bench.record(&[like(1.into(), 7)]);
    for (table, column) in [
        ("sync_events", "created_at"),
        ("sync_events", "updated_at"),
        ("user_behaviors", "created_at"),
        ("user_behaviors", "behavior_time"),
    ] {
        let times = format!("SELECT {column} FROM {table}");
        let times = bench.database().texts(&times);
        let time = chrono::NaiveDateTime::parse_from_str(&times[0], "%Y-%m-%d %H:%M:%S%.f");
        let time = time.unwrap_or_else(|error| panic!("{table}.{column} {times:?}: {error}"));
        let age = (Utc::now().naive_utc() - time).num_seconds();
        assert!((0..60).contains(&age), "{table}.{column} {times:?}");
    }
}

fn failed_recording_writes_nothing(bench: &Bench) {
    let too_long = BehaviorEvent {
        source: Source::Foreign("x".repeat(300)),
        ..like(2.into(), 7)
    };
    let batch = [like(1.into(), 7), too_long];
    let batch: Vec<_> = batch.iter().collect();
    let recorded = bench.attempt(|store| store.record(&batch, lease_at(Utc::now())));
    // SQLite accepts any length.
    if let Err(error) = recorded {
        assert_eq!(bench.database().sizes()[..2], sizes(0, 0));
        assert_eq!(error.kind(), FailureKind::Invalid, "{error}");
    }
}
