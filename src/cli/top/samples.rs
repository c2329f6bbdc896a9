//! Reports as a service sends them, for tests.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::answers::{CompletionTimes, Ledger, Readiness};
use super::model::{Figures, Model, Update};
use crate::cli::reports::{DeploymentReport, Session};

/// When the samples are captured.
const AT: &str = "2026-11-24T08:00:10Z";

fn actor(name: &str, state: &str) -> Value {
    json!({
        "name": name,
        "state": state,
        "since": "2026-11-24T07:58:10Z",
        "reason": null,
        "supervision": {
            "policy": "restart_then_stop", "max_restarts": 5, "window_seconds": 60, "panics_in_window": 0, "last_panic": null
        },
        "mailbox": {"depth": 0, "capacity": 10_000, "oldest_ms": 0},
        "tick_ms": null,
        "messages": [],
        "waits_for": [],
        "processed": 0, "errors": 0, "panics": 0, "restarts": 0,
        "last_error": null,
        "details": {}
    })
}

fn message(of_type: &str, received: u64, running: u64, for_ms: u64) -> Value {
    json!({
        "type": of_type, "received": received, "done": received, "failed": 0, "waiting": 0, "batches": received / 10,
        "running": {"batches": running.min(1), "messages": running, "oldest_ms": for_ms},
        "batch_size": {"p50": 10.0, "p95": 40.0, "p99": 80.0, "max": 100.0},
        "latency_ms": {"p50": 1.5, "p95": 4.0, "p99": 12.25, "max": 30.0}
    })
}

fn with(mut actor: Value, fields: Value) -> Value {
    if let Value::Object(fields) = fields {
        actor.as_object_mut().expect("an actor").extend(fields);
    }
    actor
}

/// The actors of a process that accepts likes and records them, after so many seconds.
fn actors(seconds: u64, role: &str) -> Vec<Value> {
    let runs = |roles: &str| {
        if roles.contains(role) {
            "running"
        } else {
            "disabled"
        }
    };
    let number = seconds * 100;
    // An actor that does not run has done nothing.
    let unless_off = |one: Value| match one["state"] == "disabled" {
        true => with(
            actor(one["name"].as_str().expect("a name"), "disabled"),
            json!({"reason": format!("role {role}")}),
        ),
        false => one,
    };
    vec![
        unless_off(with(
            actor("sync_publisher", runs("all worker")),
            json!({"processed": number, "messages": [message("Committed", number, 0, 0)]}),
        )),
        unless_off(with(
            actor("behavior_recorder", runs("all worker")),
            json!({
                "processed": number,
                "messages": [message("Record", number, 12, 40)],
                "mailbox": {"depth": 12, "capacity": 10_000, "oldest_ms": 40}
            }),
        )),
        unless_off(with(
            actor("nats_subscriber", runs("worker")),
            json!({"details": {"connected": true, "pending": 42, "pulling": true}}),
        )),
        unless_off(with(
            actor("event_publisher", runs("api")),
            json!({"processed": number, "messages": [message("Publish", number, 0, 0)]}),
        )),
        with(
            actor("cache_writer", "running"),
            json!({"processed": number, "messages": [message("Apply", number, 0, 0)]}),
        ),
        with(
            actor("health_monitor", "running"),
            json!({"details": {"clock_skew_ms": 3, "interval_ms": 500, "refusing_likes_without": null}}),
        ),
    ]
}

fn process(id: &str, role: &str, state: &str, seconds: u64) -> Value {
    json!({
        "id": id, "host": format!("likes-{id}.4711"), "role": role, "version": "0.1.0", "is_this": false, "state": state,
        "age_ms": 350,
        "report": {
            "sequence": seconds, "captured_at": AT, "uptime_seconds": seconds as f64, "actors": actors(seconds, role)
        }
    })
}

fn report(processes: Vec<Value>) -> DeploymentReport {
    let report = json!({"captured_at": AT, "complete": true, "note": null, "processes": Value::Array(processes)});
    serde_json::from_value(report).expect("a report")
}

/// An api, a worker and a worker that is gone, after so many seconds.
pub(super) fn deployment_after(seconds: u64) -> DeploymentReport {
    let mut api = process("p-1", "api", "running", seconds);
    api["is_this"] = true.into();
    let mut gone = process("p-3", "worker", "gone", 3_000);
    gone["age_ms"] = 75_000.into();
    report(vec![
        api,
        process("p-2", "worker", "running", seconds),
        gone,
    ])
}

/// As [`deployment_after`], late in the day.
pub(super) fn deployment() -> DeploymentReport {
    deployment_after(7_300)
}

/// One process without NATS, after so many seconds.
pub(super) fn alone_after(seconds: u64) -> DeploymentReport {
    let mut process = process("p-1", "all", "running", seconds);
    process["is_this"] = true.into();
    report(vec![process])
}

