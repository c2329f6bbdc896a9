//! Operators' queries and actions: search, history, retry and discard, jobs on a snapshot, quarantine.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};
use likewise::domain::{
    JobKind, JobState, LedgerRow, Priority, Resolution, ResourceType, Status, Verdict,
};
use likewise::store::{
    DeadLetterAction, DeadLetterFilter, Intervention, InterventionKind, Job, JobReport, JobRows,
    LedgerEntry, LedgerFilter, NewJob, QuarantineFilter, QuarantinedEvent, RowChange,
};
use uuid::Uuid;

use super::fixture::{self, Bench, MAX_RETRIES, like, now};

matrix!(&[sqlite, mariadb, postgres]:
    search_applies_every_part_of_the_filter,
    search_pages_follow_one_another,
    event_history_is_complete,
    retry_resets_and_discard_ends_a_row,
    repeated_intervention_leaves_one_entry,
    job_covers_exactly_its_snapshot,
    job_has_one_worker_and_none_when_cancelled,
    slot_creates_one_job,
    quarantined_message_is_resolved_once,
    message_jobs_pass_what_others_resolved,
    dead_letter_jobs_cover_their_filter,
);

const RETRIED: &str = "likewise_sync_event_history WHERE step = 'retried'";

/// Rows of users 1 to `rows`, each of which failed once.
fn failed(bench: &Bench, rows: i64, error: &str) -> Vec<LedgerRow> {
    let events: Vec<_> = (1..=rows)
        .map(|user| like(user.into(), user % 3 + 1))
        .collect();
    let rows = bench.record(&events);
    let far = now() + TimeDelta::minutes(5);
    let attempt = |row| fixture::failed(row, Verdict::Retry(far), error);
    let attempts: Vec<_> = rows.iter().map(attempt).collect();
    bench.ask(|store| store.fail(&attempts, now()));
    rows
}

fn search(bench: &Bench, filter: &LedgerFilter) -> Vec<LedgerEntry> {
    let page = bench.ask(|store| store.search(filter, None, 1_000));
    assert_eq!(page.next, None);
    page.entries
}

fn users(found: &[LedgerEntry]) -> BTreeSet<i64> {
    let users = found.iter().map(|entry| entry.user_id.number());
    users.map(|user| user.expect("a number")).collect()
}

fn search_applies_every_part_of_the_filter(bench: &Bench) {
    failed(bench, 6, "100% of it: Lock_Wait ü!");
    bench.complete(&[like(7.into(), 1), like(8.into(), 2)]);
    let any = LedgerFilter::default;
    let with = |filter: LedgerFilter| users(&search(bench, &filter));
    assert_eq!(with(any()), (1..=8).collect());
    let failed = LedgerFilter {
        status: Some(Status::Failed),
        ..any()
    };
    assert_eq!(with(failed), (1..=6).collect());
    let of_user = LedgerFilter {
        user_id: Some(4.into()),
        ..any()
    };
    assert_eq!(with(of_user), BTreeSet::from([4]));
    let of_resource = LedgerFilter {
        resource_type: Some(ResourceType::VIDEO),
        resource_id: Some(1.into()),
        ..any()
    };
    assert_eq!(with(of_resource), BTreeSet::from([3, 6, 7]));
    let of_comments = LedgerFilter {
        resource_type: Some(ResourceType::COMMENT),
        ..any()
    };
    assert_eq!(with(of_comments), BTreeSet::new());
    // The wildcards of LIKE match literally.
    for (error, found) in [
        ("LOCK_wait", 6),
        ("100%", 6),
        ("ü!", 6),
        ("1%0", 0),
        ("Lock-Wait", 0),
    ] {
        let of_error = LedgerFilter {
            error: Some(error.to_owned()),
            ..any()
        };
        assert_eq!(with(of_error).len(), found, "{error}");
    }
    let later = Some(Utc::now() + TimeDelta::minutes(1));
    let since = LedgerFilter {
        since: later,
        ..any()
    };
    assert_eq!(with(since), BTreeSet::new());
    let until = LedgerFilter {
        until: later,
        status: Some(Status::Completed),
        ..any()
    };
    assert_eq!(with(until), BTreeSet::from([7, 8]));

    let health = bench.ask(|store| store.ledger_health(now()));
    let rows = BTreeMap::from([(Status::Failed, 6), (Status::Completed, 2)]);
    assert_eq!((health.rows, health.due), (rows, 0));
    assert!(health.oldest_open_at.is_some());
    assert_eq!(health.errors.len(), 1);
    assert_eq!(health.errors[0].rows, 6);
}

