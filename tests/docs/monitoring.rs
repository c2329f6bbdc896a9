//! The alert rules and the dashboard in `docs/`: promtool accepts the rules and the metrics, the alerts fire, and every
//! query finds a series on a Prometheus that scrapes a running service.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::checks::pipeline_drains;
use crate::support::http::Client;
use crate::support::redis_and_nats::Stack;
use crate::support::servers::{Port, free_port, program, until_open};
use crate::support::service::Service;
use crate::support::until_seen;

const ALERTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/alerts.yml");
const TESTS: &str = include_str!("alerts_test.yml");
const DASHBOARD: &str = include_str!("../../docs/grafana-dashboard.json");

fn promtool(arguments: &[&str], folder: &Path, input: Stdio) -> Output {
    let ran = Command::new(program("LIKEWISE_TEST_PROMTOOL"))
        .args(arguments)
        .current_dir(folder)
        .stdin(input)
        .output();
    ran.expect("promtool runs")
}

#[track_caller]
fn succeeds(ran: &Output) {
    let said = [&ran.stdout[..], &ran.stderr[..]].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(ran.status.success(), "{said}");
}

#[test]
fn alert_rules_are_valid_and_fire() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let checked = promtool(&["check", "rules", ALERTS], folder.path(), Stdio::null());
    succeeds(&checked);
    let run = |tests: &str| {
        fs::write(folder.path().join("tests.yml"), tests).expect("a file");
        promtool(
            &["test", "rules", "tests.yml"],
            folder.path(),
            Stdio::null(),
        )
    };
    let tests = TESTS.replace("ALERTS", ALERTS);
    succeeds(&run(&tests));
    // A test that expects another alert fails.
    let wrong = tests.replace("part: database", "part: cache");
    assert!(!run(&wrong).status.success());
}

/// A Prometheus that scrapes a service each second, killed when it is dropped.
struct Prometheus {
    process: Child,
    folder: TempDir,
    port: Port,
}

impl Prometheus {
    #[track_caller]
    fn of(service: &Service) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let port = free_port();
        let config = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\n\
             rule_files: ['{ALERTS}']\n\
             scrape_configs: [{{job_name: likewise, static_configs: [{{targets: ['{}']}}]}}]\n",
            service.address()
        );
        fs::write(folder.path().join("prometheus.yml"), config).expect("a file");
        let log = File::create(folder.path().join("log")).expect("a log");
        let process = Command::new(program("LIKEWISE_TEST_PROMETHEUS"))
            .arg("--config.file=prometheus.yml")
            .arg("--storage.tsdb.path=data")
            .arg(format!("--web.listen-address={}", port.address()))
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("Prometheus starts");
        let prometheus = Self {
            process,
            folder,
            port,
        };
        let log = prometheus.folder.path().join("log");
        until_open(&prometheus.port, "Prometheus", &log);
        prometheus
    }

    fn client(&self) -> Client {
        Client::of(self.port.address())
    }

    /// Returns the series of a query.
    #[track_caller]
    fn query(&self, query: &str) -> Vec<Value> {
        let encoded: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let answer = self.client().get(&format!("/api/v1/query?query={encoded}"));
        let found = answer.ok();
        assert_eq!(found["status"], "success", "{query}: {found}");
        found["data"]["result"].as_array().expect("series").clone()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The queries of the dashboard, with values for its variables.
fn dashboard_queries() -> BTreeSet<String> {
    let dashboard: Value = serde_json::from_str(DASHBOARD).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let mut queries = BTreeSet::new();
    for panel in panels.iter().filter(|panel| panel["type"] != "row") {
        let targets = panel["targets"].as_array().expect("targets");
        assert!(!targets.is_empty(), "{}", panel["title"]);
        for target in targets {
            let query = target["expr"].as_str().expect("a query");
            let query = query.replace("$job", "likewise");
            queries.insert(query.replace("$__rate_interval", "30s"));
        }
    }
    queries
}

/// The queries of the alerts, without the limits that they compare with.
fn alert_queries() -> BTreeSet<String> {
    let rules = fs::read_to_string(ALERTS).expect("docs/alerts.yml");
    let mut queries = BTreeSet::new();
    let mut lines = rules.lines();
    while let Some(line) = lines.next() {
        let Some(query) = line.trim_start().strip_prefix("expr: ") else {
            continue;
        };
        let query = match query {
            ">-" => {
                let folded = lines.by_ref().take_while(|line| !line.contains("for:"));
                folded.map(str::trim).collect::<Vec<_>>().join(" ")
            }
            query => query.to_owned(),
        };
        let limit = query.rfind([' ']).expect("a limit");
        let (query, _) = query.split_at(limit);
        let query = query.trim_end_matches(['>', '=', ' ']);
        // A test does not run for as long as alerts look back.
        let query = ["[5m]", "[10m]", "[1h]"]
            .iter()
            .fold(query.to_owned(), |query, range| {
                query.replace(range, "[30s]")
            });
        queries.insert(query);
    }
    queries
}

#[test]
fn every_query_finds_a_series() {
    let stack = Stack::start();
    let setup = stack.setup().set("LIKEWISE_FACTS_STREAM", "true");
    let service = setup.start();
    let prometheus = Prometheus::of(&service);
    let client = service.client();
    for user in 1..=5 {
        client.like(user, 1);
        client.read(user, 1);
    }
    pipeline_drains(&service);
    let queries: BTreeSet<_> = dashboard_queries()
        .into_iter()
        .chain(alert_queries())
        .collect();
    assert!(queries.len() > 50, "{}", queries.len());
    for query in &queries {
        until_seen(
            &format!("a series of {query}"),
            || prometheus.query(query),
            |series| !series.is_empty(),
        );
    }
    // The rules are loaded, and none fires on a healthy service.
    let alerts = prometheus.client().get("/api/v1/alerts").ok();
    let alerts = alerts["data"]["alerts"].as_array().expect("alerts");
    let firing: Vec<_> = alerts
        .iter()
        .filter(|alert| alert["state"] == "firing")
        .collect();
    assert!(firing.is_empty(), "{firing:?}");
    // A scrape that takes too long leaves no series until the next one.
    until_seen(
        "the likes to be counted",
        || prometheus.query("sum(likewise_likes_accepted_total)"),
        |likes| likes.first().is_some_and(|sum| sum["value"][1] == "5"),
    );
}

#[test]
fn promtool_accepts_the_metrics() {
    let stack = Stack::start();
    let service = stack.setup().start();
    let client = service.client();
    client.like(1, 1);
    client.read(1, 1);
    client.get("/nowhere").has_status(404);
    pipeline_drains(&service);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("metrics");
    let check = |text: &str| {
        fs::write(&file, text).expect("a file");
        let input = File::open(&file).expect("a file");
        promtool(&["check", "metrics"], folder.path(), input.into())
    };
    let text = client.get("/metrics").text;
    succeeds(&check(&text));
    let bad = text.replace(
        "likewise_events_published_total",
        "likewise_events_published",
    );
    assert!(!check(&bad).status.success());
}
