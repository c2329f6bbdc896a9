//! An operator's action changes exactly the requested rows, once, and is on record.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::checks::pipeline_drains;
use crate::support::database::Database;
use crate::support::http::{Answer, Client};
use crate::support::redis_and_nats::Stack;
use crate::support::service::{Ran, Service, Setup};
use crate::support::{PATIENCE, say, until, until_equal, until_seen};

const VIDEOS: i64 = 50;

/// The number of failed rows before the job. `LIKEWISE_TEST_FAILED_ROWS=100000` is the full size.
fn failed_rows() -> i64 {
    let given = std::env::var("LIKEWISE_TEST_FAILED_ROWS").ok();
    given.map_or(6_000, |rows| rows.parse().expect("a number"))
}

/// Writes failed events of users from `first` on, as the service would. Returns their ids.
fn plant_failed(database: &Database, first: i64, rows: i64, error: &str) -> Vec<String> {
    const AT_ONCE: i64 = 500;
    let ids: Vec<String> = (0..rows).map(|_| Uuid::now_v7().to_string()).collect();
    for (part, some) in ids.chunks(AT_ONCE as usize).enumerate() {
        let (mut behaviors, mut ledger) = (Vec::new(), Vec::new());
        for (n, id) in some.iter().enumerate() {
            let user = first + part as i64 * AT_ONCE + n as i64;
            let video = user % VIDEOS + 1;
            let version = 1_790_000_000_000_000 + user;
            let at = "'2026-11-01 00:00:00'";
            behaviors.push(format!(
                "('{id}', {user}, 'video', {video}, 'like', {version}, 'likewise-api', {at}, {at})"
            ));
            ledger.push(format!(
                "('{id}', 'video_like', 'video', {video}, {user}, 'like', 'failed', {version}, 1, \
                 10, 0, '{error}', '2100-01-01 00:00:00', 1, {at}, {at})"
            ));
        }
        database.execute(&[
            &format!(
                "INSERT INTO user_behaviors (event_id, user_id, resource_type, resource_id, \
                 behavior_type, version, source, behavior_time, created_at) VALUES {}",
                behaviors.join(", ")
            ),
            &format!(
                "INSERT INTO sync_events (id, event_type, resource_type, resource_id, user_id, \
                 action_type, status, version, retry_count, max_retries, priority, error_message, \
                 next_attempt_at, fencing_token, created_at, updated_at) VALUES {}",
                ledger.join(", ")
            ),
        ]);
    }
    ids
}

/// Sends an operator's request. `null` sends no body.
fn post(client: &Client, path: &str, body: &Value) -> Answer {
    let client = client.with("X-Operator", "ann");
    match body {
        Value::Null => client.post(path, ""),
        body => client.post(path, body),
    }
}

#[track_caller]
fn make_job(client: &Client, body: &Value) -> String {
    let job = post(client, "/admin/jobs", body).has_status(201).json();
    assert_eq!(job["requested_by"], "ann");
    job["id"].as_str().expect("an id").to_owned()
}

fn job(client: &Client, id: &str) -> Value {
    client.get(&format!("/admin/jobs/{id}")).json()
}

#[track_caller]
fn until_job(client: &Client, id: &str, what: &str, reached: impl Fn(&Value) -> bool) -> Value {
    until(what, 4 * PATIENCE, || {
        let job = job(client, id);
        reached(&job).then_some(job.clone()).ok_or(job.to_string())
    })
}

#[track_caller]
fn until_finished(client: &Client, id: &str) -> Value {
    until_job(client, id, "the job to end", |job| {
        job["finished_at"].is_string()
    })
}

/// Waits until the job has passed more than this many rows.
#[track_caller]
fn until_done(client: &Client, id: &str, rows: i64) {
    until_job(client, id, "the job to get going", |job| {
        job["done"].as_i64() > Some(rows)
    });
}

fn history(database: &Database, step: &str) -> BTreeSet<String> {
    let sql = format!("SELECT event_id FROM likewise_sync_event_history WHERE step = '{step}'");
    let all = database.texts(&sql);
    let different: BTreeSet<_> = all.iter().cloned().collect();
    if step == "retried" {
        assert_eq!(all.len(), different.len(), "none twice");
    }
    different
}

matrix!([embedded, mariadb]: retry_job_covers_exactly_its_snapshot);

