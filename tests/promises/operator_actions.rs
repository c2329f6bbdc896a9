//! An operator's action changes exactly the requested rows, once, and is on record.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::checks::pipeline_drains;
use crate::support::database::Database;
use crate::support::http::{Answer, Client};
use crate::support::redis_and_nats::Stack;
use crate::support::service::{Service, Setup};
use crate::support::{PATIENCE, say, until};

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

fn post(client: &Client, path: &str, body: &Value) -> Answer {
    let headers = [("Content-Type", "application/json"), ("X-Operator", "ann")];
    let body = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    match client.try_send("POST", path, &headers, body.as_bytes()) {
        Ok(answer) => answer,
        Err(error) => panic!("POST {path} was not answered: {error}"),
    }
}

#[track_caller]
fn make_job(client: &Client, body: &Value) -> String {
    let answer = post(client, "/admin/jobs", body);
    assert_eq!(answer.status, 201, "{answer:?}");
    let job = answer.json();
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
        if reached(&job) {
            Ok(job)
        } else {
            Err(job.to_string())
        }
    })
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
    let counted = post(&client, "/admin/jobs", &dry);
    assert_eq!(counted.status, 200, "{counted:?}");
    assert_eq!(counted.json()["total"], rows);
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
        let request = json!({"kind": "retry", "filter": filter, "per_second": 20_000});
        let id = make_job(&client, &request);
        let job = until_job(&client, &id, "the job to end", |job| {
            job["finished_at"].is_string()
        });
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
    assert_eq!(
        (&job["done"], &job["changed"]),
        (&job["total"], &job["total"])
    );
    // The snapshot may include rows from between the dry run and the job, but none from after it.
    let retried = history(database, "retried");
    assert_eq!(retried.len() as i64, total);
    assert!(retried.is_superset(&snapshot));
    let taken = database.texts(
        "SELECT event_id FROM likewise_job_events WHERE outcome = 'changed' ORDER BY event_id",
    );
    assert_eq!(taken.into_iter().collect::<BTreeSet<_>>(), retried);
    until("the snapshot to be completed", 4 * PATIENCE, || {
        let completed = "SELECT COUNT(*) FROM sync_events WHERE status = 'completed'";
        let completed = database.number(completed);
        (completed == total).then_some(()).ok_or(completed)
    });
    let untouched = "SELECT COUNT(*) FROM sync_events WHERE status = 'failed' AND fencing_token = 1 \
        AND priority = 0 AND retry_count = 1 AND updated_at = '2026-11-01 00:00:00'";
    assert_eq!(
        database.number(untouched),
        rows + newcomers.len() as i64 - total
    );

    // Discards the rest, so that the ledger closes.
    let discard = json!({"kind": "discard", "filter": filter, "reason": "came too late",
        "per_second": 20_000});
    let id = make_job(&client, &discard);
    until_job(&client, &id, "the job to end", |job| {
        job["finished_at"].is_string()
    });
    service.stop().verify(30).holds();
}

