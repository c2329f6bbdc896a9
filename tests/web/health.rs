//! `/healthz`, `/readyz` and `/metrics`.

use serde_json::json;

use crate::support::checks::pipeline_drains;
use crate::support::http::Client;
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
            "reasons": [],
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
                "history_keeper": "running",
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
    client.until_status("/readyz", 200);
    for table in ["user_behaviors", "sync_events"] {
        database.execute(&[&format!("ALTER TABLE {table} RENAME TO away")]);
        let answer = client.get("/readyz");
        let report = answer.has_status(503).json();
        assert_eq!(report["ready"], false, "{report:#}");
        assert_eq!(report["reasons"], json!(["database is down"]));
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
    let text = "text/plain; version=0.0.4; charset=utf-8";
    assert_eq!(answer.header("content-type"), Some(text));
    for (accepted, is_text) in [
        (
            "application/openmetrics-text;version=1.0.0,text/plain;q=0.5",
            false,
        ),
        ("*/*", true),
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
        assert_eq!(answer.text.ends_with("# EOF\n"), !is_text);
    }
    let value = |name: &str, labels: &[&str]| sample(&client, name, labels);
    const LIKES: &str = "likewise_likes_accepted_total";
    let (like, database) = (r#"action="like""#, r#"durability="database""#);
    let invalid = r#"code="invalid_resource_id""#;
    assert_eq!(value(LIKES, &[like, database]), 3.0);
    assert_eq!(value(LIKES, &[r#"action="unlike""#]), 1.0);
    assert_eq!(value("likewise_accept_seconds_count", &[]), 4.0);
    assert_eq!(value("likewise_problems_total", &[invalid]), 1.0);
    // One transaction or two steps.
    assert_eq!(value("likewise_behaviors_recorded_total", &[]), 4.0);
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

/// Returns the sum of the series with this name and these labels. At least one must be there.
#[track_caller]
fn sample(client: &Client, name: &str, labels: &[&str]) -> f64 {
    let answer = client.get("/metrics");
    let lines = answer.text.lines().filter(|line| {
        let metric = line.split(['{', ' ']).next();
        metric == Some(name) && labels.iter().all(|label| line.contains(label))
    });
    let values: Vec<f64> = lines
        .map(|line| {
            let (_, value) = line.rsplit_once(' ').expect("a value");
            value.parse().expect("a number")
        })
        .collect();
    assert!(!values.is_empty(), "no series {name} with {labels:?}");
    values.iter().sum()
}

#[test]
fn metrics_show_requests_cache_actors_and_process() {
    let service = Setup::new().start();
    let client = service.client();
    let value = |name: &str, labels: &[&str]| sample(&client, name, labels);
    const REQUESTS: &str = "likewise_http_requests_total";
    let like = [
        r#"route="/v1/videos/{id}/like""#,
        r#"method="PUT""#,
        r#"status="200""#,
    ];
    assert_eq!(value(REQUESTS, &like), 0.0, "from the start");
    for user in 1..=3 {
        client.like(user, 1);
    }
    client.as_user(1).put("/v1/videos/0/like").has_status(400);
    // Nobody has read or liked it. The first read asks the database, and fills the cache.
    client.read(1, 2);
    client.read(1, 2);
    client.get("/nowhere").has_status(404);
    client.send("PATCH", "/healthz", &[]).has_status(405);
    pipeline_drains(&service);
    assert_eq!(value(REQUESTS, &like), 3.0);
    let invalid = [like[0], like[1], r#"status="400""#];
    assert_eq!(value(REQUESTS, &invalid), 1.0);
    const COUNT: &str = "likewise_http_request_duration_seconds_count";
    assert_eq!(value(COUNT, &like[..2]), 4.0);
    let unmatched = [r#"route="unmatched""#, r#"status="404""#];
    assert_eq!(value(REQUESTS, &unmatched), 1.0);
    let other = [
        r#"route="/healthz""#,
        r#"method="other""#,
        r#"status="405""#,
    ];
    assert_eq!(value(REQUESTS, &other), 1.0);
    let reads = |result| value("likewise_cache_reads_total", &[result]);
    assert_eq!((reads(r#"="hit""#), reads(r#"="miss""#)), (1.0, 1.0));
    assert_eq!(
        value("likewise_accepted_to_completed_seconds_count", &[]),
        3.0
    );
    let record = [r#"actor="behavior_recorder""#, r#"message="Record""#];
    let answered = [record[0], record[1], r#"outcome="done""#];
    assert_eq!(
        value("likewise_actor_messages_answered_total", &answered),
        3.0
    );
    let durations = "likewise_actor_message_duration_seconds_count";
    assert_eq!(value(durations, &record), 3.0);
    assert_eq!(value("likewise_mailbox_depth", &[record[0]]), 0.0);
    assert!(value("likewise_mailbox_capacity", &[record[0]]) > 0.0);
    let running = [record[0], r#"state="running""#];
    assert_eq!(value("likewise_actor_state", &running), 1.0);
    assert!(value("likewise_database_connections", &[r#"pool="writers""#]) >= 1.0);
    assert!(value("likewise_runtime_busy_seconds_total", &[]) > 0.0);
    assert_eq!(value("likewise_build_info", &[r#"role="all""#]), 1.0);
    assert!(value("process_cpu_seconds_total", &[]) > 0.0);
    assert!(value("process_resident_memory_bytes", &[]) > 1e6);
    let now = chrono::Utc::now().timestamp() as f64;
    let age = now - value("process_start_time_seconds", &[]);
    assert!((-60.0..3_600.0).contains(&age), "{age}");
    let completed = [r#"status="completed""#];
    until_equal("the ledger to be counted", 3.0, || {
        value("likewise_ledger_rows", &completed)
    });
    assert_eq!(value("likewise_ledger_oldest_open_seconds", &[]), 0.0);
}
