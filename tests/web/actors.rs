//! `/admin/actors`: what reports say of actors, and what operators do to one.

use std::thread::{JoinHandle, spawn};

use serde_json::{Value, json};

use crate::support::checks::pipeline_drains;
use crate::support::http::Actor;
use crate::support::redis_and_nats::Stack;
use crate::support::service::{Service, Setup};
use crate::support::until_seen;

/// Likes a video in another thread, which ends when the like is answered.
fn like_beside(service: &Service, user: i64) -> JoinHandle<()> {
    let client = service.client();
    spawn(move || {
        client.like(user, 1);
    })
}

fn messages(actor: &Actor, kind: &str) -> Value {
    let mut found = actor.messages.iter().filter(|one| one["type"] == kind);
    found.next().cloned().unwrap_or_default()
}

#[test]
fn report_has_messages_by_type_and_supervision() {
    let service = Setup::new().start();
    let client = service.client();
    for user in 1..=5 {
        client.like(user, 1);
    }
    let recorder = until_seen(
        "five recorded messages",
        || client.actor("behavior_recorder"),
        |recorder| messages(recorder, "Record")["done"] == 5,
    );
    let record = messages(&recorder, "Record");
    assert_eq!(record["received"], 5, "{record}");
    assert_eq!(
        (&record["failed"], &record["waiting"]),
        (&json!(0), &json!(0))
    );
    assert!(record["latency_ms"]["p99"].as_f64() > Some(0.0), "{record}");
    assert!(
        record["batch_size"]["max"].as_f64() >= Some(1.0),
        "{record}"
    );
    let supervision = &recorder.supervision;
    assert_eq!(supervision["policy"], "restart_then_stop", "{supervision}");
    assert_eq!(supervision["last_panic"], Value::Null, "{supervision}");
    assert_eq!(
        (recorder.state.as_str(), &recorder.reason),
        ("running", &None)
    );
    assert!(recorder.since.ends_with('Z'), "{}", recorder.since);
    assert!(recorder.waits_for.is_empty(), "{:?}", recorder.waits_for);

    let (first, second) = (
        client.get("/admin/actors").ok(),
        client.get("/admin/actors").ok(),
    );
    let sequence = |snapshot: &Value| snapshot["sequence"].as_u64().expect("a number");
    assert!(sequence(&first) < sequence(&second));
    assert!(first["uptime_seconds"].as_f64() < second["uptime_seconds"].as_f64());
    let one = client.get("/admin/actors/behavior_recorder").ok();
    assert_eq!(one["name"], "behavior_recorder");
    let unknown = client.get("/admin/actors/nobody");
    unknown.is_problem(404, "unknown_actor");
}

/// Starts a service, and likes a video as five users. Returns `None` if a batch took two steps, which do not tell their effect:
/// on a busy machine, one transaction may take too long.
fn liked_in_one_transaction() -> Option<Service> {
    let service = Setup::new().start();
    let client = service.client();
    for user in 1..=5 {
        let liked = client.like(user, 1);
        assert_eq!((liked.changed, liked.like_count), (Some(true), Some(user)));
        let again = client.like(user, 1);
        assert_eq!((again.changed, again.like_count), (Some(false), Some(user)));
    }
    let metrics = client.get("/metrics").text;
    let all = "likewise_behaviors_recorded_total{path=\"one_transaction\"} 10\n";
    metrics.contains(all).then_some(service)
}

/// The cache writer takes a look-up when it loads from the database what the cache lacks.
#[test]
fn like_without_a_broker_needs_no_look_up() {
    let service = (0..5).find_map(|_| liked_in_one_transaction());
    let service = service.expect("batches that take one transaction");
    let client = service.client();
    let looked_up = || messages(&client.actor("cache_writer"), "Lookup");
    assert_eq!(looked_up(), Value::Null);
    // The first read fills the entry.
    assert_eq!(client.read(1, 1).like_count, Some(5));
    assert_eq!(looked_up()["batches"], 1);
    client.read(1, 1);
    assert_eq!(looked_up()["batches"], 1);
    let unliked = client.unlike(1, 1);
    assert_eq!((unliked.changed, unliked.like_count), (Some(true), Some(4)));
}

#[test]
fn panic_is_reported_with_message_and_place() {
    let service = Setup::new().set("LIKEWISE_FAULT_INJECTION", true).start();
    let client = service.client();
    client.provoke("cache_writer");
    let supervision = until_seen(
        "the restart",
        || client.actor("cache_writer"),
        |actor| actor.restarts == 1 && actor.state == "running",
    )
    .supervision;
    assert_eq!(supervision["panics_in_window"], 1, "{supervision}");
    let last = &supervision["last_panic"];
    let message = last["message"].as_str().expect("a message");
    assert!(message.contains("fault injection"), "{last}");
    let place = last["place"].as_str().expect("a place");
    assert!(place.contains(".rs:"), "{last}");
}