fn search_pages_follow_one_another(bench: &Bench) {
    failed(bench, 25, "why");
    let mut seen = Vec::new();
    let mut after: Option<(DateTime<Utc>, String)> = None;
    loop {
        let place = after.clone();
        let filter = LedgerFilter::default();
        let page = bench.ask(|store| store.search(&filter, place, 7));
        assert!(page.entries.len() == 7 || page.next.is_none());
        seen.extend(page.entries);
        if page.next.is_none() {
            break;
        }
        after = page.next;
    }
    assert_eq!((seen.len(), users(&seen).len()), (25, 25));
    let order = |entry: &LedgerEntry| (entry.created_at, entry.event_id.clone());
    assert!(seen.is_sorted_by(|newer, older| order(newer) >= order(older)));
}

fn event_history_is_complete(bench: &Bench) {
    let mut event = like(1.into(), 7);
    event.stream_sequence = Some(42);
    let rows = bench.record(&[event.clone()]);
    let id = rows[0].event_id.to_string();
    let attempts = [fixture::failed(
        &rows[0],
        Verdict::Retry(now()),
        "the first try",
    )];
    bench.ask(|store| store.fail(&attempts, now()));
    bench.sync(&bench.claim(now(), 10));
    let record = bench.ask(|store| store.event_record(&id));
    let behavior = record.behavior.expect("a behavior");
    assert_eq!(behavior.stream_sequence, Some(42));
    assert_eq!(behavior.version, event.version.0);
    let ledger = record.ledger.expect("a ledger row");
    assert_eq!(
        (ledger.status.as_str(), ledger.retry_count),
        ("completed", 1)
    );
    let [entry] = record.history.as_slice() else {
        panic!("not one entry: {:?}", record.history);
    };
    assert_eq!(entry.step, "failed");
    assert_eq!(entry.error_message.as_deref(), Some("the first try"));
    let mark = record.read_model.expect("a row of the read model");
    assert_eq!((mark.version, mark.liked), (event.version, true));
    let nobody = Uuid::nil().to_string();
    let nothing = bench.ask(|store| store.event_record(&nobody));
    assert!(nothing.behavior.is_none() && nothing.ledger.is_none());
}

fn intervention(action: InterventionKind) -> Intervention {
    Intervention {
        action,
        operator: "ann".to_owned(),
        priority: Priority::Urgent,
        now: now(),
    }
}

fn ids(rows: &[LedgerRow]) -> Vec<String> {
    rows.iter().map(|row| row.event_id.to_string()).collect()
}

fn retry_resets_and_discard_ends_a_row(bench: &Bench) {
    let rows = failed(bench, 3, "why");
    let done = bench.record(&[like(9.into(), 9)]);
    let all = [ids(&rows), ids(&done)].concat();
    // The last row is under the recorder's lease, and later completed. Neither may change.
    let retry = intervention(InterventionKind::Retry);
    let discard = intervention(InterventionKind::Discard("no use".to_owned()));
    let retried = bench.ask(|store| store.intervene(&all[..2], &retry));
    assert_eq!(retried.len(), 2);
    let untouched = [all[3].clone()];
    for synced in [false, true] {
        if synced {
            bench.sync(&done);
        }
        for action in [&retry, &discard] {
            assert_eq!(bench.ask(|store| store.intervene(&untouched, action)), []);
        }
    }
    let entry = |id: &str| bench.ask(|store| store.event_record(id));
    let first = entry(&all[0]);
    let ledger = first.ledger.expect("a row");
    assert_eq!(ledger.status, "failed");
    assert_eq!(
        (ledger.retry_count, ledger.priority, ledger.fencing_token),
        (0, 1, 2)
    );
    assert_eq!(first.history.last().expect("an entry").step, "retried");
    // Retried rows are due at once, before less urgent ones, with all their attempts.
    let claimed = bench.claim(now(), 10);
    assert_eq!(claimed.len(), 2);
    assert_eq!(claimed[0].max_retries, MAX_RETRIES);
    bench.sync(&claimed);

    let discarded = bench.ask(|store| store.intervene(&all[2..3], &discard));
    assert_eq!(discarded.len(), 1);
    let third = entry(&all[2]);
    let ledger = third.ledger.expect("a row");
    assert_eq!(ledger.status, "dead");
    assert!(ledger.processed_at.is_some() && ledger.next_attempt_at.is_none());
    let error = ledger.error_message.expect("a reason");
    assert!(error.contains("no use") && error.contains("ann"), "{error}");
    let last = third.history.last().expect("an entry");
    assert_eq!(last.step, "discarded");
    assert_eq!(last.operator.as_deref(), Some("ann"));
    bench.verified();
}

