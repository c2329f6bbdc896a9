//! `/admin/operations`: every operation of an operator is on record.

use serde_json::{Value, json};

use crate::support::database::Database;
use crate::support::http::Client;
use crate::support::servers::{Kind, Server};
use crate::support::service::Setup;
use crate::support::until_seen;

matrix!([embedded, mariadb, postgres]: operations_are_listed_by_filter_and_page);

fn listed(client: &Client, query: &str) -> Vec<Value> {
    let page = client.get(&format!("/admin/operations?{query}")).ok();
    page["operations"].as_array().expect("operations").clone()
}

/// An operation in words.
fn words(operation: &Value) -> String {
    let text = |name: &str| operation[name].as_str().expect("text").to_owned();
    let words = ["operator", "action", "target_type", "result"].map(text);
    words.join(" ")
}

fn operations_are_listed_by_filter_and_page(setup: Setup) {
    let service = setup.start();
    let client = service.client();
    let operate = |operator: &str, path: &str| {
        let path = format!("/admin/actors/{path}");
        client.send("POST", &path, &[("X-Operator", operator)]).ok();
    };
    operate("ada", "retry_scheduler/pause");
    operate("bob", "retry_scheduler/pause");
    operate("ada", "retry_scheduler/resume");
    operate("ada", "job_runner/restart");
    let ada = client.with("X-Operator", "ada");
    let audit = ada.post("/admin/jobs", json!({"kind": "audit"}));
    let job = audit.has_status(201).json()["id"].clone();
    let job = job.as_str().expect("an id");
    // An audit of an empty database may have ended before.
    let cancelled = ada.post(&format!("/admin/jobs/{job}/cancel"), "").status == 200;
    // A dry run changes nothing, and an unknown actor means nothing.
    let filter = json!({"kind": "retry", "filter": {"user_id": 1}, "dry_run": true});
    ada.post("/admin/jobs", filter).ok();
    let unknown = ada.post("/admin/actors/nobody/pause", "");
    unknown.is_problem(404, "unknown_actor");

    let mut expected = vec![
        "ada pause actor done",
        "bob pause actor unchanged",
        "ada resume actor done",
        "ada restart actor done",
        "ada create job done",
    ];
    expected.extend(cancelled.then_some("ada cancel job done"));
    expected.reverse();
    let all = listed(&client, "");
    let seen: Vec<_> = all.iter().map(words).collect();
    assert_eq!(seen, expected);

    let number = |query: &str| listed(&client, query).len();
    assert_eq!(number("operator=bob"), 1);
    assert_eq!(number("action=pause"), 2);
    assert_eq!(number("action=pause&operator=ada"), 1);
    assert_eq!(number("target_type=actor&target=job_runner"), 1);
    assert_eq!(number(&format!("target={job}")), 1 + usize::from(cancelled));
    let process = all.last().expect("the first")["process"].clone();
    let process = process.as_str().expect("the id of the process");
    assert_eq!(number(&format!("process={process}")), 4);
    assert_eq!(number("process=another"), 0);

    let (mut paged, mut query) = (Vec::new(), "limit=2".to_owned());
    loop {
        let page = client.get(&format!("/admin/operations?{query}")).ok();
        let some = page["operations"].as_array().expect("operations");
        assert!((1..=2).contains(&some.len()), "{page}");
        paged.extend(some.iter().cloned());
        match page["next_cursor"].as_str() {
            Some(cursor) => query = format!("limit=2&cursor={cursor}"),
            None => break,
        }
    }
    assert_eq!(paged, all);

    for bad in [
        "limit=0",
        "limit=201",
        "cursor=7b7d",
        "action=think",
        "target_type=user",
        "target=%00",
        &format!("target={}", "a".repeat(256)),
        "operator=a%00",
        "process=%C3%A9",
        "nobody=1",
    ] {
        let answer = client.get(&format!("/admin/operations?{bad}"));
        answer.is_problem(400, "invalid_parameter");
    }
    // They survive a restart of the service.
    let service = service.stop().start();
    assert_eq!(listed(&service.client(), ""), all);
}

#[test]
fn operation_is_written_when_the_database_returns() {
    let mut server = Server::start(Kind::MariaDb);
    let database = Database::first_of(&server);
    let service = Setup::new()
        .on(&database)
        .set("LIKEWISE_DATABASE_TIMEOUT_SECONDS", 1)
        .start();
    let client = service.client();
    server.stop();
    let paused = client.post("/admin/actors/retry_scheduler/pause", "").ok();
    assert_eq!(paused["state"], "paused");
    service.until_logged("operations are not written");
    server.run();
    let answer = until_seen(
        "the operation to be written",
        || client.get("/admin/operations"),
        |answer| answer.status == 200 && answer.json()["operations"][0]["action"] == "pause",
    );
    let operations = answer.json()["operations"].clone();
    assert_eq!(operations.as_array().map(Vec::len), Some(1), "{operations}");
}
