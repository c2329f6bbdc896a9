//! `/healthz`, `/readyz` and `/metrics`.

use serde_json::json;

use crate::support::checks::pipeline_drains;
use crate::support::service::Setup;
use crate::support::until_equal;

#[test]
fn healthz_reports_liveness() {
    let service = Setup::new().start();
    let expected = json!({"alive": true, "version": env!("CARGO_PKG_VERSION")});
    assert_eq!(service.client().get("/healthz").ok(), expected);
}

#[test]
fn readyz_lists_dependencies() {
    let service = Setup::new().start();
    assert_eq!(
        service.client().get("/readyz").ok(),
        json!({
            "ready": true,
            "draining": false,
            "clock_skew_ms": null,
            "parts": {
                "cache": {"kind": "in-process", "state": "up"},
                "database": {"kind": "SQLite", "state": "up"}
            },
            "failing": [],
            "actors": {
                "behavior_recorder": "running",
                "cache_writer": "running",
                "health_monitor": "running",
                "idempotency_keeper": "running",
                "job_runner": "running",
                "retry_scheduler": "running",
                "sync_publisher": "running"
            }
        })
    );
}

#[test]
fn readyz_fails_while_the_database_cannot_write() {
    let service = Setup::new().start();
    let (client, database) = (service.client(), service.database());
    assert_eq!(client.get("/readyz").status, 200);
    for table in ["user_behaviors", "sync_events"] {
        database.execute(&[&format!("ALTER TABLE {table} RENAME TO away")]);
        let answer = client.get("/readyz");
        let report = answer.has_status(503).json();
        assert_eq!(report["ready"], false, "{report:#}");
        assert_eq!(report["parts"]["database"]["state"], "down", "{report:#}");
        // The cause is in the log only, because `/readyz` is public.
        assert!(!answer.text.contains(table), "{report:#}");
        service.until_logged(&format!("no such table: {table}"));
        // The process is alive but not ready, and acknowledges no like that it has not stored.
        client.get("/healthz").ok();
        let like = client.as_user(1).put("/v1/videos/1/like");
        like.is_problem(503, "unavailable");
        assert!(like.header("retry-after").is_some(), "{like:?}");

        database.execute(&[&format!("ALTER TABLE away RENAME TO {table}")]);
        client.until_status("/readyz", 200);
    }
    assert!(!client.read(1, 1).liked);
    assert_eq!(client.like(1, 1).like_count, Some(1));
}

#[test]
fn metrics_count_likes() {
    let service = Setup::new().set("LIKEWISE_FAULT_INJECTION", true).start();
    let client = service.client();
    for user in 1..=3 {
        client.like(user, 1);
    }
    client.unlike(1, 1);
    client.as_user(1).put("/v1/videos/0/like");
    client.provoke("cache_writer");
    pipeline_drains(&service);

    let answer = client.get("/metrics");
    answer.has_status(200);
    let openmetrics = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert_eq!(answer.header("content-type"), Some(openmetrics));
    for (accepted, is_text) in [
        (
            "application/openmetrics-text;version=1.0.0,text/plain;q=0.5",
            false,
        ),
        ("*/*", false),
        ("text/plain", true),
        ("text/html,application/xhtml+xml,*/*;q=0.8", true),
    ] {
        let answer = client.with("Accept", accepted).get("/metrics");
        let kind = answer.header("content-type").expect("a type");
        assert_eq!(
            kind.starts_with("text/plain; version=0.0.4"),
            is_text,
            "{kind}"
        );
        assert!(answer.text.ends_with("# EOF\n"));
    }
    let value = |name: &str, labels: &[&str]| -> f64 {
        let answer = client.get("/metrics");
        assert!(answer.text.ends_with("# EOF\n"));
        let line = answer.text.lines().find(|line| {
            let metric = line.split(['{', ' ']).next();
            metric == Some(name) && labels.iter().all(|label| line.contains(label))
        });
        // A series without events has no line.
        line.and_then(|line| line.rsplit_once(' ')?.1.parse().ok())
            .unwrap_or_default()
    };
    const LIKES: &str = "likewise_likes_accepted_total";
    let (like, database) = (r#"action="like""#, r#"durability="database""#);
    let invalid = r#"code="invalid_resource_id""#;
    assert_eq!(value(LIKES, &[like, database]), 3.0);
    assert_eq!(value(LIKES, &[r#"action="unlike""#]), 1.0);
    assert_eq!(value("likewise_accept_seconds_count", &[]), 4.0);
    assert_eq!(value("likewise_problems_total", &[invalid]), 1.0);
    let at_once = [r#"path="one_transaction""#];
    assert_eq!(value("likewise_behaviors_recorded_total", &at_once), 4.0);
    until_equal("the metrics to follow the ledger", 4.0, || {
        value("likewise_ledger_rows_completed_total", &[])
    });
    let actor = [r#"actor="cache_writer""#];
    for counted in [
        "likewise_actor_panics_total",
        "likewise_actor_restarts_total",
    ] {
        until_equal(counted, 1.0, || value(counted, &actor));
    }
}