/// A lost answer to a commit makes the store run the same transaction again.
fn repeated_intervention_leaves_one_entry(bench: &Bench) {
    let all = ids(&failed(bench, 2, "why"));
    let discard = intervention(InterventionKind::Discard("no use".to_owned()));
    let retry = intervention(InterventionKind::Retry);
    for (action, step, token) in [(&discard, "discarded", 2), (&retry, "retried", 3)] {
        for _ in 0..2 {
            let changed = bench.ask(|store| store.intervene(&all, action));
            assert_eq!(changed.len(), 2, "{step}");
            let entries = format!("likewise_sync_event_history WHERE step = '{step}'");
            assert_eq!(bench.database().count(&entries), 2, "{step}");
            let raised = format!("sync_events WHERE fencing_token = {token}");
            assert_eq!(bench.database().count(&raised), 2, "{step}");
        }
    }
    let again = Intervention {
        now: retry.now + TimeDelta::seconds(1),
        ..retry
    };
    bench.ask(|store| store.intervene(&all, &again));
    assert_eq!(bench.database().count(RETRIED), 4);
}

fn make(
    bench: &Bench,
    kind: JobKind,
    filter: Option<&LedgerFilter>,
    slot: Option<&str>,
) -> Option<Job> {
    let job = NewJob {
        kind,
        spec: serde_json::json!({"of": "a test"}),
        requested_by: "ann".to_owned(),
        slot: slot.map(str::to_owned),
        now: now(),
    };
    bench.ask(|store| store.create_job(&job, filter.map(JobRows::Events)))
}

/// Creates a job on these rows.
#[track_caller]
fn create(bench: &Bench, kind: JobKind, rows: JobRows<'_>) -> Job {
    let job = NewJob {
        kind,
        spec: serde_json::json!({"of": "a test"}),
        requested_by: "ann".to_owned(),
        slot: None,
        now: now(),
    };
    let created = bench.ask(|store| store.create_job(&job, Some(rows)));
    created.expect("a job")
}

fn soon() -> DateTime<Utc> {
    now() + TimeDelta::seconds(30)
}

fn job_covers_exactly_its_snapshot(bench: &Bench) {
    let rows = failed(bench, 20, "planted");
    let filter = LedgerFilter {
        error: Some("planted".to_owned()),
        ..LedgerFilter::default()
    };
    let counted = bench.ask(|store| store.count_matching(JobKind::Retry, &filter));
    assert_eq!(counted, BTreeMap::from([(Status::Failed, 20)]));
    let job = make(bench, JobKind::Retry, Some(&filter), None).expect("a job");
    assert_eq!((job.total, job.state), (Some(20), JobState::Queued));
    // One row is later than the snapshot, and one of the snapshot has completed meanwhile.
    failed(bench, 5, "planted");
    bench.sync(&rows[..1]);
    bench.execute(&[&format!(
        "UPDATE sync_events SET status = 'completed', \
             next_attempt_at = NULL, processed_at = updated_at WHERE id = '{}'",
        rows[0].event_id
    )]);

    let job = bench.ask(|store| store.claim_job(None, now(), soon()));
    let job = job.expect("the job");
    assert_eq!(job.state, JobState::Running);
    let retry = Intervention {
        priority: Priority::Bulk,
        ..intervention(InterventionKind::Retry)
    };
    let mut passed = 0;
    let mut changed = Vec::new();
    loop {
        let step =
            bench.ask(|store| store.step_job(&job, RowChange::Events(&retry), 6, (now(), soon())));
        let step = step.expect("this worker's job");
        passed += step.passed;
        changed.extend(step.events);
        if step.finished {
            break;
        }
    }
    assert_eq!((passed, changed.len()), (20, 19));
    let touched: BTreeSet<_> = ids(&changed).into_iter().collect();
    let snapshot: BTreeSet<_> = ids(&rows[1..]).into_iter().collect();
    assert_eq!(touched, snapshot);
    let ended = bench.ask(|store| store.job(&job.id)).expect("the job");
    assert_eq!(ended.state, JobState::Completed);
    assert_eq!((ended.done, ended.changed), (20, 19));
    assert!(ended.finished_at.is_some());
    assert_eq!(bench.database().count(RETRIED), 19);
    let waiting = "sync_events WHERE status = 'failed' AND priority = 0";
    assert_eq!(bench.database().count(waiting), 5);
    // A pruned job leaves nothing.
    assert_eq!(bench.ask(|store| store.prune_jobs(soon(), 10)), 1);
    assert_eq!(bench.database().count("likewise_job_events"), 0);
    assert!(bench.ask(|store| store.job(&job.id)).is_none());
}

