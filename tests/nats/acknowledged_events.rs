//! Events that Likewise acknowledged use subjects of their own. They are recorded even if a clock is wrong. An
//! acknowledged event in quarantine is reported as lost until an operator resolves it.

use std::fs;

use chrono::{TimeDelta, Utc};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{ACCEPTED, LIKES, Publisher, event};
use crate::support::checks::{pipeline_drains, stored_once};
use crate::support::clock::Clock;
use crate::support::http::Client;
use crate::support::redis_and_nats::Stack;
use crate::support::servers::Kind;
use crate::support::service::{Service, Setup};
use crate::support::{until_equal, until_seen};

const PROMISE: &str = "no acknowledged event is in quarantine";

fn ahead(minutes: i64) -> String {
    (Utc::now() + TimeDelta::minutes(minutes)).to_rfc3339()
}

fn quarantined(service: &Service) -> i64 {
    service.database().count("likewise_quarantined_events")
}

#[track_caller]
fn quarantine_holds(service: &Service, messages: i64) {
    until_equal("the messages to be in quarantine", messages, || {
        quarantined(service)
    });
}

/// An api and a worker on MariaDB, Redis and NATS of their own, each under its own clock.
fn apart(api: &Clock, worker: &Clock) -> (Service, Service) {
    let setup = Setup::on_parts(Kind::MariaDb);
    let other = setup.beside().with_clock(worker);
    let api = setup.with_clock(api).start_as(&["serve", "--role", "api"]);
    (api, other.start_as(&["serve", "--role", "worker"]))
}

#[test]
fn likes_of_an_api_with_a_fast_clock_are_recorded() {
    let clock = Clock::new();
    let (api, worker) = apart(&clock, &Clock::new());
    let client = api.client();
    clock.set(TimeDelta::minutes(10));
    let mut acknowledged = vec![client.like(1, 1)];
    clock.set(TimeDelta::zero());
    acknowledged.extend((2..=20).map(|user| client.like(user, 1)));
    acknowledged.push(client.unlike(1, 1));
    assert!(acknowledged.iter().all(|one| one.durability == "broker"));
    // The database dates these likes. This one has the time of a database clock that was ahead when it was acknowledged.
    let mut dated_ahead = event(30, 1, "like", &ahead(10));
    dated_ahead["source"] = json!("likewise-api");
    dated_ahead["version"] = json!((Utc::now() + TimeDelta::minutes(10)).timestamp_micros());
    let publisher = Publisher::at(&api.setup().setting("LIKEWISE_NATS_URL"));
    publisher.publish(ACCEPTED, dated_ahead.to_string());
    pipeline_drains(&worker);
    let ids = acknowledged.iter().map(|one| one.event_id.as_str());
    let id = dated_ahead["event_id"].as_str().expect("an id");
    stored_once(worker.database(), ids.chain([id]));
    assert_eq!(quarantined(&worker), 0);
    assert!(!client.read(1, 1).liked);
    api.setup().verify(30).holds();
}

#[test]
fn worker_with_a_slow_clock_quarantines_no_valid_event() {
    let clock = Clock::new();
    clock.set(TimeDelta::minutes(-10));
    let (api, worker) = apart(&Clock::new(), &clock);
    let acknowledged = api.client().like(1, 1);
    assert_eq!(acknowledged.durability, "broker");
    let publisher = Publisher::at(&api.setup().setting("LIKEWISE_NATS_URL"));
    publisher.publish(LIKES, event(2, 1, "like", &ahead(0)).to_string());
    // By the clock of the server that stored it, this event is still in the future.
    publisher.publish(LIKES, event(3, 1, "like", &ahead(6)).to_string());
    pipeline_drains(&worker);
    stored_once(worker.database(), [acknowledged.event_id.as_str()]);
    let users = "SELECT COUNT(*) FROM user_behaviors WHERE user_id IN (1, 2)";
    assert_eq!(worker.database().number(users), 2);
    let subjects = worker
        .database()
        .texts("SELECT subject FROM likewise_quarantined_events");
    assert_eq!(subjects, [LIKES]);
    api.setup().verify(30).holds();
}

#[test]
fn foreign_events_cannot_claim_to_be_acknowledged() {
    let stack = Stack::start();
    let service = stack.setup().start();
    let publisher = Publisher::of(&stack.nats);
    let claim = |user: i64, minutes: i64| {
        let mut body = event(user, 1, "like", &ahead(minutes));
        body["source"] = json!("likewise-api");
        body["version"] = json!((Utc::now() + TimeDelta::minutes(minutes)).timestamp_micros());
        body.to_string()
    };
    publisher.publish(LIKES, claim(1, 0));
    publisher.publish(LIKES, claim(2, 10));
    pipeline_drains(&service);
    assert_eq!(
        service
            .database()
            .rows("SELECT user_id, source FROM user_behaviors"),
        [vec![1.into(), "unverified:likewise-api".into()]]
    );
    // No client got an acknowledgement, so the event is not lost.
    assert_eq!(quarantined(&service), 1);
    service.stop().verify(30).holds();
}