fn retry_job_covers_exactly_its_snapshot(setup: Setup) {
    let rows = failed_rows();
    let service = setup.start();
    let (client, database) = (service.client(), service.database());
    let snapshot: BTreeSet<_> = plant_failed(database, 1, rows, "planted: Lock wait")
        .into_iter()
        .collect();
    let filter = json!({"status": "failed", "error": "lock WAIT"});
    let dry = json!({"kind": "retry", "filter": filter, "dry_run": true});
    assert_eq!(post(&client, "/admin/jobs", &dry).ok()["total"], rows);
    assert!(history(database, "retried").is_empty());

    let done = AtomicBool::new(false);
    let (job, newcomers) = std::thread::scope(|scope| {
        let arriving = scope.spawn(|| {
            let mut newcomers = Vec::new();
            let mut first = 10_000_000;
            while !done.load(Ordering::Relaxed) {
                newcomers.extend(plant_failed(database, first, 20, "planted: Lock wait"));
                first += 20;
                std::thread::yield_now();
            }
            newcomers
        });
        // Also ends the newcomers of a test that fails.
        scopeguard::defer!(done.store(true, Ordering::Relaxed));
        let request = json!({"kind": "retry", "filter": filter, "per_second": 20_000});
        let id = make_job(&client, &request);
        let job = until_finished(&client, &id);
        done.store(true, Ordering::Relaxed);
        (job, arriving.join().expect("newcomers"))
    });
    say(format_args!(
        "{rows} rows: {job}, {} newcomers",
        newcomers.len()
    ));
    assert!(!newcomers.is_empty());
    assert_eq!(job["state"], "completed", "{job}");
    let total = job["total"].as_i64().expect("a total");
    assert_eq!([&job["done"], &job["changed"]], [&job["total"]; 2]);
    // The snapshot may include rows from between the dry run and the job, but none from after it.
    let retried = history(database, "retried");
    assert_eq!(retried.len() as i64, total);
    assert!(retried.is_superset(&snapshot));
    let taken = database.texts(
        "SELECT event_id FROM likewise_job_events WHERE outcome = 'changed' ORDER BY event_id",
    );
    assert_eq!(taken.into_iter().collect::<BTreeSet<_>>(), retried);
    until("the snapshot to be completed", 4 * PATIENCE, || {
        let completed = database.count("sync_events WHERE status = 'completed'");
        (completed == total).then_some(()).ok_or(completed)
    });
    let untouched = database.count(
        "sync_events WHERE status = 'failed' AND fencing_token = 1 AND priority = 0 \
         AND retry_count = 1 AND updated_at = '2026-11-01 00:00:00'",
    );
    assert_eq!(untouched, rows + newcomers.len() as i64 - total);

    // Discards the rest, so that the ledger closes.
    let discard = json!({"kind": "discard", "filter": filter, "reason": "came too late",
        "per_second": 20_000});
    until_finished(&client, &make_job(&client, &discard));
    service.stop().verify(30).holds();
}

#[test]
fn cancelled_job_changes_no_more_rows() {
    let service = Setup::new().start();
    let (client, database) = (service.client(), service.database());
    plant_failed(database, 1, 400, "planted");
    let request = json!({"kind": "retry", "filter": {"status": "failed"}, "per_second": 40});
    let id = make_job(&client, &request);
    until_done(&client, &id, 0);
    let cancel = || post(&client, &format!("/admin/jobs/{id}/cancel"), &Value::Null).ok();
    let cancelled = cancel();
    let touched = history(database, "retried").len();
    assert!(touched < 400, "{touched}");
    assert_eq!(cancelled["state"], "cancelled");
    assert_eq!(cancelled["changed"], touched);
    // A later job completes, and the cancelled one stays where it was.
    let other = make_job(&client, &json!({"kind": "audit"}));
    let audit = until_job(&client, &other, "the audit to end", |job| {
        job["result"].is_object()
    });
    assert_eq!(audit["result"]["findings"], json!({}), "{audit}");
    assert_eq!(history(database, "retried").len(), touched);
    assert_eq!(job(&client, &id)["state"], "cancelled");
    cancel();
    service.stop();
}

#[test]
fn killed_worker_job_resumes_and_repeats_no_row() {
    const ROWS: i64 = 1_200;
    let service = Setup::new().start();
    let planted = plant_failed(service.database(), 1, ROWS, "planted");
    let request = json!({"kind": "retry", "filter": {"status": "failed"}, "per_second": 200});
    let client = service.client();
    let id = make_job(&client, &request);
    until_done(&client, &id, 100);
    let service = service.kill().start();
    let client = service.client();
    let job = until_finished(&client, &id);
    assert_eq!(
        (&job["state"], &job["changed"]),
        (&json!("completed"), &json!(ROWS))
    );
    let retried = history(service.database(), "retried");
    assert_eq!(retried, planted.into_iter().collect());
    pipeline_drains(&service);
    service.stop().verify(30).holds();
}

