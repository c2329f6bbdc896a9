//! `inspect` and `mend`: what is wrong is found, in chunks of any size, and put right beside the live
//! pipeline. `prune_*`: what goes, and that no promise goes with it.

use std::collections::BTreeMap;

use chrono::{TimeDelta, Utc};
use likewise::domain::{Action, BehaviorEvent, BehaviorType, Resource, ResourceType};
use likewise::store::{Discrepancy, Finding, Mended, Pass};
use rand::RngExt;
use rand::rngs::SmallRng;

use super::bench::{Bench, comment, foreign, history, like, now, own};
use crate::support::seed;

on_every_database!(
    what_is_in_order_is_left_alone,
    each_corruption_is_found_and_mended,
    a_mended_like_and_its_count_are_committed_together,
    random_corruptions_are_all_mended,
    read_models_and_ledger_come_back_from_the_behaviors_alone,
    a_repair_beside_the_live_pipeline_never_makes_a_state_wrong,
    pruned_ledger_rows_are_missed_by_nobody,
    pruned_behaviors_leave_what_the_read_models_stand_on,
);

const PASSES: [Pass; 6] = [
    Pass::Behaviors,
    Pass::Ledger,
    Pass::Likes(ResourceType::Video),
    Pass::Likes(ResourceType::Comment),
    Pass::Counts(ResourceType::Video),
    Pass::Counts(ResourceType::Comment),
];

/// Walks through a pass in chunks of so many rows.
fn inspect(bench: &Bench, pass: Pass, rows: usize) -> Vec<Discrepancy> {
    let mut found = Vec::new();
    let mut after = pass.start();
    loop {
        let chunk = bench.ask(|store| store.chunk(pass, after.clone(), rows));
        found.extend(bench.ask(|store| store.inspect(&chunk)));
        match chunk.until {
            Some(until) => after = until,
            None => return found,
        }
    }
}

fn mend(bench: &Bench, found: &[Discrepancy]) -> Mended {
    bench.ask(|store| store.mend(found, now()))
}

/// Mends pass by pass, as an audit does; answers what was found.
fn audit(bench: &Bench, rows: usize) -> Vec<Discrepancy> {
    let mut all = Vec::new();
    for pass in PASSES {
        let found = inspect(bench, pass, rows);
        mend(bench, &found);
        all.extend(found);
    }
    all
}

fn counted(found: &[Discrepancy]) -> BTreeMap<Finding, usize> {
    let mut counted = BTreeMap::new();
    for one in found {
        *counted.entry(one.finding).or_default() += 1;
    }
    counted
}

/// Records and syncs.
fn complete(bench: &Bench, events: &[BehaviorEvent]) {
    let rows = bench.record(events);
    bench.sync(&rows);
}

fn what_is_in_order_is_left_alone(bench: &Bench) {
    let mut rng = seed::rng("what_is_in_order_is_left_alone");
    complete(bench, &history(300, &mut rng));
    // On its way, and behaviors that are no likes.
    bench.record(&[like(99, 7)]);
    bench.record(&[foreign(
        3,
        Resource::video(7),
        BehaviorType::View,
        5,
        "feed",
    )]);
    for rows in [1, 7, 10_000] {
        assert_eq!(audit(bench, rows), [], "chunks of {rows}");
    }
}

/// What is planted with plain SQL, and what the audit calls it.
const PLANTED: [(&str, Finding); 14] = [
    (
        "DELETE FROM video_likes WHERE user_id = 1",
        Finding::WrongLike,
    ),
    (
        "UPDATE video_likes SET deleted_at = created_at WHERE user_id = 1",
        Finding::WrongLike,
    ),
    (
        "UPDATE video_likes SET version = version + 1000 WHERE user_id = 2",
        Finding::WrongLike,
    ),
    (
        "UPDATE comment_likes SET deleted_at = NULL WHERE user_id = 1",
        Finding::WrongLike,
    ),
    (
        "INSERT INTO video_likes (user_id, video_id, version, created_at) \
         VALUES (99, 7, 5, '2026-01-01 00:00:00')",
        Finding::WrongLike,
    ),
    (
        "UPDATE like_counts SET like_count = 77 WHERE resource_type = 'video'",
        Finding::WrongCount,
    ),
    (
        "DELETE FROM like_counts WHERE resource_type = 'comment'",
        Finding::WrongCount,
    ),
    (
        "DELETE FROM sync_events WHERE user_id = 3",
        Finding::MissingLedgerRow,
    ),
    (
        "DELETE FROM user_behaviors WHERE user_id = 3",
        Finding::MissingBehavior,
    ),
    (
        "UPDATE sync_events SET next_attempt_at = '2026-01-01 00:00:00' WHERE user_id = 2",
        Finding::BrokenLedgerRow,
    ),
    (
        "UPDATE sync_events SET processed_at = NULL WHERE user_id = 2",
        Finding::BrokenLedgerRow,
    ),
    (
        "UPDATE sync_events SET status = 'dead' WHERE user_id = 8",
        Finding::BrokenLedgerRow,
    ),
    (
        "UPDATE sync_events SET status = 'processing', processed_at = NULL WHERE user_id = 9",
        Finding::BrokenLedgerRow,
    ),
    (
        "UPDATE sync_events SET status = 'lost' WHERE user_id = 10",
        Finding::BrokenLedgerRow,
    ),
];