fn job_has_one_worker_and_none_when_cancelled(bench: &Bench) {
    failed(bench, 10, "planted");
    let filter = LedgerFilter {
        status: Some(Status::Failed),
        ..LedgerFilter::default()
    };
    let made = make(bench, JobKind::Retry, Some(&filter), None).expect("a job");
    let claim =
        |at| bench.ask(|store| store.claim_job(Some(&made.id), at, at + TimeDelta::seconds(30)));
    let first = claim(now()).expect("the job");
    assert!(claim(now()).is_none(), "it is the first worker's");
    let second = claim(soon() + TimeDelta::seconds(1)).expect("the lease has run out");
    let retry = intervention(InterventionKind::Retry);
    let step =
        |job| bench.ask(|store| store.step_job(job, RowChange::Events(&retry), 3, (now(), soon())));
    assert!(step(&first).is_none());
    let report = JobReport::default();
    assert!(!bench.ask(|store| store.report_job(&first, &report, now())));
    assert_eq!(step(&second).expect("its job").changed, 3);

    let cancel = |id| bench.ask(|store| store.cancel_job(id, now()));
    assert_eq!(
        cancel(&made.id).expect("the job").state,
        JobState::Cancelled
    );
    assert!(step(&second).is_none());
    assert!(claim(soon() + TimeDelta::hours(1)).is_none());
    assert_eq!(bench.database().count(RETRIED), 3);
    assert!(cancel("nobody's").is_none());
}

fn slot_creates_one_job(bench: &Bench) {
    assert!(make(bench, JobKind::Audit, None, Some("audit/1")).is_some());
    assert!(make(bench, JobKind::Audit, None, Some("audit/1")).is_none());
    assert!(make(bench, JobKind::Audit, None, Some("audit/2")).is_some());
    assert!(make(bench, JobKind::Prune, None, None).is_some());
    assert!(make(bench, JobKind::Prune, None, None).is_some());
    let jobs = |kind| bench.ask(|store| store.jobs(kind, 10)).len();
    assert_eq!((jobs(None), jobs(Some(JobKind::Audit))), (4, 2));
    let job = bench.ask(|store| store.claim_job(None, now(), soon()));
    let job = job.expect("a job");
    let report = JobReport {
        total: Some(7),
        done: 7,
        changed: 2,
        state: Some(JobState::Completed),
        result: Some(serde_json::json!({"found": 2})),
        ..JobReport::default()
    };
    assert!(bench.ask(|store| store.report_job(&job, &report, now())));
    let job = bench.ask(|store| store.job(&job.id)).expect("the job");
    assert_eq!((job.total, job.done, job.changed), (Some(7), 7, 2));
    assert_eq!(job.result, Some(serde_json::json!({"found": 2})));
    assert!(job.finished_at.is_some());
}

fn message(n: u128) -> QuarantinedEvent {
    QuarantinedEvent {
        id: Uuid::from_u128(n),
        stream_sequence: n as i64,
        subject: "likewise.behaviors.video.like".to_owned(),
        message_id: None,
        trace: None,
        reason: "no event".to_owned(),
        payload: vec![0, 255, n as u8],
        created_at: now(),
    }
}