#[test]
fn cli_retry_by_filter_is_recorded() {
    let setup = Setup::new();
    setup.run(&["migrate"]).exits(0);
    plant_failed(setup.database(), 1, 700, "planted: this");
    plant_failed(setup.database(), 5_000, 30, "planted: that");
    let retry = ["events", "retry", "--error", "PLANTED: this"];
    let refused = setup.run(&retry);
    refused.exits(1).reports("--yes");
    assert!(history(setup.database(), "retried").is_empty());
    let dry = setup.run(&[&retry[..], &["--dry-run"]].concat());
    dry.prints("700 rows match: 700 failed");
    let ran = setup.run(&[&retry[..], &["--yes", "--per-second", "20000"]].concat());
    ran.exits(0);
    let completed = "completed: 700 of 700 rows passed, 700 changed";
    ran.prints(completed);
    assert_eq!(history(setup.database(), "retried").len(), 700);
    let search = "events search --error that --json --limit 500";
    let that = setup.run(&search.split(' ').collect::<Vec<_>>());
    let that: Vec<Value> = serde_json::from_str(&that.stdout).expect("JSON");
    assert_eq!(that.len(), 30);
    let id = that[0]["event_id"].as_str().expect("an id");
    let discarded = setup.run(&["events", "discard", id, "--reason", "a test"]);
    discarded.exits(0);
    let shown = setup.run(&["events", "show", id]);
    for part in ["accepted", "recorded", "discarded", "a test", "dead"] {
        shown.prints(part);
    }
    let summary = setup.run(&["events", "summary"]);
    summary.prints("planted: this");
    let jobs = setup.run(&["events", "jobs", "--json"]);
    let jobs: Vec<Value> = serde_json::from_str(&jobs.stdout).expect("JSON");
    assert_eq!((jobs.len(), &jobs[0]["changed"]), (1, &json!(700)));
}

#[test]
fn cli_prints_json_and_tells_by_its_exit_code() {
    let setup = Setup::new();
    setup.run(&["migrate"]).exits(0);
    let ids = plant_failed(setup.database(), 1, 30, "planted: this");
    let run = |words: &str, more: &[&str]| {
        let words: Vec<_> = words.split(' ').chain(more.iter().copied()).collect();
        setup.run(&words)
    };
    let json = |ran: &Ran| -> Value {
        serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"))
    };
    let ran = run("events show nonsense", &[]);
    ran.exits(2).reports("must be a UUID");
    // One event, or a filter: not both.
    for arguments in ["--status failed", "--dry-run"] {
        let ran = run(
            "events retry",
            &[
                &[ids[0].as_str()],
                &arguments.split(' ').collect::<Vec<_>>()[..],
            ]
            .concat(),
        );
        ran.exits(2).reports("cannot be used with");
    }
    assert!(history(setup.database(), "retried").is_empty());
    let retried = json(run("events retry --json", &[&ids[0]]).exits(0));
    assert_eq!(retried["event_id"], ids[0].as_str());

    let counted = json(
        run(
            "events discard --status failed --reason test --dry-run --json",
            &[],
        )
        .exits(0),
    );
    assert_eq!(
        counted,
        json!({"dry_run": true, "total": 30, "rows": {"failed": 30}})
    );
    let discard = "events discard --status failed --reason test --json";
    run(discard, &[]).exits(1).reports("pass --yes");
    let ran = run(discard, &["--yes"]);
    ran.exits(0).reports("30 rows match: 30 failed");
    let job = json(&ran);
    assert_eq!(
        (&job["state"], &job["changed"]),
        (&"completed".into(), &30.into())
    );

    let id = job["id"].as_str().expect("an id");
    let followed = run("events jobs follow", &[id]);
    followed
        .exits(0)
        .prints("is completed: 30 of 30 rows passed, 30 changed");
    let of_kind = |kind: &str| json(run("events jobs --json list --kind", &[kind]).exits(0));
    assert_eq!(of_kind("discard")[0]["id"], id);
    assert_eq!(of_kind("retry"), json!([]));
    // A job that did not complete.
    let cancel = "UPDATE likewise_jobs SET state = 'cancelled' WHERE kind = 'discard'";
    setup.database().execute(&[cancel]);
    run("events jobs follow", &[id])
        .exits(1)
        .prints("is cancelled");
    run("events quarantine discard", &[]).exits(2);
    let all = "events quarantine discard --all --json";
    let counted = json(run(all, &["--dry-run"]).exits(0));
    assert_eq!(
        (&counted["dry_run"], &counted["total"]),
        (&true.into(), &0.into())
    );
    run(all, &[id]).exits(2).reports("cannot be used with");
    run("events list --status dead --limit 2", &[])
        .exits(0)
        .prints("discarded by ");
}

