//! `LIKEWISE_LOG_FORMAT`: every line on standard error is a JSON object, whatever happens.

use std::fs;

use chrono::DateTime;
use rustix::process::Signal;
use serde_json::{Map, Value, json};

use crate::support::servers::{Kind, Server};
use crate::support::service::Setup;
use crate::support::{PATIENCE, until_equal, until_seen};

type Record = Map<String, Value>;

/// Parses lines of the log. Each must be an object with a time, a level, a target and a message.
#[track_caller]
fn records(log: &str) -> Vec<Record> {
    log.lines()
        .map(|line| {
            let record: Record = serde_json::from_str(line)
                .unwrap_or_else(|error| panic!("no JSON object ({error}): {line}"));
            let text = |key: &str| {
                let found = record.get(key).and_then(Value::as_str);
                found.unwrap_or_else(|| panic!("no {key}: {line}"))
            };
            assert!(line.starts_with(r#"{"timestamp":""#), "{line}");
            let time = DateTime::parse_from_rfc3339(text("timestamp")).expect("a time");
            assert_eq!(time.offset().local_minus_utc(), 0, "{line}");
            assert!(text("timestamp").ends_with('Z'), "{line}");
            let levels = ["error", "warn", "info", "debug", "trace"];
            assert!(levels.contains(&text("level")), "{line}");
            assert!(!text("target").is_empty(), "{line}");
            assert!(!text("message").is_empty(), "{line}");
            record
        })
        .collect()
}

/// Returns the record with this message that has all of these keys, among others.
#[track_caller]
fn find(records: &[Record], message: &str, keys: &Value) -> Record {
    let keys = keys.as_object().expect("keys");
    let found = records.iter().find(|record| {
        let has = |(key, value): (&String, &Value)| record.get(key) == Some(value);
        record["message"] == message && keys.iter().all(has)
    });
    let found = found.unwrap_or_else(|| panic!("no {message:?} with {keys:?}: {records:#?}"));
    found.clone()
}

#[test]
fn every_log_line_is_a_json_object() {
    let mut redis = Server::start(Kind::Redis);
    let mut service = Setup::new()
        .set("LIKEWISE_LOG_FORMAT", "json")
        .set("LIKEWISE_REDIS_URL", redis.url())
        .set("LIKEWISE_FAULT_INJECTION", true)
        .start();
    let client = service.client();

    // A rejected event is retried by an operator.
    service
        .database()
        .refuse_likes_of(9, "refused =\nby \"a test\"");
    let event = client.like(9, 7).event_id;
    service
        .database()
        .until_count("sync_events WHERE status = 'failed'", 1);
    let ada = client.with("X-Operator", "ada \"of ops\"");
    let path = format!("/admin/ledger/events/{event}/retry");
    // A row that the scheduler has just claimed is refused.
    until_equal("the row to be retried", 200, || ada.post(&path, "").status);
    // An actor panics.
    client.provoke("retry_scheduler");
    until_equal("the actor to run again", 1, || {
        client.actor("retry_scheduler").restarts
    });
    // Redis fails, and returns.
    redis.kill();
    let cache = || client.get("/readyz").json()["parts"]["cache"]["state"].clone();
    until_equal("the cache to be down", Value::from("down"), cache);
    redis.run();
    until_equal("the cache to be up", Value::from("up"), cache);
    service.signal(Signal::TERM);
    assert!(service.wait(PATIENCE).success());

    let found = records(&service.log());
    let url = format!("http://{}", service.address());
    let listening = json!({"url": url, "role": "all", "level": "info"});
    find(&found, "listening", &listening);
    let failed = json!({"event_id": event, "kind": "rejected", "outcome": "failed", "rows": 1});
    let failed = find(&found, "attempts on ledger rows failed", &failed);
    let error = failed["error"].as_str().expect("an error");
    assert!(error.contains("refused =\nby \"a test\""), "{error}");
    let operator = json!({"action": "retried", "rows": 1});
    let operator = find(&found, "rows retried", &operator);
    assert_eq!(operator["operator"], "ada \"of ops\"");
    let panic = find(&found, "panic", &json!({"level": "error"}));
    let place = panic["place"].as_str().expect("a place");
    assert!(place.contains(".rs:"), "{place}");
    let dependency = json!({"dependency": "cache"});
    let outage = find(&found, "checking the cache failed", &dependency);
    assert!(outage["error"].is_string(), "{outage:?}");
    let back = find(&found, "checking the cache succeeds again", &dependency);
    assert!(back["seconds"].as_f64() > Some(0.0), "{back:?}");
    let stopped = find(&found, "stopped: everything drained", &json!({}));
    assert!(stopped["seconds"].is_number(), "{stopped:?}");
    // Whoever reads both outputs gets only JSON.
    let printed = fs::read_to_string(service.setup().folder().join("stdout.0"));
    assert_eq!(printed.expect("an output"), "");
}

#[test]
fn failed_start_is_a_json_object() {
    let setup = Setup::new().set("LIKEWISE_BATCH_SIZE", 0);
    setup.write("likewise.toml", "log_format = \"json\"");
    // Even if the filter of the log hides everything.
    let setup = setup.set("RUST_LOG", "off");
    let ran = setup.run(&["serve"]);
    ran.exits(1);
    let found = records(&ran.stderr);
    assert_eq!(found.len(), 1, "{found:?}");
    let failed = find(&found, "failed", &json!({"level": "error"}));
    let error = failed["error"].as_str().expect("an error");
    assert!(
        error.contains("LIKEWISE_BATCH_SIZE must be between"),
        "{error}"
    );
}

#[test]
fn text_log_has_one_line_for_each_record() {
    let service = Setup::new().start();
    service
        .database()
        .refuse_likes_of(9, "refused =\nby \"a test\"");
    let event = service.client().like(9, 7).event_id;
    let lines = until_seen(
        "the failure to be logged",
        || service.logged("attempts on ledger rows failed"),
        |lines| !lines.is_empty(),
    );
    let line = &lines[0];
    let expected = format!("event_id={event} rows=1 outcome=failed kind=rejected error=\"");
    assert!(line.contains(&expected), "{line}");
    assert!(line.contains(r#"refused =\nby \"a test\""#), "{line}");
    assert!(line.ends_with('"'), "{line}");
    service.stop();
}

#[test]
fn problems_are_logged_with_the_trace_of_their_request() {
    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    let mut service = Setup::new()
        .set("LIKEWISE_LOG_FORMAT", "json")
        .set("LIKEWISE_REQUEST_TIMEOUT_SECONDS", 1)
        .set("RUST_LOG", "info,likewise::web=debug")
        .start();
    let client = service.client();
    let traced = client.with("traceparent", format!("00-{TRACE}-00f067aa0ba902b7-01"));
    let user = traced.as_user(42);
    // From an extractor, from the fallback of routes, from middleware, and in an envelope.
    user.put("/v1/videos/0/like")
        .is_problem(400, "invalid_resource_id");
    traced.get("/nowhere").is_problem(404, "not_found");
    let foreign = traced.send("GET", "/v1/videos/7/like", &[("Host", "evil.example.com")]);
    foreign.is_problem(421, "host_not_allowed");
    user.post("/v1/action/like", json!({})).has_status(400);
    // The timeout drops the request before it makes the answer.
    let held = service.database().hold_writes();
    user.put("/v1/videos/7/like").is_problem(503, "timed_out");
    drop(held);
    client
        .send("PATCH", "/healthz", &[])
        .is_problem(405, "method_not_allowed");
    service.signal(Signal::TERM);
    assert!(service.wait(PATIENCE).success());

    let found = records(&service.log());
    const MESSAGE: &str = "request answered with a problem";
    for (status, code) in [
        (400, "invalid_resource_id"),
        (404, "not_found"),
        (421, "host_not_allowed"),
        (400, "invalid_body"),
        (503, "timed_out"),
    ] {
        let keys = json!({"status": status, "code": code, "trace_id": TRACE});
        find(&found, MESSAGE, &keys);
        let is_same = |record: &&Record| {
            let is = |key: &str| record.get(key) == keys.get(key);
            is("code") && is("trace_id")
        };
        let logged = found.iter().filter(is_same).count();
        assert_eq!(logged, 1, "{code}: {found:#?}");
    }
    let untraced = find(&found, MESSAGE, &json!({"code": "method_not_allowed"}));
    assert_eq!(untraced.get("trace_id"), None);
}
