//! A `traceparent` that a caller or a publisher sends stays with its event: on NATS, in the ledger, through failures and
//! retries, in quarantine, and with the facts.

use async_nats::jetstream;
use serde_json::{Value, json};

use crate::nats::{LIKES, Publisher, event};
use crate::support::checks::{ledger_closes, pipeline_drains};
use crate::support::http::Client;
use crate::support::redis_and_nats::Stack;
use crate::support::service::{Service, Setup};
use crate::support::webhook_receiver::Hook;
use crate::support::{runtime, until_seen};

/// The span of the caller.
const SPAN: &str = "00f067aa0ba902b7";

fn trace_id(n: i64) -> String {
    format!("4bf92f3577b34da6a3ce929d{n:08x}")
}

fn traceparent(n: i64) -> String {
    format!("00-{}-{SPAN}-01", trace_id(n))
}

/// Returns the timeline of an event.
#[track_caller]
fn timeline(service: &Service, event_id: &str) -> Value {
    let path = format!("/admin/ledger/events/{event_id}");
    service.client().get(&path).ok()
}

/// Checks that the ledger has this trace of an event, with a span that is not the caller's. Returns its `traceparent`.
#[track_caller]
fn is_traced(service: &Service, event_id: &str, n: i64) -> String {
    let shown = timeline(service, event_id);
    assert_eq!(shown["trace_id"], trace_id(n), "{shown:#}");
    let stored = shown["ledger"]["traceparent"].as_str().expect("a text");
    let rest = stored.strip_prefix(&format!("00-{}-", trace_id(n)));
    let span = rest.and_then(|rest| rest.strip_suffix("-01"));
    let span = span.unwrap_or_else(|| panic!("{stored}"));
    assert!(span.len() == 16 && span != SPAN, "{stored}");
    stored.to_owned()
}

#[track_caller]
fn is_untraced(service: &Service, event_id: &str) {
    let shown = timeline(service, event_id);
    assert_eq!(shown.get("trace_id"), None, "{shown:#}");
    assert_eq!(shown["ledger"]["traceparent"], Value::Null, "{shown:#}");
}

/// Sends a like with these headers. Returns the event's id.
#[track_caller]
fn like_with(client: &Client, user: i64, headers: &[(&str, &str)]) -> String {
    let user = user.to_string();
    let mut all = vec![("X-User-Id", user.as_str())];
    all.extend(headers);
    let answer = client.send("PUT", "/v1/videos/7/like", &all);
    // The standard has no header for an answer.
    assert_eq!(answer.header("traceparent"), None);
    let answer = answer.ok();
    answer["event_id"].as_str().expect("an id").to_owned()
}

#[track_caller]
fn like(client: &Client, user: i64) -> String {
    like_with(client, user, &[("traceparent", &traceparent(user))])
}

matrix!([embedded, mariadb_stack, postgres_stack]: trace_goes_from_request_to_ledger, concurrent_likes_keep_their_traces);

fn trace_goes_from_request_to_ledger(setup: Setup) {
    let service = setup.start();
    let client = service.client();
    let liked = like(&client, 1);
    let unliked = {
        let header = traceparent(2);
        let headers = [("X-User-Id", "1"), ("Traceparent", &*header)];
        let answer = client.send("DELETE", "/v1/videos/7/like", &headers).ok();
        answer["event_id"].as_str().expect("an id").to_owned()
    };
    let traced = client.with("traceparent", traceparent(3)).as_user(5);
    let behavior = |user: i64| json!({"user_id": user, "resource_type": "video", "resource_id": 8, "behavior": "like"});
    let batch = traced.post(
        "/v1/likes",
        json!({"behaviors": [behavior(1), behavior(2)]}),
    );
    let batch = batch.ok();
    let older = traced.post("/v1/action/like", json!({"video_id": 9, "action_type": 1}));
    let older = older.ok();
    let untraced = client.like(6, 7).event_id;
    let (valid, upper) = (traceparent(7), traceparent(0xabc).to_uppercase());
    let invalid = [
        vec![("traceparent", &*upper)],
        vec![("traceparent", "")],
        vec![("traceparent", &valid[..54])],
        vec![("traceparent", &*valid), ("traceparent", &*valid)],
        vec![("tracestate", "a=b")],
    ];
    let users = 10..;
    let ignored: Vec<_> = users
        .zip(&invalid)
        .map(|(user, headers)| like_with(&client, user, headers))
        .collect();
    pipeline_drains(&service);

    let first = is_traced(&service, &liked, 1);
    is_traced(&service, &unliked, 2);
    let mut spans = vec![first[36..52].to_owned()];
    let ids = batch["results"].as_array().expect("results").iter();
    let ids = ids
        .chain([&older["data"]])
        .map(|one| one["event_id"].as_str().expect("an id"));
    spans.extend(ids.map(|id| is_traced(&service, id, 3)[36..52].to_owned()));
    assert_eq!(spans.len(), 4);
    spans.sort();
    spans.dedup();
    assert_eq!(
        spans.len(),
        4,
        "each event has a span of its own: {spans:?}"
    );
    is_untraced(&service, &untraced);
    for id in &ignored {
        is_untraced(&service, id);
    }
    let shown = service.setup().run(&["events", "show", &liked]);
    shown.prints(&format!("trace {}", trace_id(1)));
    service.stop().verify(30).holds();
}