/// The timeline of a like: through the stream, past a failed attempt, to its completion.
#[test]
fn timeline_shows_every_step_of_a_like() {
    let stack = Stack::start();
    let service = stack.setup().start();
    let (client, database) = (service.client(), service.database());
    client.like(1, 7);
    pipeline_drains(&service);
    database.execute(&["ALTER TABLE video_likes RENAME TO away"]);
    let accepted = client.like(2, 7);
    let timeline = |id: &str| client.get(&format!("/admin/ledger/events/{id}"));
    until_seen(
        "an attempt to fail",
        || history(database, "failed"),
        |failed| failed.contains(&accepted.event_id),
    );
    database.execute(&["ALTER TABLE away RENAME TO video_likes"]);
    let retry = format!("/admin/ledger/events/{}/retry", accepted.event_id);
    let retried = post(&client, &retry, &Value::Null);
    assert!([200, 409].contains(&retried.status), "{retried:?}");
    pipeline_drains(&service);
    let told = timeline(&accepted.event_id).json();
    let steps = told["timeline"].as_array().expect("moments");
    for (step, expected) in steps
        .iter()
        .zip(["accepted", "published", "recorded", "failed"])
    {
        assert_eq!(step["step"], expected, "{told:#}");
    }
    assert_eq!(steps[steps.len() - 1]["step"], "completed", "{told:#}");
    assert_eq!(steps[1]["stream_sequence"], 2, "{told:#}");
    let error = steps[3]["error_message"].as_str().expect("a reason");
    assert!(error.contains("video_likes"), "{told:#}");
    assert_eq!(told["read_model"]["shows"], "this");
    client.unlike(2, 7);
    until_equal("the unlike to supersede it", Value::from("newer"), || {
        timeline(&accepted.event_id).json()["read_model"]["shows"].clone()
    });
    // The message of the unlike is acknowledged after its commit.
    pipeline_drains(&service);
    let unknown = timeline(&Uuid::now_v7().to_string());
    unknown.has_status(404);
    assert!(
        unknown.text.contains("no message waits in the stream"),
        "{unknown:?}"
    );
    service.stop();
}

#[test]
fn quarantined_message_is_processed_after_repair() {
    let stack = Stack::start();
    let service = stack.setup().start();
    let client = service.client();
    let id = Uuid::now_v7();
    let good = json!({"event_id": id, "user_id": 5, "resource_type": "video", "resource_id": 7,
        "behavior": "like", "occurred_at": "2026-11-01T00:00:00Z", "source": "test"});
    let mut bad = good.clone();
    bad["behavior"] = json!("liked");
    publish(&stack, id, &bad);
    let kept = until("the message to be kept", PATIENCE, || {
        let list = client.get("/admin/quarantine?resolved=false").json();
        let first = list["messages"][0]["id"].as_str().map(str::to_owned);
        first.ok_or(list.to_string())
    });
    let path = format!("/admin/quarantine/{kept}/republish");
    let worse = json!({"payload": {"user_id": 5}});
    for body in [&Value::Null, &worse] {
        post(&client, &path, body).has_status(422);
    }
    let repaired = json!({"payload": good});
    let republished = post(&client, &path, &repaired).ok();
    assert_eq!(republished["event_id"], id.to_string());
    client.until_read(5, 7, (true, Some(1)));
    post(&client, &path, &repaired).has_status(409);
    let entry = client.get(&format!("/admin/quarantine/{kept}")).json();
    assert_eq!(entry["resolution"], "republished");
    assert_eq!(entry["resolved_by"], "ann");
    let listed = service.setup().run(&["events", "quarantine"]);
    listed.prints("republished");
    let listed = |flag| service.setup().run(&["events", "quarantine", flag]);
    listed("--resolved").prints("republished");
    let open = listed("--open");
    assert!(!open.stdout.contains("republished"), "{open:?}");
    service.stop().verify(30).holds();
}

