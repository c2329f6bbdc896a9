//! `inspect` and `repair` find and repair differences in chunks of any size, beside the live pipeline. `prune_*` delete
//! old rows and break no guarantee.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use likewise::actors::job_runner::Jobs;
use likewise::admin::{AdminError, AdminService, JobExit, Runner};
use likewise::admin::{Audit, AuditOptions, AuditState, Dependencies};
use likewise::config::PruneOptions;
use likewise::domain::{
    Action, BehaviorEvent, BehaviorType, EntryId, IdKinds, Resource, ResourceType,
};
use likewise::domain::{JobKind, JobState};
use likewise::store::{Discrepancy, Finding, Job, NewJob, Pass, Repaired, StoreError, Subject};
use rand::RngExt;
use rand::rngs::SmallRng;
use serde_json::{Value, json};

use super::fixture::{Bench, comment, foreign, history, like, now, own, pair};
use crate::support::{PATIENCE, seed, until};

matrix!(&[sqlite, mariadb, postgres]:
    consistent_data_is_left_unchanged,
    each_corruption_is_found_and_repaired,
    repaired_like_and_count_commit_together,
    random_corruptions_are_all_repaired,
    read_models_and_ledger_are_rebuilt_from_behaviors,
    repair_beside_live_traffic_never_corrupts_a_state,
    pruned_ledger_rows_are_not_missed,
    limit_of_retention_is_never_in_the_future,
    pruned_behaviors_keep_the_read_models_valid,
    walk_ends_with_the_step_that_reaches_the_end,
    repair_leaves_no_count_below_zero,
    audit_resumes_where_it_stopped,
    stopped_audit_job_resumes_on_the_next_worker,
    audit_makes_way_for_other_jobs,
);

const PASSES: [Pass; 8] = [
    Pass::Behaviors,
    Pass::Ledger,
    Pass::Likes(ResourceType::VIDEO),
    Pass::Likes(ResourceType::COMMENT),
    Pass::Counts(ResourceType::VIDEO),
    Pass::Counts(ResourceType::COMMENT),
    Pass::BehaviorCounts(ResourceType::VIDEO),
    Pass::BehaviorCounts(ResourceType::COMMENT),
];

/// Reads a pass in chunks of this many rows.
fn inspect(bench: &Bench, pass: Pass, rows: usize) -> Vec<Discrepancy> {
    let mut found = Vec::new();
    let mut after = pass.start(IdKinds::default());
    loop {
        let chunk = bench.ask(|store| store.chunk(pass, after.clone(), rows));
        found.extend(bench.ask(|store| store.inspect(&chunk)));
        match chunk.until {
            Some(until) => after = until,
            None => return found,
        }
    }
}

fn repair(bench: &Bench, found: &[Discrepancy]) -> Repaired {
    bench.ask(|store| store.repair(found, now()))
}