/// The same deployment, and everything that can be wrong with actors.
pub(super) fn in_trouble() -> DeploymentReport {
    let mut api = process("p-1", "api", "running", 7_301);
    api["is_this"] = true.into();
    let mut worker = process("p-2", "worker", "silent", 7_301);
    worker["age_ms"] = 4_200.into();
    let mut gone = process("p-3", "worker", "gone", 3_000);
    gone["age_ms"] = 75_000.into();
    let change = |process: &mut Value, index: usize, fields: Value| {
        let slot = &mut process["report"]["actors"][index];
        *slot = with(slot.take(), fields);
    };
    change(
        &mut worker,
        0,
        json!({
            "state": "stuck",
            "since": "2026-11-24T08:00:06Z",
            "reason": "it blocks its thread since 4.2 s, at Committed",
            "mailbox": {"depth": 9_800, "capacity": 10_000, "oldest_ms": 4_200},
            "messages": [message("Committed", 730_100, 500, 4_200)],
            "errors": 3,
            "last_error": "the database answered with an error: deadlock found when trying to get lock"
        }),
    );
    change(
        &mut worker,
        1,
        json!({
            "waits_for": [{"actor": "sync_publisher", "messages": 3, "oldest_ms": 4_100}],
            "panics": 2, "restarts": 2,
            "supervision": {
                "policy": "restart_then_stop", "max_restarts": 5, "window_seconds": 60, "panics_in_window": 1,
                "last_panic": {
                    "message": "fault injection", "place": "src/actors/behavior_recorder.rs:88:9", "at": "2026-11-24T07:59:40Z"
                }
            }
        }),
    );
    change(
        &mut worker,
        2,
        json!({"state": "failed", "reason": "it panicked 6 times within 60 s"}),
    );
    change(
        &mut worker,
        5,
        json!({"details": {"clock_skew_ms": -2_400, "refusing_likes_without": ["broker", "cache"]}}),
    );
    change(
        &mut api,
        3,
        json!({"state": "paused", "reason": "paused by ann@ops"}),
    );
    change(&mut api, 4, json!({"state": "restarting"}));
    report(vec![api, worker, gone])
}

/// Figures of a deployment in which nothing is wrong.
pub(super) fn figures() -> Figures {
    let readiness = json!({
        "ready": true, "draining": false, "clock_skew_ms": 3,
        "parts": {
            "broker": {"kind": "NATS", "state": "up"},
            "cache": {"kind": "Redis", "state": "up"},
            "database": {"kind": "MariaDB", "state": "up"}
        },
        "failing": [], "actors": {}
    });
    let ledger = json!({
        "rows": {"pending": 0, "processing": 0, "failed": 0, "dead": 0, "completed": 1_234_567},
        "completed_is_estimate": true, "due": 0, "oldest_open_at": null, "errors": []
    });
    Figures {
        readiness: Some(serde_json::from_value::<Readiness>(readiness).expect("readiness")),
        ledger: Some(serde_json::from_value::<Ledger>(ledger).expect("a ledger")),
        completion: Some(CompletionTimes {
            p50: 4.2,
            p95: 12.6,
            p99: 31.0,
        }),
    }
}

/// Figures while dependencies fail.
pub(super) fn failing_figures() -> Figures {
    let readiness = json!({
        "ready": false, "draining": false, "clock_skew_ms": -1_250, "waiting_for": null,
        "parts": {
            "broker": {"kind": "NATS", "state": "down", "error": "no answer within 2s"},
            "cache": {
                "kind": "Redis Cluster", "state": "up",
                "masters": [{"slots": "0-5460", "state": "down"}, {"slots": "5461-16383", "state": "up"}]
            },
            "database": {"kind": "MariaDB", "state": "down", "error": "it is read-only"}
        },
        "failing": [
            {"dependency": "broker", "doing": "publishing events", "seconds": 12, "calls": 40, "rows": 0}
        ],
        "warnings": ["this process has no Redis, and likes-p-2.4711 has"],
        "actors": {}
    });
    let ledger = json!({
        "rows": {"pending": 12, "processing": 500, "failed": 37, "dead": 2, "completed": 8_800},
        "completed_is_estimate": false, "due": 37, "oldest_open_at": "2026-11-24T07:57:10Z", "errors": []
    });
    Figures {
        readiness: Some(serde_json::from_value(readiness).expect("readiness")),
        ledger: Some(serde_json::from_value(ledger).expect("a ledger")),
        completion: None,
    }
}

/// The time of the machine that shows the samples.
pub(super) fn now() -> DateTime<Utc> {
    AT.parse().expect("a time")
}

/// A model that an operator sees after this report.
pub(super) fn model(report: DeploymentReport) -> Model {
    let mut model = Model {
        url: "http://127.0.0.1:8080".to_owned(),
        now: now(),
        session: Session {
            scopes: vec!["admin:read".to_owned(), "admin:operate".to_owned()],
        },
        ..Model::default()
    };
    model.apply(Update::Report(Box::new(report)));
    model.apply(Update::Figures(Box::new(figures())));
    model
}