fn each_corruption_is_found_and_mended(bench: &Bench) {
    let video = Resource::video(7);
    complete(
        bench,
        &[
            own(1, video, Action::Like, 11),
            own(2, video, Action::Like, 12),
            own(3, video, Action::Like, 13),
            own(4, video, Action::Like, 14),
            own(4, video, Action::Unlike, 15),
            own(1, comment(7), Action::Unlike, 17),
            own(8, Resource::video(8), Action::Like, 18),
            own(9, Resource::video(9), Action::Like, 19),
            own(10, Resource::video(10), Action::Like, 20),
        ],
    );
    for (plant, finding) in PLANTED {
        bench.database().execute(&[plant]);
        let found = audit(bench, 2);
        let first = found
            .first()
            .unwrap_or_else(|| panic!("{plant}: nothing found"));
        assert_eq!(first.finding, finding, "{plant}: {found:#?}");
        // What was opened again comes to its end.
        let due = bench.ask(|store| store.claim(super::bench::lease_at(now()), 10));
        bench.sync(&due.rows);
        audit(bench, 2);
        assert_eq!(audit(bench, 1_000), [], "{plant}");
        bench.verified();
    }
}

/// Counts that equal their rows still do so after each repair, without another that counts anew.
fn a_mended_like_and_its_count_are_committed_together(bench: &Bench) {
    let video = Resource::video(7);
    complete(
        bench,
        &[
            own(1, video, Action::Like, 11),
            own(2, video, Action::Like, 12),
        ],
    );
    bench.database().execute(&[
        "DELETE FROM video_likes WHERE user_id = 1",
        "UPDATE like_counts SET like_count = 1",
    ]);
    let counts = Pass::Counts(ResourceType::Video);
    assert_eq!(inspect(bench, counts, 10), []);
    let found = inspect(bench, Pass::Likes(ResourceType::Video), 10);
    let mended = mend(bench, &found);
    assert_eq!((mended.rows, mended.resources), (1, vec![video]));
    assert_eq!(inspect(bench, counts, 10), []);
    bench.verified();
}

/// Breaks one row of some kind.
fn corrupt(bench: &Bench, rng: &mut SmallRng) {
    let user = rng.random_range(1..=8);
    let id = rng.random_range(1..=6);
    let (table, column) = match rng.random_bool(0.5) {
        true => ("video_likes", "video_id"),
        false => ("comment_likes", "comment_id"),
    };
    let like = format!("{table} WHERE user_id = {user} AND {column} = {id}");
    let event = "(SELECT id FROM (SELECT MAX(id) AS id FROM sync_events) AS newest)";
    let statement = match rng.random_range(0..7) {
        0 => format!("DELETE FROM {like}"),
        1 => format!(
            "UPDATE {table} SET deleted_at = CASE WHEN deleted_at IS NULL \
             THEN created_at END WHERE user_id = {user} AND {column} = {id}"
        ),
        2 => format!("UPDATE like_counts SET like_count = like_count + 3 WHERE resource_id = {id}"),
        3 => format!("DELETE FROM like_counts WHERE resource_id = {id}"),
        4 => format!("DELETE FROM sync_events WHERE id = {event}"),
        5 => format!("DELETE FROM user_behaviors WHERE event_id = {event}"),
        _ => format!("UPDATE sync_events SET next_attempt_at = created_at WHERE id = {event}"),
    };
    bench.database().execute(&[&statement]);
}

fn random_corruptions_are_all_mended(bench: &Bench) {
    let mut rng = seed::rng("random_corruptions_are_all_mended");
    complete(bench, &history(400, &mut rng));
    for round in 0..4 {
        for _ in 0..15 {
            corrupt(bench, &mut rng);
        }
        let rows = rng.random_range(1..60);
        audit(bench, rows);
        assert_eq!(audit(bench, rows), [], "round {round}");
        bench.verified();
    }
}

fn read_models_and_ledger_come_back_from_the_behaviors_alone(bench: &Bench) {
    let mut rng = seed::rng("read_models_and_ledger_come_back_from_the_behaviors_alone");
    complete(bench, &history(400, &mut rng));
    let state = |table: &str| {
        bench
            .database()
            .rows(&format!("SELECT * FROM {table} ORDER BY 1, 2"))
    };
    let before = (state("video_likes"), state("comment_likes"));
    bench.database().execute(&[
        "DELETE FROM sync_events",
        "DELETE FROM video_likes",
        "DELETE FROM comment_likes",
        "DELETE FROM like_counts",
    ]);
    let found = audit(bench, 50);
    assert_eq!(counted(&found)[&Finding::MissingLedgerRow], 400);
    assert_eq!((state("video_likes"), state("comment_likes")), before);
    bench.verified();
}