#[test]
fn actors_that_do_not_run_are_listed_with_a_reason() {
    let service = Setup::new().start();
    let disabled: Vec<_> = service
        .client()
        .actors_and_disabled()
        .into_iter()
        .filter(|actor| actor.state == "disabled")
        .map(|actor| (actor.name, actor.reason.expect("a reason")))
        .collect();
    let expected = [
        ("fact_publisher", "facts have no receivers"),
        ("event_publisher", "LIKEWISE_NATS_URL is not set"),
        ("nats_subscriber", "LIKEWISE_NATS_URL is not set"),
    ];
    let expected = expected.map(|(name, reason)| (name.to_owned(), reason.to_owned()));
    assert_eq!(disabled, expected);
    let refused = service
        .client()
        .post("/admin/actors/nats_subscriber/pause", "");
    refused.is_problem(409, "conflict");
}

#[test]
fn paused_recorder_refuses_likes_until_it_resumes() {
    let service = Setup::new().start();
    let client = service.client();
    let operate = |action: &str| {
        let path = format!("/admin/actors/behavior_recorder/{action}");
        client.send("POST", &path, &[("X-Operator", "ada")]).ok()
    };
    let paused = operate("pause");
    assert_eq!(paused["state"], "paused", "{paused}");
    assert_eq!(paused["reason"], "paused by ada", "{paused}");
    client.until_status("/readyz", 503);
    let reasons = client.get("/readyz").json()["reasons"].clone();
    assert_eq!(reasons, json!(["behavior_recorder is paused"]));
    let like = || client.as_user(1).put("/v1/videos/1/like");
    let refused = like();
    refused.is_problem(503, "overloaded");
    // A restart does not end the pause.
    operate("restart");
    let restarts = || client.actor("behavior_recorder").restarts;
    until_seen("the restart", restarts, |restarts| *restarts == 1);
    assert_eq!(client.actor("behavior_recorder").state, "paused");
    operate("resume");
    client.until_status("/readyz", 200);
    like().ok();
}

#[test]
fn likes_go_to_the_database_while_the_publisher_is_paused() {
    let stack = Stack::start();
    let service = stack.setup().start();
    let client = service.client();
    assert_eq!(client.like(1, 1).durability, "broker");
    client.post("/admin/actors/event_publisher/pause", "").ok();
    assert_eq!(client.like(2, 1).durability, "database");
    assert_eq!(client.get("/readyz").status, 200);
    client.post("/admin/actors/event_publisher/resume", "").ok();
    assert_eq!(client.like(3, 1).durability, "broker");
}

#[test]
fn paused_subscriber_leaves_events_in_the_stream() {
    let stack = Stack::start();
    let service = stack.setup().start();
    let client = service.client();
    let operate = |action: &str| {
        let path = format!("/admin/actors/nats_subscriber/{action}");
        client.post(&path, "").ok()
    };
    client.like(1, 1);
    pipeline_drains(&service);
    operate("pause");
    until_seen(
        "the pull to end",
        || client.actor("nats_subscriber"),
        |actor| actor.tick_ms.is_none(),
    );
    let before = client.actor("behavior_recorder").processed;
    client.like(2, 1);
    assert_eq!(
        client.get("/admin/actors/nats_subscriber").ok()["state"],
        "paused"
    );
    assert_eq!(client.actor("behavior_recorder").processed, before);
    operate("resume");
    until_seen(
        "the event to be recorded",
        || client.actor("behavior_recorder").processed,
        |processed| *processed > before,
    );
}

#[test]
fn actor_that_blocks_is_stuck_and_recovers() {
    let service = Setup::new().set("LIKEWISE_FAULT_INJECTION", true).start();
    let client = service.client();
    let mut keep_blocked = client.keep_blocked("sync_publisher");
    let stuck = until_seen(
        "the actor to be stuck",
        || {
            keep_blocked();
            client.actor("sync_publisher")
        },
        |actor| actor.state == "stuck",
    );
    let reason = stuck.reason.expect("a reason");
    assert!(reason.starts_with("it blocks its thread"), "{reason}");
    let liking = like_beside(&service, 1);
    liking.join().expect("an accepted like");
    until_seen(
        "the actor to recover",
        || client.actor("sync_publisher"),
        |actor| actor.state == "running",
    );
}

#[test]
fn operators_may_operate_actors_and_readers_may_not() {
    let service = Setup::new()
        .set("LIKEWISE_ADMIN_TOKEN", "a secret of operators")
        .start();
    let client = service.client();
    for action in ["pause", "resume", "restart"] {
        let path = format!("/admin/actors/retry_scheduler/{action}");
        client.post(&path, "").is_problem(401, "unauthorized");
    }
    assert_eq!(service.client().get("/readyz").status, 200);
    let operator = client.with_token("a secret of operators");
    operator
        .post("/admin/actors/retry_scheduler/restart", "")
        .ok();
}