fn admin(client: &Client, path: &str, body: &Value) -> (u16, Value) {
    let headers = [("Content-Type", "application/json")];
    let answer = client.try_send("POST", path, &headers, body.to_string().as_bytes());
    let answer = answer.expect("an answer");
    (answer.status, answer.json())
}

/// The report of the broken guarantee, and the exit codes of verify and audit.
#[track_caller]
fn reported_as_lost(service: &Service, id: &str) {
    let verified = service.setup().verify(30);
    let broken = verified.broken();
    assert_ne!(verified.code, Some(0), "{:#}", verified.report);
    let (_, examples) = broken
        .iter()
        .find(|(promise, _)| promise == PROMISE)
        .unwrap_or_else(|| panic!("{broken:?}"));
    assert_eq!(examples[0]["subject"], format!("event {id}"));
    let audited = service.setup().run(&["audit", "--json"]);
    assert_ne!(audited.code, Some(0), "{audited:?}");
    let report: Value = serde_json::from_str(&audited.stdout).expect("JSON");
    let found = &report["findings"]["acknowledged_event_in_quarantine"]["found"];
    assert_eq!(found, 1, "{report:#}");
    let client = service.client();
    let ready = client.get("/readyz").json();
    let warning = ready["parts"]["database"]["warnings"][0].as_str();
    assert!(
        warning.is_some_and(|text| text.starts_with("1 acknowledged events are in quarantine")),
        "{ready:#}"
    );
    let (status, _) = admin(&client, "/admin/jobs", &json!({"kind": "audit"}));
    assert_eq!(status, 201);
    let metric = "likewise_audit_findings{finding=\"acknowledged_event_in_quarantine\"} 1";
    until_seen(
        "the audit's metric",
        || client.get("/metrics").text,
        |text| text.contains(metric),
    );
}

fn lost_by_journal(setup: &Setup, user: i64, id: &str) -> String {
    let journal = setup.folder().join("journal");
    let line = json!({
        "user_id": user, "resource_type": "video", "resource_id": 7, "action": "like",
        "outcome": "acknowledged", "event_id": id,
    });
    fs::write(&journal, format!("{line}\n")).expect("a file");
    let path = journal.to_str().expect("a path in UTF-8");
    let ran = setup.run(&["verify", "--journal", path, "--wait", "10"]);
    assert_ne!(ran.code, Some(0), "{ran:?}");
    ran.stdout
}

#[test]
fn quarantined_acknowledged_event_is_lost_until_republished() {
    const REFUSED: i64 = 13;
    let stack = Stack::start();
    let service = stack
        .setup()
        .set("LIKEWISE_AUDIT_INTERVAL_SECONDS", 0)
        .set("LIKEWISE_MAX_RETRIES", 1)
        .start();
    let client = service.client();
    service.database().execute(&[&format!(
        "CREATE TRIGGER refuse BEFORE INSERT ON user_behaviors WHEN NEW.user_id = {REFUSED} \
         BEGIN SELECT RAISE(ABORT, 'a constraint of the product'); END"
    )]);
    let like = client.like(REFUSED, 7);
    assert_eq!(like.durability, "broker");
    quarantine_holds(&service, 1);
    reported_as_lost(&service, &like.event_id);
    let journal = lost_by_journal(service.setup(), REFUSED, &like.event_id);
    assert!(journal.contains("a constraint of the product"), "{journal}");

    service.database().execute(&["DROP TRIGGER refuse"]);
    let kept = client.get("/admin/quarantine").json()["messages"][0].clone();
    assert_eq!(kept["subject"], ACCEPTED);
    let path = format!(
        "/admin/quarantine/{}/republish",
        kept["id"].as_str().expect("an id")
    );
    let mut other: Value =
        serde_json::from_str(kept["payload"].as_str().expect("text")).expect("JSON");
    other["event_id"] = json!(Uuid::now_v7());
    let (status, refused) = admin(&client, &path, &json!({"payload": other}));
    assert_eq!(status, 422, "{refused}");
    assert!(
        refused["detail"].to_string().contains(&like.event_id),
        "{refused}"
    );
    let (status, republished) = admin(&client, &path, &json!({}));
    assert_eq!(
        (status, &republished["event_id"]),
        (200, &json!(like.event_id))
    );
    pipeline_drains(&service);
    assert_eq!(
        service
            .database()
            .rows("SELECT event_id, source FROM user_behaviors"),
        [vec![like.event_id.as_str().into(), "likewise-api".into()]]
    );
    until_seen(
        "the like to show again",
        || client.read(REFUSED, 7),
        |read| read.liked,
    );
    service.stop().verify(30).holds();
}

matrix!([mariadb_stack, postgres_stack]: quarantined_acknowledged_event_is_reported);

fn quarantined_acknowledged_event_is_reported(setup: Setup) {
    let service = setup.start();
    let publisher = Publisher::at(&service.setup().setting("LIKEWISE_NATS_URL"));
    let id = Uuid::now_v7().to_string();
    publisher.publish(LIKES, "not json");
    publisher.publish_as(&id, ACCEPTED, "not json");
    quarantine_holds(&service, 2);
    reported_as_lost(&service, &id);
    assert!(lost_by_journal(service.setup(), 1, &id).contains("in quarantine: the body"));
}
