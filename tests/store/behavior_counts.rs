//! Views, shares and comments count once each, in the transaction that records them. Pruning keeps their number, and audits
//! repair it.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{TimeDelta, Utc};
use likewise::domain::{BehaviorCounts, BehaviorEvent, BehaviorType, Resource};
use likewise::store::{Finding, Pass};
use rand::RngExt;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;

use super::audit_and_prune::{audit, prune};
use super::fixture::{Bench, comment, foreign, lease_at, like};
use crate::support::seed;

matrix!(&[sqlite, mariadb, postgres]:
    duplicates_and_conflicts_count_once,
    concurrent_recorders_count_each_event_once,
    likes_touch_no_count_by_behavior,
    pruned_behaviors_stay_counted,
    concurrent_prunes_and_recorders_keep_the_counts,
    counts_are_rebuilt_in_chunks_of_any_size,
);

fn view(user: i64, video: i64) -> BehaviorEvent {
    of(BehaviorType::View, user, Resource::video(video))
}

fn of(behavior: BehaviorType, user: i64, resource: Resource) -> BehaviorEvent {
    foreign(user.into(), resource, behavior, 17, "feed")
}

/// The counts of a resource.
fn counts(bench: &Bench, resource: &Resource) -> BehaviorCounts {
    let wanted = BTreeSet::from([resource.clone()]);
    let found = bench.ask(|store| store.behavior_counts(&wanted));
    found.get(resource).copied().unwrap_or_default()
}

fn counted(view: i64, share: i64, comment: i64) -> BehaviorCounts {
    BehaviorCounts {
        view,
        share,
        comment,
    }
}

/// Behaviors of all types on a few resources, each with an id of its own.
fn mixed(events: i64, rng: &mut SmallRng) -> Vec<BehaviorEvent> {
    let event = |n| {
        let id = rng.random_range(1..=6);
        let resource = match rng.random_bool(0.3) {
            true => comment(id),
            false => Resource::video(id),
        };
        let behavior = BehaviorType::ALL[rng.random_range(0..BehaviorType::ALL.len())];
        foreign(
            rng.random_range(1..=8).into(),
            resource,
            behavior,
            n,
            "feed",
        )
    };
    (1..=events).map(event).collect()
}

fn duplicates_and_conflicts_count_once(bench: &Bench) {
    let video = Resource::video(7);
    assert_eq!(counts(bench, &video), counted(0, 0, 0));
    let share = of(BehaviorType::Share, 1, video.clone());
    let remark = of(BehaviorType::Comment, 1, comment(7));
    let batch = [
        view(1, 7),
        like(2.into(), 7),
        share.clone(),
        view(2, 7),
        view(1, 7),
        remark,
        view(1, 8),
    ];
    for _ in 0..3 {
        bench.complete(&batch);
        assert_eq!(counts(bench, &video), counted(2, 1, 0));
        assert_eq!(counts(bench, &comment(7)), counted(0, 0, 1));
        assert_eq!(counts(bench, &Resource::video(8)), counted(1, 0, 0));
    }
    // The id of a recorded event, for other content: nothing of it counts, in a later batch or in the same one.
    let other = BehaviorEvent {
        resource: Resource::video(8),
        ..share.clone()
    };
    let new = view(3, 7);
    let also_new = BehaviorEvent {
        behavior: BehaviorType::Share,
        ..new.clone()
    };
    let of_a_like = BehaviorEvent {
        behavior: BehaviorType::View,
        ..batch[1].clone()
    };
    let recorded = bench.try_record(&[other, new.clone(), also_new, of_a_like, new]);
    assert_eq!(recorded.conflicts, [0, 2, 3]);
    assert_eq!(counts(bench, &video), counted(3, 1, 0));
    assert_eq!(counts(bench, &Resource::video(8)), counted(1, 0, 0));
    // The events of the Go services have another version each time.
    let legacy = foreign(5.into(), video.clone(), BehaviorType::View, 21, "legacy");
    let mut again = legacy.clone();
    again.version.0 += 1;
    bench.record(&[legacy, again.clone()]);
    bench.record(&[again]);
    assert_eq!(counts(bench, &video), counted(4, 1, 0));
    bench.verified();
    assert_eq!(audit(bench, 2), []);
}

/// Workers get the same events in other orders, and some of them under the same id with other content.
fn concurrent_recorders_count_each_event_once(bench: &Bench) {
    const WORKERS: usize = 3;
    let mut rng = seed::rng("concurrent_recorders_count_each_event_once");
    let events = mixed(400, &mut rng);
    let orders = [(); WORKERS].map(|()| {
        let mut events = events.clone();
        for event in &mut events {
            if rng.random_bool(0.1) {
                event.behavior = BehaviorType::ALL[rng.random_range(0..5)];
                event.resource.id = rng.random_range(1..=6).into();
            }
        }
        events.shuffle(&mut rng);
        events
    });
    std::thread::scope(|scope| {
        for order in &orders {
            scope.spawn(|| {
                let worker = Bench::on(bench.database());
                for batch in order.chunks(40) {
                    worker.sync(&worker.try_record(batch).rows);
                }
            });
        }
    });
    let recorded = "SELECT COUNT(*) FROM user_behaviors";
    assert_eq!(bench.database().number(recorded), 400);
    bench.verified();
    bench.had_no_deadlock();
}