fn quarantined_message_is_resolved_once(bench: &Bench) {
    let messages: Vec<_> = (1..=5).map(message).collect();
    bench.ask(|store| store.quarantine(&messages));
    let id = messages[2].id.to_string();
    let resolve =
        || bench.ask(|store| store.resolve_quarantined(&id, Resolution::Discarded, "ann", now()));
    assert!(resolve());
    assert!(!resolve());
    let entry = bench.ask(|store| store.quarantine_entry(&id)).expect("it");
    assert_eq!(entry.event.payload, messages[2].payload);
    assert_eq!(entry.resolution.as_deref(), Some("discarded"));
    assert_eq!(entry.resolved_by.as_deref(), Some("ann"));
    let any = QuarantineFilter::default();
    let count = |resolved| {
        let found = bench.ask(|store| store.quarantine_entries(&any, resolved, None, 10));
        found.len()
    };
    assert_eq!([None, Some(true), Some(false)].map(count), [5, 1, 4]);
    let mut after = None;
    let mut seen = BTreeSet::new();
    loop {
        let place = after.clone();
        let page = bench.ask(|store| store.quarantine_entries(&any, None, place, 2));
        let Some(last) = page.last() else {
            break;
        };
        after = Some((last.event.created_at, last.event.id.to_string()));
        seen.extend(page.iter().map(|entry| entry.event.id));
    }
    assert_eq!(seen.len(), 5);
}

fn message_jobs_pass_what_others_resolved(bench: &Bench) {
    let mut messages: Vec<_> = (1..=12).map(message).collect();
    for other in &mut messages[8..] {
        other.reason = "it is CUT off".to_owned();
    }
    bench.ask(|store| store.quarantine(&messages));
    let filter = QuarantineFilter {
        reason: Some("No Event".to_owned()),
        subject: Some("VIDEO".to_owned()),
        ..QuarantineFilter::default()
    };
    let listed = |filter: &QuarantineFilter| {
        let found = bench.ask(|store| store.quarantine_entries(filter, None, None, 100));
        found.len()
    };
    assert_eq!(listed(&filter), 8);
    let later = QuarantineFilter {
        since: Some(soon()),
        ..QuarantineFilter::default()
    };
    assert_eq!(listed(&later), 0);
    assert_eq!(bench.ask(|store| store.count_quarantined(&filter)), 8);

    let job = create(bench, JobKind::Republish, JobRows::Messages(&filter));
    assert_eq!(job.total, Some(8));
    // A message that arrives later is not in the snapshot, and another operator resolves one of it.
    let late = [message(99)];
    bench.ask(|store| store.quarantine(&late));
    let taken = messages[0].id.to_string();
    assert!(
        bench.ask(|store| {
            store.resolve_quarantined(&taken, Resolution::Discarded, "bob", now())
        })
    );
    let job = bench.ask(|store| store.claim_job(Some(&job.id), now(), soon()));
    let job = job.expect("the job");
    let next = bench
        .ask(|store| store.next_of_job(&job, 5))
        .expect("its job");
    assert_eq!(next.len(), 5);
    assert!(next.contains(&taken));
    // Of the first five, two could not be published, one of which is resolved already.
    let published: BTreeSet<_> = next.iter().filter(|id| **id != next[4]).cloned().collect();
    let change = RowChange::Republished(&published);
    let step = bench.ask(|store| store.step_job(&job, change, 5, (now(), soon())));
    let step = step.expect("its job");
    assert_eq!((step.passed, step.changed, step.finished), (5, 3, false));
    let discard = RowChange::DiscardMessages;
    let step = bench.ask(|store| store.step_job(&job, discard, 5, (now(), soon())));
    let step = step.expect("its job");
    assert_eq!((step.passed, step.changed, step.finished), (3, 3, true));
    let count = |condition: &str| {
        let table = format!("likewise_quarantined_events WHERE {condition}");
        bench.database().count(&table)
    };
    assert_eq!(
        count("resolution = 'republished' AND resolved_by = 'ann'"),
        3
    );
    assert_eq!(count("resolution = 'discarded' AND resolved_by = 'ann'"), 3);
    assert_eq!(count("resolved_at IS NULL"), 6);
    let ended = bench.ask(|store| store.job(&job.id)).expect("the job");
    assert_eq!(
        (ended.state, ended.done, ended.changed),
        (JobState::Completed, 8, 6)
    );
}