/// Repairs pass by pass, as an audit does. Returns the findings.
pub fn audit(bench: &Bench, rows: usize) -> Vec<Discrepancy> {
    let mut all = Vec::new();
    for pass in PASSES {
        let found = inspect(bench, pass, rows);
        repair(bench, &found);
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

fn view() -> BehaviorEvent {
    let video = Resource::video(7);
    foreign(30.into(), video, BehaviorType::View, 5, "feed")
}

fn consistent_data_is_left_unchanged(bench: &Bench) {
    let mut rng = seed::rng("consistent_data_is_left_unchanged");
    bench.complete(&history(300, &mut rng));
    // Open rows, and behaviors that are not likes.
    bench.record(&[like(99.into(), 7)]);
    bench.record(&[view()]);
    for rows in [1, 7, 10_000] {
        assert_eq!(audit(bench, rows), [], "chunks of {rows}");
    }
}

/// Damage in plain SQL, after the audit's name for it.
const PLANTED: [(Finding, &[&str]); 6] = [
    (
        Finding::WrongLike,
        &[
            "DELETE FROM video_likes WHERE user_id = 1",
            "UPDATE video_likes SET deleted_at = created_at WHERE user_id = 1",
            "UPDATE video_likes SET version = version + 1000 WHERE user_id = 2",
            "UPDATE video_likes SET created_at = '2026-01-01 00:00:00' WHERE user_id = 2",
            "UPDATE video_likes SET voided_at = '2026-01-01 00:00:00' WHERE user_id = 2",
            "UPDATE comment_likes SET deleted_at = NULL WHERE user_id = 1",
            "INSERT INTO video_likes (user_id, video_id, version, created_at) \
         VALUES (99, 7, 5, '2026-01-01 00:00:00')",
        ],
    ),
    (
        Finding::WrongCount,
        &[
            "UPDATE likewise_like_counts SET like_count = 77 WHERE resource_type = 'video'",
            "DELETE FROM likewise_like_counts WHERE resource_type = 'comment'",
        ],
    ),
    (
        Finding::MissingLedgerRow,
        &["DELETE FROM sync_events WHERE user_id = 3"],
    ),
    (
        Finding::MissingBehavior,
        &["DELETE FROM user_behaviors WHERE user_id = 3"],
    ),
    (
        Finding::BrokenLedgerRow,
        &[
            "UPDATE sync_events SET next_attempt_at = '2026-01-01 00:00:00' WHERE user_id = 2",
            "UPDATE sync_events SET processed_at = NULL WHERE user_id = 2",
            "UPDATE sync_events SET status = 'dead' WHERE user_id = 8",
            "UPDATE sync_events SET status = 'processing', processed_at = NULL WHERE user_id = 9",
            "UPDATE sync_events SET status = 'lost' WHERE user_id = 10",
        ],
    ),
    (
        Finding::WrongBehaviorCount,
        &[
            "UPDATE likewise_behavior_counts SET behavior_count = behavior_count + 2",
            "DELETE FROM likewise_behavior_counts WHERE behavior_type = 'view'",
            "DELETE FROM user_behaviors WHERE behavior_type = 'view'",
        ],
    ),
];

fn each_corruption_is_found_and_repaired(bench: &Bench) {
    let video = Resource::video(7);
    bench.complete(&[
        own(1.into(), video.clone(), Action::Like, 11),
        own(2.into(), video.clone(), Action::Like, 12),
        own(3.into(), video.clone(), Action::Like, 13),
        own(4.into(), video.clone(), Action::Like, 14),
        own(4.into(), video, Action::Unlike, 15),
        own(1.into(), comment(7), Action::Unlike, 17),
        own(8.into(), Resource::video(8), Action::Like, 18),
        own(9.into(), Resource::video(9), Action::Like, 19),
        own(10.into(), Resource::video(10), Action::Like, 20),
    ]);
    bench.record(&[view()]);
    let planted = PLANTED
        .iter()
        .flat_map(|(finding, plants)| plants.iter().map(move |plant| (*finding, *plant)));
    for (finding, plant) in planted {
        bench.execute(&[plant]);
        let found = audit(bench, 2);
        let first = found.first().map(|first| first.finding);
        assert_eq!(first, Some(finding), "{plant}: {found:#?}");
        // The reopened row completes.
        bench.sync(&bench.claim(now(), 10));
        audit(bench, 2);
        assert_eq!(audit(bench, 1_000), [], "{plant}");
        bench.verified();
    }
}

/// A count that equals its rows still does so after each repair, without a recount.
fn repaired_like_and_count_commit_together(bench: &Bench) {
    let video = Resource::video(7);
    bench.complete(&[
        own(1.into(), video.clone(), Action::Like, 11),
        own(2.into(), video.clone(), Action::Like, 12),
    ]);
    bench.execute(&[
        "DELETE FROM video_likes WHERE user_id = 1",
        "UPDATE likewise_like_counts SET like_count = 1",
    ]);
    let counts = Pass::Counts(ResourceType::VIDEO);
    assert_eq!(inspect(bench, counts, 10), []);
    let found = inspect(bench, Pass::Likes(ResourceType::VIDEO), 10);
    let repaired = repair(bench, &found);
    let entries = vec![EntryId::User(1.into()), EntryId::Count(video)];
    assert_eq!((repaired.rows, repaired.entries), (1, entries));
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
        2 => format!(
            "UPDATE likewise_like_counts SET like_count = like_count + 3 WHERE resource_id = {id}"
        ),
        3 => format!("DELETE FROM likewise_like_counts WHERE resource_id = {id}"),
        4 => format!("DELETE FROM sync_events WHERE id = {event}"),
        5 => format!("DELETE FROM user_behaviors WHERE event_id = {event}"),
        _ => format!("UPDATE sync_events SET next_attempt_at = created_at WHERE id = {event}"),
    };
    bench.execute(&[&statement]);
}

fn random_corruptions_are_all_repaired(bench: &Bench) {
    let mut rng = seed::rng("random_corruptions_are_all_repaired");
    bench.complete(&history(400, &mut rng));
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

fn read_models_and_ledger_are_rebuilt_from_behaviors(bench: &Bench) {
    let mut rng = seed::rng("read_models_and_ledger_are_rebuilt_from_behaviors");
    bench.complete(&history(400, &mut rng));
    let state = |table: &str| {
        let rows = format!("SELECT * FROM {table} ORDER BY 1, 2");
        bench.database().rows(&rows)
    };
    let before = (state("video_likes"), state("comment_likes"));
    bench.execute(&[
        "DELETE FROM sync_events",
        "DELETE FROM video_likes",
        "DELETE FROM comment_likes",
        "DELETE FROM likewise_like_counts",
    ]);
    let found = audit(bench, 50);
    assert_eq!(counted(&found)[&Finding::MissingLedgerRow], 400);
    assert_eq!((state("video_likes"), state("comment_likes")), before);
    bench.verified();
}

fn repair_beside_live_traffic_never_corrupts_a_state(bench: &Bench) {
    let mut rng = seed::rng("repair_beside_live_traffic_never_corrupts_a_state");
    let events = history(600, &mut rng);
    let database = bench.database();
    std::thread::scope(|scope| {
        let workers: Vec<_> = events
            .chunks(300)
            .map(|part| {
                scope.spawn(move || {
                    let worker = Bench::on(database);
                    for batch in part.chunks(10) {
                        worker.complete(batch);
                        worker.record(&batch.iter().map(viewed).collect::<Vec<_>>());
                    }
                })
            })
            .collect();
        // Repairs every pair and count again and again, damaged or not.
        while workers.iter().any(|worker| !worker.is_finished()) {
            let mut suspects = Vec::new();
            for _ in 0..10 {
                let id = rng.random_range(1..=6);
                let resource = match rng.random_bool(0.5) {
                    true => Resource::video(id),
                    false => comment(id),
                };
                let user: i64 = rng.random_range(1..=8);
                let pair = Subject::Pair(pair(user.into(), resource.clone()));
                suspects.push(suspect(Finding::WrongLike, pair));
                for finding in [Finding::WrongCount, Finding::WrongBehaviorCount] {
                    suspects.push(suspect(finding, Subject::Resource(resource.clone())));
                }
            }
            let repaired = repair(bench, &suspects);
            assert_eq!(repaired.rows, 0, "nothing was wrong");
        }
        for worker in workers {
            worker.join().expect("a worker");
        }
    });
    bench.verified();
    bench.had_no_deadlock();
}

/// A view of the resource that this event is about, by the same user.
fn viewed(event: &BehaviorEvent) -> BehaviorEvent {
    BehaviorEvent {
        event_id: uuid::Uuid::now_v7(),
        behavior: BehaviorType::View,
        ..event.clone()
    }
}

fn suspect(finding: Finding, subject: Subject) -> Discrepancy {
    Discrepancy {
        finding,
        subject,
        expected: String::new(),
        found: String::new(),
    }
}

const OLD: &str = "'2020-01-01 00:00:00'";

fn pruned_ledger_rows_are_not_missed(bench: &Bench) {
    bench.complete(&history(
        50,
        &mut seed::rng("pruned_ledger_rows_are_not_missed"),
    ));
    bench.record(&[like(99.into(), 7)]);
    bench.execute(&[
        &format!("UPDATE sync_events SET created_at = {OLD}"),
        &format!("UPDATE user_behaviors SET created_at = {OLD}"),
        "INSERT INTO likewise_sync_event_history (event_id, step, retry_count, fencing_token, created_at) \
         SELECT id, 'failed', 1, 1, created_at FROM sync_events",
    ]);
    bench.complete(&[like(1.into(), 1)]);
    let before = Utc::now() - TimeDelta::days(30);
    let pruned: Vec<_> = (0..4)
        .map(|_| bench.ask(|store| store.prune_ledger(before, 20)))
        .collect();
    assert_eq!(pruned, [20, 20, 10, 0]);
    // The young row, the open row and its history remain.
    assert_eq!(bench.database().count("sync_events"), 2);
    assert_eq!(bench.database().count("likewise_sync_event_history"), 1);
    assert_eq!(audit(bench, 10), []);
    // A lost younger behavior is still detected, also after a check that would prune less.
    bench.ask(|store| store.prune_ledger(before - TimeDelta::days(1), 20));
    bench.execute(&["DELETE FROM sync_events WHERE user_id = 1"]);
    let found = audit(bench, 10);
    assert_eq!(counted(&found), [(Finding::MissingLedgerRow, 1)].into());
}

fn limit_of_retention_is_never_in_the_future(bench: &Bench) {
    bench.execute(&[
        "INSERT INTO likewise_retention (pruned_table, pruned_before) \
         VALUES ('sync_events', '2100-01-01 00:00:00')",
    ]);
    for (user, days) in [(1_i64, -30), (2, 30)] {
        let before = Utc::now() + TimeDelta::days(days);
        bench.ask(|store| store.prune_ledger(before, 20));
        bench.complete(&[like(user.into(), 1)]);
        // A lost ledger row is detected, because its behavior was recorded after the pruning.
        let lost = format!("DELETE FROM sync_events WHERE user_id = {user}");
        bench.execute(&[&lost]);
        let found = audit(bench, 10);
        assert_eq!(counted(&found), [(Finding::MissingLedgerRow, 1)].into());
        // The repaired row completes.
        bench.sync(&bench.claim(now(), 10));
        audit(bench, 10);
    }
}

/// Deletes the behaviors recorded before this time that no read model needs. Returns their number.
pub fn prune(bench: &Bench, before: DateTime<Utc>) -> usize {
    let (mut after, mut pruned) = (0, 0);
    loop {
        let prunable = bench.ask(|store| store.prunable(before, after, 37));
        bench.ask(|store| store.prune_behaviors(&prunable.behaviors));
        pruned += prunable.behaviors.len();
        match prunable.position {
            Some(position) => after = position,
            None => return pruned,
        }
    }
}

/// Otherwise it would never end while likes arrive.
fn walk_ends_with_the_step_that_reaches_the_end(bench: &Bench) {
    bench.complete(&[1, 2, 3].map(|user| like(user.into(), 1)));
    let step = |after, limit| {
        let prunable = bench.ask(|store| store.prunable(Utc::now(), after, limit));
        prunable.position
    };
    let second = step(0, 2).expect("a third row");
    assert_eq!(step(second, 2), None);
    assert_eq!(step(0, 4), None);
}

fn pruned_behaviors_keep_the_read_models_valid(bench: &Bench) {
    let mut rng = seed::rng("pruned_behaviors_keep_the_read_models_valid");
    bench.complete(&history(300, &mut rng));
    let video = Resource::video(1);
    let view = foreign(1.into(), video.clone(), BehaviorType::View, 5, "feed");
    bench.record(&[view]);
    // The newest event of this pair is not completed, so the previous one is still needed.
    bench.complete(&[own(77.into(), video.clone(), Action::Like, 11)]);
    let open = bench.record(&[own(77.into(), video, Action::Unlike, 12)]);
    bench.execute(&[&format!("UPDATE user_behaviors SET created_at = {OLD}")]);
    bench.complete(&[like(78.into(), 1)]);
    let pruned = prune(bench, Utc::now() - TimeDelta::days(30));
    assert!(pruned > 100, "{pruned} pruned");
    let left = bench.database().count("user_behaviors");
    assert_eq!(left, 304 - pruned as i64);
    assert_eq!(audit(bench, 20), []);
    bench.sync(&open);
    assert_eq!(audit(bench, 20), []);
    bench.verified();
}

fn repair_leaves_no_count_below_zero(bench: &Bench) {
    let likes: Vec<_> = (1..=3).map(|user| like(user.into(), 7)).collect();
    bench.complete(&likes);
    // A like without an event, and a count that lost all: together they would be minus one.
    bench.execute(&[
        "INSERT INTO video_likes (user_id, video_id, version, created_at) \
         VALUES (99, 7, 5, '2026-01-01 00:00:00')",
        "UPDATE likewise_like_counts SET like_count = 0",
    ]);
    let found = inspect(bench, Pass::Likes(ResourceType::VIDEO), 100);
    assert_eq!(found.len(), 1, "{found:#?}");
    repair(bench, &found);
    let count = "SELECT like_count FROM likewise_like_counts";
    let count = || bench.database().number(count);
    assert_eq!(count(), 3);
    // A count below zero is reported without a negative number of likes.
    bench.execute(&["UPDATE likewise_like_counts SET like_count = -1"]);
    let found = inspect(bench, Pass::Counts(ResourceType::VIDEO), 100);
    assert_eq!(found[0].found, "a count below zero");
    repair(bench, &found);
    assert_eq!(count(), 3);
    bench.verified();
}

fn dependencies(bench: &Bench) -> Dependencies {
    Dependencies {
        store: bench.store(),
        cache: None,
        broker: None,
    }
}

/// Records this many completed likes, each of another user.
fn of_users(bench: &Bench, users: i64) {
    let likes: Vec<_> = (1..=users)
        .map(|user| like(user.into(), user % 10 + 1))
        .collect();
    bench.complete(&likes);
}

fn audit_resumes_where_it_stopped(bench: &Bench) {
    of_users(bench, 200);
    let options = AuditOptions {
        chunk: 20,
        grace_period: std::time::Duration::ZERO,
        ..AuditOptions::new(false)
    };
    let audit = bench.wait(async {
        let begun = Audit::begin(dependencies(bench), options, None).await;
        let mut audit = begun.expect("an audit");
        for _ in 0..5 {
            audit.step().await.expect("a step").expect("more to do");
        }
        audit
    });
    let kept = serde_json::to_string(audit.checkpoint()).expect("JSON");
    drop(audit);
    // The audit resumes after the rows that the first worker compared.
    bench.execute(&[
        "DELETE FROM sync_events WHERE user_id IN (1, 150)",
        "INSERT INTO likewise_retention (pruned_table, pruned_before) \
         VALUES ('sync_events', '2020-01-01 00:00:00')",
    ]);
    let report = bench.wait(async {
        let state: AuditState = serde_json::from_str(&kept).expect("a state");
        let begun = Audit::begin(dependencies(bench), options, Some(state)).await;
        let mut audit = begun.expect("an audit");
        while audit.step().await.expect("a step").is_some() {}
        audit.finish().await.expect("a report")
    });
    let found = report.findings[&Finding::MissingLedgerRow].found;
    assert_eq!((report.found(), found), (1, 1), "{report:#?}");
    assert_eq!(report.checked.behaviors, 200, "{report:#?}");
    assert_eq!(report.checked.ledger_rows, 198, "{report:#?}");
}

fn admin(bench: &Bench) -> AdminService {
    AdminService {
        dependencies: dependencies(bench),
        cache_writer: None,
        prune: PruneOptions::default(),
        facts_stream: None,
        stream_max_age: None,
    }
}

fn runner(bench: &Bench) -> Runner {
    Runner::hurried(admin(bench))
}

fn audit_job(bench: &Bench) -> Job {
    job_of(bench, JobKind::Audit, json!({"repair": false}), now())
}

/// Creates a job at this time.
fn job_of(bench: &Bench, kind: JobKind, spec: Value, at: DateTime<Utc>) -> Job {
    let job = NewJob {
        kind,
        spec,
        requested_by: "ann".to_owned(),
        slot: None,
        now: at,
    };
    let job = bench.ask(|store| store.create_job(&job, None));
    job.expect("a job")
}

fn job(bench: &Bench, id: &str) -> Job {
    bench.ask(|store| store.job(id)).expect("the job")
}

fn stopped_audit_job_resumes_on_the_next_worker(bench: &Bench) {
    of_users(bench, 50);
    let id = audit_job(bench).id;
    // The first worker stops after two steps: behaviors and ledger are done.
    let first = runner(bench);
    let mut steps = 0;
    let ended = bench.wait(first.run_next(Some(&id), &mut |_| {
        steps += 1;
        if steps == 2 {
            first.stop();
        }
    }));
    assert_eq!(ended.expect("a run"), Some(JobExit::Stopped));
    let stopped = job(bench, &id);
    assert_eq!(stopped.state, JobState::Running);
    assert!(stopped.position.is_some());
    let mut stages = Vec::new();
    let next = runner(bench);
    let ended = bench.wait(next.run_next(Some(&id), &mut |progress| {
        stages.push(progress.stage);
    }));
    assert_eq!(ended.expect("a run"), Some(JobExit::Finished));
    let expected = ["read models", "counts", "counts by behavior"];
    let expected: Vec<_> = expected.into_iter().flat_map(|one| [one; 2]).collect();
    assert_eq!(stages, expected);
    let result = job(bench, &id).result.expect("a report");
    assert_eq!(result["checked"]["behaviors"], 50, "{result:#}");
    assert_eq!(result["checked"]["ledger_rows"], 50, "{result:#}");
}

fn audit_makes_way_for_other_jobs(bench: &Bench) {
    of_users(bench, 50);
    let at = |minutes| now() - TimeDelta::minutes(minutes);
    let audit = job_of(bench, JobKind::Audit, json!({"repair": false}), at(2)).id;
    let rebuild = json!({"what": "read_models"});
    let other = job_of(bench, JobKind::Rebuild, rebuild, at(1)).id;
    let runner = Runner::new(admin(bench));
    let run = |id: Option<&str>| {
        let mut steps = 0;
        let ran = bench.wait(runner.run_next(id, &mut |_| steps += 1));
        (ran.expect("a run"), steps)
    };
    // The audit runs, and leaves the worker to the other job after a step.
    assert_eq!(run(Some(&audit)), (Some(JobExit::Stopped), 1));
    assert_eq!(run(None).0, Some(JobExit::Finished));
    let states = [&audit, &other].map(|id| job(bench, id).state);
    assert_eq!(states, [JobState::Running, JobState::Completed]);
    // Nothing else waits, so the audit goes on to its end.
    assert_eq!(run(None), (Some(JobExit::Finished), PASSES.len() - 1));
    let result = job(bench, &audit).result.expect("a report");
    assert_eq!(result["checked"]["behaviors"], 50, "{result:#}");
}

/// The table stays locked. The step is retried with fewer rows, and the job fails in the end.
#[test]
fn audit_step_that_times_out_shrinks_and_gives_up() {
    use std::collections::BTreeSet;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    use crate::support::servers::Kind;

    let bench = Bench::new(Some(Kind::Postgres));
    of_users(&bench, 50);
    let hurried = Bench::within(bench.database(), Duration::from_secs(1));
    // Returns the end of a run, and what its job said meanwhile.
    let run = |id: &str| {
        let query = "LOCK TABLE comment_likes IN ACCESS EXCLUSIVE MODE; SELECT id FROM likewise_jobs LIMIT 0";
        let _held = bench.database().hold_rows(query);
        let has_ended = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let watch = scope.spawn(|| {
                let watcher = Bench::on(bench.database());
                let mut said = BTreeSet::new();
                while !has_ended.load(Ordering::Acquire) {
                    said.extend(job(&watcher, id).error_message);
                    std::thread::sleep(Duration::from_millis(20));
                }
                said
            });
            let ended = {
                scopeguard::defer!(has_ended.store(true, Ordering::Release));
                // The pauses between the tries are 15 seconds together.
                hurried.wait(async {
                    let runner = runner(&hurried);
                    tokio::time::timeout(PATIENCE, runner.run_next(Some(id), &mut |_| {})).await
                })
            };
            let ended = ended.unwrap_or_else(|_| {
                let job = job(&bench, id);
                panic!("the job has not given up after {PATIENCE:?}: {job:#?}")
            });
            (ended, watch.join().expect("messages"))
        })
    };
    // On a busy machine, a report may exceed the database's time limit too. The job then waits for the next worker,
    // and the test starts again with another job.
    let (id, said) = until("a job that no report fails", 4 * PATIENCE, || {
        let id = audit_job(&bench).id;
        match run(&id) {
            (Ok(ended), said) => {
                assert_eq!(ended, Some(JobExit::Finished));
                Ok((id, said))
            }
            (Err(AdminError::Store(StoreError::TimedOut(limit))), _) => {
                Err(format!("a report took longer than {limit:?}"))
            }
            (Err(error), _) => panic!("{error}"),
        }
    });
    // A watcher on a busy machine misses some.
    let fewer = [(1, 1_250), (2, 312), (3, 78), (4, 19)];
    let fewer = fewer.map(|(n, rows)| format!("with {rows} rows at once (failure {n} of "));
    let shrinks = |said: &String| fewer.iter().any(|fewer| said.contains(fewer));
    assert!(said.iter().any(shrinks), "{said:#?}");
    let job = job(&bench, &id);
    assert_eq!(job.state, JobState::Failed, "{job:#?}");
    let error = job.error_message.expect("a reason");
    assert!(error.contains("so the job failed"), "{error}");
    // No worker claims the failed job again.
    let again = bench.wait(runner(&bench).run_next(Some(&id), &mut |_| {}));
    assert_eq!(again.expect("a look"), None);
}