/// A batch of likes runs no statement on the table. A batch with a view needs it, and is recorded whole or not at all.
fn likes_touch_no_count_by_behavior(bench: &Bench) {
    let rename = |from: &str, to: &str| {
        let statement = format!("ALTER TABLE {from} RENAME TO {to}");
        bench.execute(&[&statement]);
    };
    let table = "likewise_behavior_counts";
    rename(table, "hidden");
    bench.complete(&[like(1.into(), 7), like(2.into(), 7)]);
    let (new, view) = (like(3.into(), 7), view(3, 7));
    let recorded = bench.attempt(|store| {
        let batch = vec![&new, &view];
        async move { store.record(&batch, lease_at(Utc::now())).await }
    });
    assert!(recorded.is_err(), "{recorded:?}");
    let behaviors = || {
        bench
            .database()
            .number("SELECT COUNT(*) FROM user_behaviors")
    };
    assert_eq!(behaviors(), 2);
    rename("hidden", table);
    bench.complete(&[new, view]);
    assert_eq!(behaviors(), 4);
    assert_eq!(counts(bench, &Resource::video(7)), counted(1, 0, 0));
    bench.verified();
}

const OLD: &str = "UPDATE user_behaviors SET created_at = '2020-01-01 00:00:00'";

fn pruned_behaviors_stay_counted(bench: &Bench) {
    let video = Resource::video(7);
    let all = [
        view(1, 7),
        view(2, 7),
        of(BehaviorType::Share, 1, video.clone()),
        of(BehaviorType::Comment, 1, comment(7)),
    ];
    bench.record(&all);
    bench.execute(&[OLD]);
    bench.record(&[view(3, 7)]);
    let before = Utc::now() - TimeDelta::days(30);
    let prunable = bench.ask(|store| store.prunable(before, 0, 100)).behaviors;
    assert_eq!(prunable.len(), 4);
    // Two processes may prune the same behaviors.
    for _ in 0..2 {
        bench.ask(|store| store.prune_behaviors(&prunable));
    }
    let is_whole = |views| {
        assert_eq!(counts(bench, &video), counted(views, 1, 0));
        assert_eq!(counts(bench, &comment(7)), counted(0, 0, 1));
        bench.verified();
        assert_eq!(audit(bench, 1), []);
    };
    is_whole(3);
    bench.record(&[view(4, 7)]);
    is_whole(4);
    // A repair counts the pruned ones too.
    bench.execute(&["UPDATE likewise_behavior_counts SET behavior_count = 1"]);
    let found = audit(bench, 1);
    assert_eq!(found.len(), 1, "{found:#?}");
    assert_eq!(
        (&*found[0].expected, &*found[0].found),
        ("4 views", "1 views")
    );
    is_whole(4);
}

fn concurrent_prunes_and_recorders_keep_the_counts(bench: &Bench) {
    let mut rng = seed::rng("concurrent_prunes_and_recorders_keep_the_counts");
    let events = mixed(600, &mut rng);
    let (old, new) = events.split_at(300);
    bench.complete(old);
    bench.execute(&[OLD]);
    let mut total: BTreeMap<Resource, BehaviorCounts> = BTreeMap::new();
    for event in &events {
        let of_resource = total.entry(event.resource.clone()).or_default();
        match event.behavior {
            BehaviorType::View => of_resource.view += 1,
            BehaviorType::Share => of_resource.share += 1,
            BehaviorType::Comment => of_resource.comment += 1,
            BehaviorType::Like | BehaviorType::Unlike => {}
        }
    }
    let before = Utc::now() - TimeDelta::days(30);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| prune(&Bench::on(bench.database()), before));
        }
        scope.spawn(|| {
            let worker = Bench::on(bench.database());
            for batch in new.chunks(20) {
                worker.complete(batch);
            }
        });
    });
    for (resource, expected) in total {
        assert_eq!(counts(bench, &resource), expected, "{resource}");
    }
    bench.verified();
    bench.had_no_deadlock();
}

fn counts_are_rebuilt_in_chunks_of_any_size(bench: &Bench) {
    let mut rng = seed::rng("counts_are_rebuilt_in_chunks_of_any_size");
    bench.complete(&mixed(300, &mut rng));
    let all = "SELECT resource_type, resource_id, behavior_type, behavior_count \
               FROM likewise_behavior_counts WHERE behavior_count > 0 ORDER BY 1, 2, 3";
    let before = bench.database().rows(all);
    for rows in [1, 7, 10_000] {
        let damages = [
            "DELETE FROM likewise_behavior_counts",
            "DELETE FROM likewise_behavior_counts WHERE resource_id > 3",
            "DELETE FROM likewise_behavior_counts WHERE behavior_type = 'view'",
            "UPDATE likewise_behavior_counts SET behavior_count = behavior_count + resource_id",
            "UPDATE likewise_behavior_counts SET behavior_count = -1",
            "UPDATE likewise_behavior_counts SET resource_id = resource_id + 100",
        ];
        for damage in damages {
            bench.execute(&[damage]);
            let found = audit(bench, rows);
            assert!(!found.is_empty(), "{damage}");
            let other = |finding| finding != Finding::WrongBehaviorCount;
            assert!(!found.iter().any(|one| other(one.finding)), "{found:#?}");
            assert_eq!(bench.database().rows(all), before, "{damage}, {rows}");
            assert_eq!(audit(bench, rows), [], "{damage}, {rows}");
            bench.verified();
        }
    }
    // A chunk has about as many rows as it should: each resource has some twenty behaviors.
    let video = Pass::BehaviorCounts(likewise::domain::ResourceType::VIDEO);
    let start = video.start(likewise::domain::IdKinds::default());
    let chunk = bench.ask(|store| store.chunk(video, start, 10));
    assert!(chunk.until.is_some() && chunk.rows <= 10, "{chunk:?}");
}