#[test]
fn cancelled_job_changes_no_more_rows() {
    let service = Setup::new().start();
    let (client, database) = (service.client(), service.database());
    plant_failed(database, 1, 400, "planted");
    let request = json!({"kind": "retry", "filter": {"status": "failed"}, "per_second": 40});
    let id = make_job(&client, &request);
    until_job(&client, &id, "the job to get going", |job| {
        job["done"].as_i64() > Some(0)
    });
    let cancelled = post(&client, &format!("/admin/jobs/{id}/cancel"), &Value::Null);
    assert_eq!(cancelled.status, 200, "{cancelled:?}");
    let touched = history(database, "retried").len();
    assert!(touched < 400, "{touched}");
    let cancelled = cancelled.json();
    assert_eq!(
        (&cancelled["state"], &cancelled["changed"]),
        (&json!("cancelled"), &json!(touched))
    );
    // A later job completes, and the cancelled one stays where it was.
    let other = make_job(&client, &json!({"kind": "audit"}));
    let audit = until_job(&client, &other, "the audit to end", |job| {
        job["result"].is_object()
    });
    assert_eq!(audit["result"]["findings"], json!({}), "{audit}");
    assert_eq!(history(database, "retried").len(), touched);
    assert_eq!(job(&client, &id)["state"], "cancelled");
    let again = post(&client, &format!("/admin/jobs/{id}/cancel"), &Value::Null);
    assert_eq!(again.status, 200);
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
    until_job(&client, &id, "the job to get going", |job| {
        job["done"].as_i64() > Some(100)
    });
    let service = service.kill().start();
    let client = service.client();
    let job = until_job(&client, &id, "the job to end", |job| {
        job["finished_at"].is_string()
    });
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
    assert_eq!(setup.run(&["migrate"]).code, Some(0));
    plant_failed(setup.database(), 1, 700, "planted: this");
    plant_failed(setup.database(), 5_000, 30, "planted: that");
    let retry = ["events", "retry", "--error", "PLANTED: this"];
    let refused = setup.run(&retry);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("--yes"), "{refused:?}");
    assert!(history(setup.database(), "retried").is_empty());
    let dry = setup.run(&[&retry[..], &["--dry-run"]].concat());
    assert!(dry.stdout.contains("700 rows match: 700 failed"), "{dry:?}");
    let ran = setup.run(&[&retry[..], &["--yes", "--per-second", "20000"]].concat());
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(
        ran.stdout
            .contains("completed: 700 of 700 rows passed, 700 changed"),
        "{ran:?}"
    );
    assert_eq!(history(setup.database(), "retried").len(), 700);
    let that = setup.run(&[
        "events", "search", "--error", "that", "--json", "--limit", "500",
    ]);
    let that: Vec<Value> = serde_json::from_str(&that.stdout).expect("JSON");
    assert_eq!(that.len(), 30);
    let id = that[0]["event_id"].as_str().expect("an id");
    let discarded = setup.run(&["events", "discard", id, "--reason", "a test"]);
    assert_eq!(discarded.code, Some(0), "{discarded:?}");
    let shown = setup.run(&["events", "show", id]);
    for part in ["accepted", "recorded", "discarded", "a test", "dead"] {
        assert!(shown.stdout.contains(part), "{part}: {shown:?}");
    }
    let summary = setup.run(&["events", "summary"]);
    assert!(summary.stdout.contains("planted: this"), "{summary:?}");
    let jobs = setup.run(&["events", "jobs", "--json"]);
    let jobs: Vec<Value> = serde_json::from_str(&jobs.stdout).expect("JSON");
    assert_eq!((jobs.len(), &jobs[0]["changed"]), (1, &json!(700)));
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
    let steps = |timeline: &Value| -> Vec<String> {
        let moments = timeline["timeline"].as_array().expect("moments");
        let step = |moment: &Value| moment["step"].as_str().expect("a step").to_owned();
        moments.iter().map(step).collect()
    };
    until("an attempt to fail", PATIENCE, || {
        let failed = history(database, "failed");
        failed
            .contains(&accepted.event_id)
            .then_some(())
            .ok_or("not yet")
    });
    database.execute(&["ALTER TABLE away RENAME TO video_likes"]);
    let retried = post(
        &client,
        &format!("/admin/ledger/events/{}/retry", accepted.event_id),
        &Value::Null,
    );
    assert!([200, 409].contains(&retried.status), "{retried:?}");
    pipeline_drains(&service);
    let told = timeline(&accepted.event_id).json();
    let steps = steps(&told);
    assert_eq!(
        steps[..4],
        ["accepted", "published", "recorded", "failed"],
        "{told:#}"
    );
    assert_eq!(
        steps.last().map(String::as_str),
        Some("completed"),
        "{told:#}"
    );
    assert_eq!(told["timeline"][1]["stream_sequence"], 2, "{told:#}");
    let error = told["timeline"][3]["error_message"]
        .as_str()
        .expect("a reason");
    assert!(error.contains("video_likes"), "{told:#}");
    assert_eq!(told["read_model"]["shows"], "this");
    client.unlike(2, 7);
    until("the unlike to supersede it", PATIENCE, || {
        let told = timeline(&accepted.event_id).json();
        let shows = told["read_model"]["shows"].clone();
        (shows == "newer").then_some(()).ok_or(shows)
    });
    let unknown = timeline(&Uuid::now_v7().to_string());
    assert_eq!(unknown.status, 404);
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
    let still_bad = post(&client, &path, &Value::Null);
    assert_eq!(still_bad.status, 422, "{still_bad:?}");
    let worse = post(&client, &path, &json!({"payload": {"user_id": 5}}));
    assert_eq!(worse.status, 422, "{worse:?}");
    let mended = post(&client, &path, &json!({"payload": good}));
    assert_eq!(mended.status, 200, "{mended:?}");
    assert_eq!(mended.json()["event_id"], id.to_string());
    until("the event to arrive", PATIENCE, || {
        let like = client.read(5, 7);
        (like.liked && like.like_count == Some(1))
            .then_some(())
            .ok_or(format!("{like:?}"))
    });
    assert_eq!(post(&client, &path, &json!({"payload": good})).status, 409);
    let entry = client.get(&format!("/admin/quarantine/{kept}")).json();
    assert_eq!(
        (&entry["resolution"], &entry["resolved_by"]),
        (&json!("republished"), &json!("ann"))
    );
    let listed = service.setup().run(&["events", "quarantine"]);
    assert!(listed.stdout.contains("republished"), "{listed:?}");
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
    for (path, body, status, code) in [
        (
            "/admin/jobs".to_owned(),
            json!({"kind": "retry"}),
            422,
            "unprocessable",
        ),
        (
            "/admin/jobs".to_owned(),
            json!({"kind": "retry", "filter": {}}),
            422,
            "unprocessable",
        ),
        (
            "/admin/jobs".to_owned(),
            json!({"kind": "dance"}),
            400,
            "invalid_body",
        ),
        (
            "/admin/jobs".to_owned(),
            json!({"kind": "retry", "filter": {"stat": 1}}),
            400,
            "invalid_body",
        ),
        (
            "/admin/jobs".to_owned(),
            json!({"kind": "discard", "filter": {"user_id": 1}}),
            422,
            "unprocessable",
        ),
        (
            "/admin/jobs".to_owned(),
            json!({"kind": "audit", "dry_run": true}),
            422,
            "unprocessable",
        ),
        (
            "/admin/jobs".to_owned(),
            json!({"kind": "audit", "what": "cache"}),
            422,
            "unprocessable",
        ),
        (
            "/admin/jobs".to_owned(),
            json!({"kind": "prune"}),
            422,
            "unprocessable",
        ),
        (
            "/admin/jobs".to_owned(),
            json!({"kind": "prune", "ledger_days": 0}),
            422,
            "unprocessable",
        ),
        (
            "/admin/jobs".to_owned(),
            json!({"kind": "retry", "filter": {"user_id": 1}, "per_second": 0}),
            422,
            "unprocessable",
        ),
        (
            format!("/admin/ledger/events/{id}/retry"),
            Value::Null,
            409,
            "conflict",
        ),
        (
            format!("/admin/ledger/events/{id}/discard"),
            json!({"reason": "x"}),
            409,
            "conflict",
        ),
        (
            format!("/admin/ledger/events/{id}/discard"),
            json!({"reason": " "}),
            422,
            "unprocessable",
        ),
        (
            format!("/admin/ledger/events/{nobody}/retry"),
            Value::Null,
            404,
            "absent",
        ),
        (
            "/admin/ledger/events/seven/retry".to_owned(),
            Value::Null,
            400,
            "invalid_parameter",
        ),
        (
            format!("/admin/jobs/{nobody}/cancel"),
            Value::Null,
            404,
            "absent",
        ),
        (
            format!("/admin/quarantine/{nobody}/republish"),
            Value::Null,
            404,
            "absent",
        ),
    ] {
        let answer = post(&client, &path, &body);
        assert_eq!(
            (answer.status, answer.problem().as_str()),
            (status, code),
            "{path} {body}"
        );
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
        assert_eq!(
            (answer.status, answer.problem().as_str()),
            (400, "invalid_parameter"),
            "{query}"
        );
    }
    let jobs = client.get("/admin/jobs").json();
    let asked: Vec<_> = jobs["jobs"]
        .as_array()
        .expect("jobs")
        .iter()
        .filter(|job| job["requested_by"] != "the schedule")
        .collect();
    assert!(asked.is_empty(), "{asked:?}");
    assert!(history(service.database(), "retried").is_empty());
    the_schedule_ran(&service);
    service.stop();
}

/// The service creates and runs the daily audit by itself, and shows it.
fn the_schedule_ran(service: &Service) {
    let client = service.client();
    let audit = until("the scheduled audit to end", PATIENCE, || {
        let audit = client.get("/admin/audit").json();
        if audit["last"]["result"].is_object() {
            Ok(audit)
        } else {
            Err(audit.to_string())
        }
    });
    assert_eq!(audit["last"]["requested_by"], "the schedule");
    assert_eq!(audit["last"]["result"]["findings"], json!({}));
    let metrics = client.get("/metrics").text;
    assert!(
        metrics.contains("likewise_audit_ended_timestamp_seconds"),
        "{metrics}"
    );
}