/// Likes at the same time share messages on NATS, and transactions.
fn concurrent_likes_keep_their_traces(setup: Setup) {
    const USERS: i64 = 60;
    let service = setup.start();
    let client = service.client();
    let likes: Vec<_> = std::thread::scope(|scope| {
        let liking: Vec<_> = (1..=USERS)
            .map(|user| {
                let client = &client;
                scope.spawn(move || (user, like(client, user)))
            })
            .collect();
        let liked = liking.into_iter().map(|one| one.join().expect("a like"));
        liked.collect()
    });
    pipeline_drains(&service);
    for (user, event_id) in likes {
        is_traced(&service, &event_id, user);
    }
    service.stop();
}

/// The database rejects the like, an operator retries it, and then its fact is delivered.
#[test]
fn retried_like_keeps_its_trace() {
    let hook = Hook::start(|_| 204);
    let stack = Stack::start();
    let service = stack
        .setup()
        .set("LIKEWISE_FACTS_STREAM", "true")
        .set("LIKEWISE_WEBHOOK_URLS", hook.url())
        .set(
            "LIKEWISE_WEBHOOK_SECRET",
            "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=",
        )
        .set("LIKEWISE_MAX_RETRIES", 0)
        .start();
    let database = service.database();
    database.refuse_likes_of(4, "refused by a test");
    let event_id = like(&service.client(), 4);
    database.until_count("sync_events WHERE status = 'dead'", 1);
    // The log tells of it after the commit.
    service.until_logged("attempts on ledger rows failed");
    let lines = service.logged("attempts on ledger rows failed");
    let expected = format!("event_id={event_id} trace_id={}", trace_id(4));
    assert!(
        lines.iter().any(|line| line.contains(&expected)),
        "{lines:#?}"
    );
    database.execute(&["DROP TRIGGER refuse_4"]);
    let retry = format!("/admin/ledger/events/{event_id}/retry");
    service.client().post(&retry, "").ok();
    ledger_closes(database);
    let stored = is_traced(&service, &event_id, 4);

    let posted = until_seen("the webhook", || hook.posted(), |posted| !posted.is_empty());
    assert_eq!(posted[0].header("traceparent"), stored);
    assert_eq!(posted[0].facts()[0]["traceparent"], stored);
    let in_stream = || fact_headers(&stack.nats.url());
    until_seen("the fact", in_stream, |found| {
        found.as_slice() == [Some(stored.clone())]
    });
    service.stop().verify(30).holds();
}

/// Returns the header of each message in the stream of facts.
fn fact_headers(url: &str) -> Vec<Option<String>> {
    runtime().block_on(async {
        let client = async_nats::connect(url).await.expect("a connection");
        let stream = jetstream::new(client).get_stream("LIKEWISE_FACTS").await;
        let Ok(mut stream) = stream else {
            return Vec::new();
        };
        let last = stream.info().await.expect("the stream").state.last_sequence;
        let mut found = Vec::new();
        for sequence in 1..=last {
            let message = stream.get_raw_message(sequence).await.expect("a message");
            let header = message.headers.get("traceparent");
            found.push(header.map(ToString::to_string));
        }
        found
    })
}