fn publish(stack: &Stack, id: Uuid, body: &Value) {
    let (url, body) = (stack.nats.url(), body.to_string());
    crate::support::wait(async {
        let client = async_nats::connect(url).await.expect("a connection");
        let stream = async_nats::jetstream::new(client);
        let mut headers = async_nats::HeaderMap::new();
        headers.insert("Nats-Msg-Id", id.to_string());
        let published = stream
            .publish_with_headers("likewise.behaviors.video.like", headers, body.into())
            .await
            .expect("it is sent");
        published.await.expect("an acknowledgement");
    });
}

#[test]
fn invalid_operations_are_rejected_without_effect() {
    let service = Setup::new().start();
    let client = service.client();
    client.like(1, 1);
    pipeline_drains(&service);
    let id = client.get("/admin/ledger/events").json()["events"][0]["event_id"]
        .as_str()
        .expect("an event")
        .to_owned();
    let nobody = Uuid::nil();
    for (job, status) in [
        (json!({"kind": "dance"}), 400),
        (json!({"kind": "retry", "filter": {"stat": 1}}), 400),
        (json!({"kind": "retry"}), 422),
        (json!({"kind": "retry", "filter": {}}), 422),
        (
            json!({"kind": "retry", "filter": {"user_id": 1}, "per_second": 0}),
            422,
        ),
        (json!({"kind": "discard", "filter": {"user_id": 1}}), 422),
        (json!({"kind": "audit", "dry_run": true}), 422),
        (json!({"kind": "audit", "what": "cache"}), 422),
        (json!({"kind": "prune"}), 422),
        (json!({"kind": "prune", "ledger_days": 0}), 422),
        (json!({"kind": "prune", "behaviors_days": 36_501}), 422),
    ] {
        let code = if status == 400 {
            "invalid_body"
        } else {
            "unprocessable"
        };
        post(&client, "/admin/jobs", &job).is_problem(status, code);
    }
    for (path, body, status, code) in [
        (
            format!("ledger/events/{id}/retry"),
            Value::Null,
            409,
            "conflict",
        ),
        (
            format!("ledger/events/{id}/discard"),
            json!({"reason": "x"}),
            409,
            "conflict",
        ),
        (
            format!("ledger/events/{id}/discard"),
            json!({"reason": " "}),
            422,
            "unprocessable",
        ),
        (
            format!("ledger/events/{nobody}/retry"),
            Value::Null,
            404,
            "absent",
        ),
        (
            "ledger/events/seven/retry".to_owned(),
            Value::Null,
            400,
            "invalid_parameter",
        ),
        (
            "quarantine/seven/republish".to_owned(),
            Value::Null,
            400,
            "invalid_parameter",
        ),
        (format!("jobs/{nobody}/cancel"), Value::Null, 404, "absent"),
        (
            format!("quarantine/{nobody}/republish"),
            Value::Null,
            404,
            "absent",
        ),
    ] {
        let answer = post(&client, &format!("/admin/{path}"), &body);
        answer.is_problem(status, code);
    }
    for query in [
        "limit=0",
        "limit=501",
        "status=lost",
        "since=yesterday",
        "cursor=7b7d",
        "colour=red",
    ] {
        let answer = client.get(&format!("/admin/ledger/events?{query}"));
        answer.is_problem(400, "invalid_parameter");
    }
    let jobs = client.get("/admin/jobs").json();
    let mut jobs = jobs["jobs"].as_array().expect("jobs").iter();
    assert!(
        jobs.all(|job| job["requested_by"] == "the schedule"),
        "{jobs:?}"
    );
    assert!(history(service.database(), "retried").is_empty());
    the_schedule_ran(&service);
    service.stop();
}

/// Checks that the service schedules the daily audit, runs it and shows it.
fn the_schedule_ran(service: &Service) {
    let client = service.client();
    let audit = until_seen(
        "the scheduled audit to end",
        || client.get("/admin/audit").json(),
        |audit| audit["last"]["result"].is_object(),
    );
    assert_eq!(audit["last"]["requested_by"], "the schedule");
    assert_eq!(audit["last"]["result"]["findings"], json!({}));
    let metrics = client.get("/metrics").text;
    let ended = "likewise_audit_ended_timestamp_seconds";
    assert!(metrics.contains(ended), "{metrics}");
}