fn a_repair_beside_the_live_pipeline_never_makes_a_state_wrong(bench: &Bench) {
    let events = history(
        600,
        &mut seed::rng("a_repair_beside_the_live_pipeline_never_makes_a_state_wrong"),
    );
    let database = bench.database();
    std::thread::scope(|scope| {
        let workers: Vec<_> = events
            .chunks(300)
            .map(|part| {
                scope.spawn(move || {
                    let worker = Bench::on(database);
                    for batch in part.chunks(10) {
                        complete(&worker, batch);
                    }
                })
            })
            .collect();
        // Every pair and every count over and over, whether it looks wrong or not.
        let mut rng = seed::rng("a_repair_beside_the_live_pipeline_never_makes_a_state_wrong");
        while workers.iter().any(|worker| !worker.is_finished()) {
            let mut suspects = Vec::new();
            for _ in 0..10 {
                let id = rng.random_range(1..=6);
                let resource = match rng.random_bool(0.5) {
                    true => Resource::video(id),
                    false => comment(id),
                };
                suspects.push(suspect(
                    Finding::WrongLike,
                    likewise::store::Subject::Pair(super::bench::pair(
                        rng.random_range(1..=8),
                        resource,
                    )),
                ));
                suspects.push(suspect(
                    Finding::WrongCount,
                    likewise::store::Subject::Resource(resource),
                ));
            }
            let mended = mend(bench, &suspects);
            assert_eq!(mended.rows, 0, "nothing was wrong");
        }
        for worker in workers {
            worker.join().expect("a worker");
        }
    });
    bench.verified();
    bench.had_no_deadlock();
}

fn suspect(finding: Finding, subject: likewise::store::Subject) -> Discrepancy {
    Discrepancy {
        finding,
        subject,
        expected: String::new(),
        found: String::new(),
    }
}

const OLD: &str = "'2020-01-01 00:00:00'";

fn pruned_ledger_rows_are_missed_by_nobody(bench: &Bench) {
    complete(
        bench,
        &history(
            50,
            &mut seed::rng("pruned_ledger_rows_are_missed_by_nobody"),
        ),
    );
    bench.record(&[like(99, 7)]);
    bench.database().execute(&[
        &format!("UPDATE sync_events SET created_at = {OLD}"),
        &format!("UPDATE user_behaviors SET created_at = {OLD}"),
        "INSERT INTO sync_event_history (event_id, step, retry_count, fencing_token, created_at) \
         SELECT id, 'failed', 1, 1, created_at FROM sync_events",
    ]);
    complete(bench, &[like(1, 1)]);
    let before = Utc::now() - TimeDelta::days(30);
    let pruned: Vec<_> = (0..4)
        .map(|_| bench.ask(|store| store.prune_ledger(before, 20)))
        .collect();
    assert_eq!(pruned, [20, 20, 10, 0]);
    // The young one and the open one are still there, and the open one's history.
    assert_eq!(
        bench.database().number("SELECT COUNT(*) FROM sync_events"),
        2
    );
    let history = "SELECT COUNT(*) FROM sync_event_history";
    assert_eq!(bench.database().number(history), 1);
    assert_eq!(audit(bench, 10), []);
    // A younger one's loss is still seen, also after a look that would prune less.
    bench.ask(|store| store.prune_ledger(before - TimeDelta::days(1), 20));
    bench
        .database()
        .execute(&["DELETE FROM sync_events WHERE user_id = 1"]);
    let found = audit(bench, 10);
    assert_eq!(
        counted(&found),
        BTreeMap::from([(Finding::MissingLedgerRow, 1)])
    );
}

fn pruned_behaviors_leave_what_the_read_models_stand_on(bench: &Bench) {
    let mut rng = seed::rng("pruned_behaviors_leave_what_the_read_models_stand_on");
    complete(bench, &history(300, &mut rng));
    let video = Resource::video(1);
    bench.record(&[foreign(1, video, BehaviorType::View, 5, "feed")]);
    // The newest of this pair is not completed, so that the one before is still needed.
    complete(bench, &[own(77, video, Action::Like, 11)]);
    let open = bench.record(&[own(77, video, Action::Unlike, 12)]);
    bench
        .database()
        .execute(&[&format!("UPDATE user_behaviors SET created_at = {OLD}")]);
    complete(bench, &[like(78, 1)]);
    let before = Utc::now() - TimeDelta::days(30);
    let (mut after, mut pruned) = (0, 0);
    loop {
        let prunable = bench.ask(|store| store.prunable(before, after, 37));
        bench.ask(|store| store.prune_behaviors(&prunable.behaviors));
        pruned += prunable.behaviors.len();
        match prunable.position {
            Some(position) => after = position,
            None => break,
        }
    }
    assert!(pruned > 150, "{pruned} pruned");
    let left = bench
        .database()
        .number("SELECT COUNT(*) FROM user_behaviors");
    assert_eq!(left, 304 - pruned as i64);
    assert_eq!(audit(bench, 20), []);
    bench.sync(&open);
    assert_eq!(audit(bench, 20), []);
    bench.verified();
}