/// The facts of one request may have several traces: then only the facts name them.
#[test]
fn webhook_of_several_traces_has_no_header() {
    let hook = Hook::start(|_| 503);
    let service = Setup::new()
        .set("LIKEWISE_WEBHOOK_URLS", hook.url())
        .set(
            "LIKEWISE_WEBHOOK_SECRET",
            "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=",
        )
        .start();
    for user in 1..=3 {
        like(&service.client(), user);
    }
    service.database().until_count("likewise_outbox", 3);
    hook.obey(|_| 204);
    let taken = || {
        let posted = hook.posted();
        posted
            .into_iter()
            .find(|one| one.status == 204 && one.facts().len() > 1)
    };
    let posted = until_seen("facts of several traces", taken, Option::is_some);
    let posted = posted.expect("a request");
    assert!(posted.headers.iter().all(|(name, _)| name != "traceparent"));
    for fact in posted.facts() {
        let user = fact["user_id"].as_i64().expect("a number");
        let traceparent = fact["traceparent"].as_str().expect("a text");
        assert_eq!(traceparent[3..35], trace_id(user));
    }
}

#[test]
fn like_without_nats_keeps_its_trace() {
    let mut stack = Stack::start();
    let service = stack.setup().start();
    let client = service.client();
    client.like(1, 7);
    stack.nats.stop();
    let event_id = like(&client, 2);
    ledger_closes(service.database());
    is_traced(&service, &event_id, 2);
    assert_eq!(
        service
            .database()
            .count("user_behaviors WHERE stream_sequence IS NULL"),
        1
    );
    service.stop();
}

#[test]
fn foreign_event_keeps_its_trace() {
    let stack = Stack::start();
    let service = stack.setup().start();
    let publisher = Publisher::of(&stack.nats);
    let now = chrono::Utc::now().to_rfc3339();
    let id = |event: &Value| event["event_id"].as_str().expect("an id").to_owned();

    // As OpenTelemetry for Go writes the header.
    let by_header = event(1, 7, "like", &now);
    let header = traceparent(1);
    publisher.publish_with(&[("Traceparent", &header)], LIKES, by_header.to_string());
    let mut by_field = event(2, 7, "like", &now);
    by_field["traceparent"] = json!(traceparent(2));
    publisher.publish(LIKES, by_field.to_string());
    let mut invalid = event(3, 7, "like", &now);
    invalid["traceparent"] = json!({"a": "trace"});
    publisher.publish_with(&[("traceparent", "00-nothing")], LIKES, invalid.to_string());
    service.database().until_count("user_behaviors", 3);
    pipeline_drains(&service);
    is_traced(&service, &id(&by_header), 1);
    is_traced(&service, &id(&by_field), 2);
    is_untraced(&service, &id(&invalid));
    // The trace is no part of an event's content: a repeat with another one is the same event.
    let other = traceparent(9);
    publisher.publish_with(&[("traceparent", &other)], LIKES, by_header.to_string());
    publisher.publish(LIKES, event(4, 7, "like", &now).to_string());
    service.database().until_count("user_behaviors", 4);
    pipeline_drains(&service);
    assert_eq!(service.database().count("likewise_quarantined_events"), 0);
    is_traced(&service, &id(&by_header), 1);
    service.stop();
}

#[test]
fn quarantined_message_keeps_its_trace() {
    let stack = Stack::start();
    let service = stack.setup().start();
    let client = service.client();
    let publisher = Publisher::of(&stack.nats);
    let mended = event(1, 7, "like", &chrono::Utc::now().to_rfc3339());
    let mut broken = mended.clone();
    broken["behavior"] = json!("liked");
    let header = traceparent(1);
    publisher.publish_with(&[("traceparent", &header)], LIKES, broken.to_string());
    service
        .database()
        .until_count("likewise_quarantined_events", 1);
    let kept = client.get("/admin/quarantine").json()["messages"][0].clone();
    assert_eq!(kept["traceparent"], header);
    let expected = format!("trace_id={}", trace_id(1));
    // The log tells of it after the commit.
    service.until_logged("messages put into quarantine");
    let lines = service.logged("messages put into quarantine");
    assert!(
        lines.iter().any(|line| line.contains(&expected)),
        "{lines:#?}"
    );

    let path = format!(
        "/admin/quarantine/{}/republish",
        kept["id"].as_str().expect("an id")
    );
    client.post(&path, json!({"payload": mended})).ok();
    service.database().until_count("user_behaviors", 1);
    pipeline_drains(&service);
    is_traced(&service, mended["event_id"].as_str().expect("an id"), 1);
    service.stop();
}