fn dead_letter_jobs_cover_their_filter(bench: &Bench) {
    let at = "'2026-11-01 00:00:00'";
    let letters = (1..=30).map(|n| {
        let (receiver, dead) = match n % 3 {
            0 => ("http://other/", at),
            1 => ("http://hook/", at),
            _ => ("http://hook/", "NULL"),
        };
        let id = Uuid::from_u128(n);
        format!(
            "('{receiver}', '{id}', 'liked', {n}, 'video', {}, 1, {n}, {at}, 3, 'it answered 42{}', {dead})",
            n % 2,
            n % 10
        )
    });
    let letters: Vec<_> = letters.collect();
    bench.execute(&[&format!(
        "INSERT INTO likewise_outbox (receiver, event_id, fact, user_id, resource_type, resource_id, like_count, \
         version, created_at, attempts, last_error, dead_at) VALUES {}",
        letters.join(", ")
    )]);
    let filter = |resource: Option<i64>, error: Option<&str>| DeadLetterFilter {
        receiver: Some("http://hook/".to_owned()),
        resource_id: resource.map(Into::into),
        error: error.map(str::to_owned),
        ..DeadLetterFilter::default()
    };
    let listed = |filter: &DeadLetterFilter| {
        let found = bench.ask(|store| store.dead_letters(filter, 0, 100));
        found.iter().map(|letter| letter.row.id).collect::<Vec<_>>()
    };
    assert_eq!(listed(&DeadLetterFilter::default()).len(), 20);
    assert_eq!(listed(&filter(None, None)).len(), 10);
    assert_eq!(listed(&filter(Some(1), None)).len(), 5);
    assert_eq!(listed(&filter(Some(1), Some("ANSWERED 421"))).len(), 1);
    let user = DeadLetterFilter {
        user_id: Some(4.into()),
        until: Some(now()),
        ..DeadLetterFilter::default()
    };
    assert_eq!(listed(&user).len(), 1);
    let odd = filter(Some(1), None);
    let counted = bench.ask(|store| store.count_dead_letters(&odd));
    assert_eq!(counted, BTreeMap::from([("http://hook/".to_owned(), 5)]));

    let ids = listed(&odd);
    let job = create(bench, JobKind::RetryWebhooks, JobRows::DeadLetters(&odd));
    assert_eq!(job.total, Some(5));
    // One is retried by hand before the job comes to it.
    let by_hand = bench.ask(|store| store.change_dead_letters(DeadLetterAction::Retry, &ids[..1]));
    assert_eq!(by_hand.len(), 1);
    let job = bench.ask(|store| store.claim_job(Some(&job.id), now(), soon()));
    let job = job.expect("the job");
    let retry = RowChange::DeadLetters(DeadLetterAction::Retry);
    let step = |change, limit| {
        let step = bench.ask(|store| store.step_job(&job, change, limit, (now(), soon())));
        step.map(|step| (step.passed, step.changed))
    };
    let first = step(retry, 2).expect("its job");
    assert_eq!(first.0, 2);
    bench.ask(|store| store.cancel_job(&job.id, now()));
    assert_eq!(step(retry, 2), None, "a cancelled job changes nothing");
    let ended = bench.ask(|store| store.job(&job.id)).expect("the job");
    assert_eq!((ended.done, ended.changed), (2, first.1 as i64));
    let left = listed(&odd);
    assert_eq!(left.len(), 4 - first.1);
    let due = "likewise_outbox WHERE dead_at IS NULL AND attempts = 0";
    assert_eq!(bench.database().count(due), 1 + first.1 as i64);

    let job = create(bench, JobKind::DiscardWebhooks, JobRows::DeadLetters(&odd));
    let job = bench.ask(|store| store.claim_job(Some(&job.id), now(), soon()));
    let job = job.expect("the job");
    let discard = RowChange::DeadLetters(DeadLetterAction::Discard);
    let step = bench.ask(|store| store.step_job(&job, discard, 100, (now(), soon())));
    let step = step.expect("its job");
    assert!(step.finished);
    assert_eq!(step.changed, left.len());
    assert_eq!(listed(&odd), [0; 0]);
    assert!(bench.ask(|store| store.dead_letter(left[0])).is_none());
    assert_eq!(
        bench.database().count("likewise_outbox"),
        30 - left.len() as i64
    );
}
