//! Our own events that wait at the same time share a message. Each event of it is recorded, quarantined or erased as if it
//! were alone, and the message is acknowledged when each of them is.

use std::collections::BTreeSet;
use std::time::Instant;

use async_nats::HeaderMap;
use async_nats::jetstream::consumer::PullConsumer;
use chrono::Utc;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{ACCEPTED, LIKES, Publisher, STREAM, event};
use crate::support::checks::{
    diary_is_kept, everything_holds, ledger_closes, pipeline_drains, stored_once,
};
use crate::support::crowd::Crowd;
use crate::support::http::Client;
use crate::support::redis_and_nats::Stack;
use crate::support::servers::Server;
use crate::support::service::Service;
use crate::support::{PATIENCE, say, seed, until, until_equal, until_seen};

const BATCH: &str = "likewise.accepted.batch";

/// A like as the elements of a batch are.
fn like(user: i64, video: i64) -> Value {
    json!({
        "event_id": Uuid::now_v7(), "user_id": user, "resource_type": "video", "resource_id": video,
        "behavior": "like", "version": Utc::now().timestamp_micros(),
    })
}

fn id_of(event: &Value) -> &str {
    event["event_id"].as_str().expect("an id")
}

/// Likes a video by these users in one request, and returns the ids of the events.
#[track_caller]
fn like_all(client: &Client, users: impl IntoIterator<Item = i64>, video: i64) -> Vec<String> {
    like_all_in(client, users, video, "broker")
}

/// As [`like_all`]; the events are durable here.
#[track_caller]
fn like_all_in(
    client: &Client,
    users: impl IntoIterator<Item = i64>,
    video: i64,
    durability: &str,
) -> Vec<String> {
    let behaviors: Vec<_> = users
        .into_iter()
        .map(|user| json!({"user_id": user, "resource_type": "video", "resource_id": video, "behavior": "like"}))
        .collect();
    let answer = client
        .post("/v1/likes", json!({"behaviors": behaviors}))
        .ok();
    assert_eq!(answer["refused"], 0, "{answer}");
    let results = answer["results"].as_array().expect("results");
    for result in results {
        assert_eq!(result["durability"], durability, "{result}");
    }
    results.iter().map(|one| id_of(one).to_owned()).collect()
}

/// The messages of the stream: subject and body.
fn messages(publisher: &Publisher) -> Vec<(String, Value)> {
    publisher.runtime.block_on(async {
        let stream = publisher.stream.get_stream(STREAM).await;
        let mut stream = stream.expect("the stream");
        let last = stream.info().await.expect("its state").state.last_sequence;
        let mut messages = Vec::new();
        for sequence in 1..=last {
            // A gap is an erased message.
            if let Ok(message) = stream.get_raw_message(sequence).await {
                let body = serde_json::from_slice(&message.payload).unwrap_or_default();
                messages.push((message.subject.to_string(), body));
            }
        }
        messages
    })
}

/// The number of events in each message with several.
fn sizes(messages: &[(String, Value)]) -> Vec<usize> {
    let batches = messages.iter().filter(|(subject, _)| subject == BATCH);
    let sizes = batches.map(|(_, body)| body.as_array().expect("an array").len());
    sizes.collect()
}

fn metric(service: &Service, name: &str) -> u64 {
    let metrics = service.client().get("/metrics").text;
    let line = metrics.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.trim().parse().ok())
        .unwrap_or_default()
}

#[test]
fn events_that_wait_share_a_message() {
    const USERS: i64 = 200;
    let mut rng = seed::rng("batches");
    let stack = Stack::start();
    let service = stack.setup().start();
    let client = service.client();
    let publisher = Publisher::of(&stack.nats);
    // A lone like travels alone, and one in the old form is read too.
    client.like(1, 1);
    let single = event(2, 1, "like", "2026-01-02T12:00:00Z");
    let mut single = single;
    single["version"] = json!(1_790_000_000_000_000_i64);
    publisher.publish(ACCEPTED, single.to_string());
    let sent = messages(&publisher);
    let subjects: Vec<_> = sent.iter().map(|(subject, _)| subject).collect();
    assert_eq!(subjects, [ACCEPTED, ACCEPTED]);

    let ids = like_all(&client, 1..=USERS, 7);
    let shared = sizes(&messages(&publisher));
    say(format_args!(
        "{USERS} likes of a request in batches of {shared:?}"
    ));
    assert!(
        shared.iter().sum::<usize>() > 150 && shared.len() < 20,
        "{shared:?}"
    );
    pipeline_drains(&service);
    stored_once(service.database(), ids.iter().map(String::as_str));
    stored_once(service.database(), [id_of(&single)]);
    assert_eq!(client.read(1, 7).like_count, Some(USERS));
    // Each event names its message in the timeline.
    let timeline = client
        .get(&format!("/admin/ledger/events/{}", ids[100]))
        .ok();
    let published = &timeline["timeline"][1];
    assert_eq!(published["step"], "published", "{timeline}");
    assert!(
        published["stream_sequence"].as_i64() > Some(2),
        "{timeline}"
    );

    let crowd = Crowd {
        threads: 24,
        ..Crowd::USUAL
    };
    let running = crowd.start(&service, &mut rng);
    running.wait_for(1_500);
    let diary = running.stop();
    assert!(diary.not_acknowledged().is_empty());
    pipeline_drains(&service);
    diary_is_kept(service.database(), &diary);
    let (events, sent) = (
        metric(&service, "likewise_events_published_total"),
        metric(&service, "likewise_messages_published_total"),
    );
    say(format_args!("{events} events in {sent} messages"));
    assert!(sent * 2 < events, "{events} events in {sent} messages");
    assert_eq!(messages(&publisher).len() as u64, sent + 1);
    everything_holds(&service);
}

#[test]
fn likes_one_after_the_other_share_transactions() {
    const LIKES: i64 = 400;
    let stack = Stack::start();
    let service = stack.setup().start();
    let client = service.client();
    let transactions = || metric(&service, "likewise_record_seconds_count");
    let (began, before) = (Instant::now(), transactions());
    for user in 1..=LIKES {
        client.like(user, 7);
    }
    pipeline_drains(&service);
    let (took, transactions) = (began.elapsed(), transactions() - before);
    say(format_args!(
        "{LIKES} likes within {took:?} in {transactions} transactions"
    ));
    // A slow machine sends them at a lower rate.
    let most = took.as_millis() / 20 + 5;
    assert!(
        u128::from(transactions) <= most,
        "{transactions} transactions within {took:?}"
    );
    assert_eq!(client.read(1, 7).like_count, Some(LIKES));
    everything_holds(&service);
}

#[test]
fn batches_fit_the_servers_max_payload() {
    const USERS: i64 = 150;
    let nats = Server::nats_with("max_payload: 2048\n");
    let redis = Server::start(crate::support::servers::Kind::Redis);
    let stack = Stack { redis, nats };
    // Smaller batches of the database than the messages have events.
    let service = stack.setup().set("LIKEWISE_BATCH_SIZE", 5).start();
    let ids = like_all(&service.client(), 1..=USERS, 7);
    let shared = sizes(&messages(&Publisher::of(&stack.nats)));
    say(format_args!("{USERS} likes in batches of {shared:?}"));
    assert!(shared.iter().sum::<usize>() > 100, "{shared:?}");
    assert!(
        shared.iter().all(|events| (2..14).contains(events)),
        "{shared:?}"
    );
    pipeline_drains(&service);
    stored_once(service.database(), ids.iter().map(String::as_str));
    everything_holds(&service);
}

#[test]
fn batch_without_acknowledgement_goes_to_the_database() {
    let mut stack = Stack::start();
    let service = stack.setup().start();
    let client = service.client();
    client.like(1, 1);
    pipeline_drains(&service);
    stack.nats.kill();
    let ids = like_all_in(&client, 1..=50, 7, "database");
    ledger_closes(service.database());
    stored_once(service.database(), ids.iter().map(String::as_str));
    stack.nats.run();
    everything_holds(&service);
}

/// Kills NATS before the acknowledgement of a recorded batch, and then the worker.
#[test]
fn redelivered_batch_counts_once() {
    const USERS: i64 = 60;
    let mut stack = Stack::start();
    let service = stack.setup().start();
    let client = service.client();
    client.like(1, 1);
    pipeline_drains(&service);
    let publisher = Publisher::of(&stack.nats);
    let consumer = service.setup().consumer();
    // The server would redeliver after 30 seconds.
    let mut settings = publisher.consumer_settings(&consumer);
    settings["ack_wait"] = json!(1_000_000_000_i64);
    publisher.write_consumer(&consumer, &settings);
    let held = service.database().hold_writes();
    let ids = like_all(&client, 1..=USERS, 7);
    let waiting = || {
        publisher.runtime.block_on(async {
            let found: Result<PullConsumer, _> = publisher
                .stream
                .get_consumer_from_stream(&consumer, STREAM)
                .await;
            let found = found.expect("the consumer");
            let info = found.cached_info();
            (info.num_pending, info.num_ack_pending > 0)
        })
    };
    until_seen("the worker to take them", waiting, |seen| {
        *seen == (0, true)
    });
    drop(publisher);
    stack.nats.kill();
    drop(held);
    service.database().until_count("user_behaviors", USERS + 1);
    let setup = service.kill();
    stack.nats.run();
    let service = setup.start();
    pipeline_drains(&service);
    assert!(metric(&service, "likewise_messages_taken_total") > 0);
    stored_once(service.database(), ids.iter().map(String::as_str));
    assert_eq!(service.database().count("user_behaviors"), USERS + 1);
    assert_eq!(service.database().count("likewise_quarantined_events"), 0);
    assert_eq!(service.client().read(1, 7).like_count, Some(USERS));
    everything_holds(&service);
}

fn reject(service: &Service, user: i64) {
    service.database().execute(&[&format!(
        "CREATE TRIGGER reject_{user} BEFORE INSERT ON user_behaviors WHEN NEW.user_id = {user} \
         BEGIN SELECT RAISE(ABORT, 'a constraint of the product'); END"
    )]);
}

/// A batch of good events, with one that is none, one under a used id, and one that the database rejects for a while.
#[test]
fn bad_event_of_a_batch_affects_no_neighbour() {
    const REJECTED: i64 = 13;
    let stack = Stack::start();
    let service = stack.setup().set("LIKEWISE_MAX_RETRIES", 1_000).start();
    let (client, database) = (service.client(), service.database());
    let publisher = Publisher::of(&stack.nats);
    reject(&service, REJECTED);
    let first = client.like(1, 1);
    pipeline_drains(&service);
    let mut bad = like(2, 7);
    bad["behavior"] = json!("liked");
    let mut forged = like(3, 7);
    forged["event_id"] = json!(first.event_id);
    let good = [like(4, 7), like(5, 7)];
    let later = like(REJECTED, 7);
    let batch = json!([good[0], bad, forged, later, good[1]]);
    publisher.publish(BATCH, batch.to_string());
    publisher.publish(
        LIKES,
        event(6, 7, "like", "2026-01-02T12:00:00Z").to_string(),
    );

    // The others do not wait for the rejected one, nor it for them.
    database.until_count("video_likes WHERE video_id = 7", 3);
    database.until_count("likewise_quarantined_events", 2);
    let kept = client.get("/admin/quarantine?resolved=false").ok();
    let kept = kept["messages"].as_array().expect("messages").clone();
    let find = |of: &Value| {
        let found = kept.iter().find(|one| one["message_id"] == of["event_id"]);
        found.unwrap_or_else(|| panic!("{kept:#?}")).clone()
    };
    let (unread, conflict) = (find(&bad), find(&forged));
    let payload: Value =
        serde_json::from_str(unread["payload"].as_str().expect("text")).expect("JSON");
    assert_eq!(payload, bad, "it is alone");
    assert_eq!(unread["subject"], BATCH);
    assert!(unread["reason"].to_string().contains("liked"), "{unread}");
    assert_eq!(conflict["subject"], ACCEPTED);
    assert!(
        conflict["reason"]
            .to_string()
            .contains("belongs to another event")
    );
    let lost = service.setup().verify(2);
    let (_, examples) = lost
        .broken()
        .into_iter()
        .find(|(promise, _)| promise == "no acknowledged event is in quarantine")
        .expect("it is reported");
    let subjects: BTreeSet<_> = examples
        .as_array()
        .expect("examples")
        .iter()
        .map(|example| example["subject"].as_str().expect("text").to_owned())
        .collect();
    let expected = [&bad, &forged].map(|one| format!("event {}", id_of(one)));
    assert_eq!(subjects, expected.into());

    // A batch is no single event.
    let path = |one: &Value| format!("/admin/quarantine/{}", one["id"].as_str().expect("an id"));
    let republish = format!("{}/republish", path(&unread));
    client
        .post(&republish, json!({"payload": [like(2, 7)]}))
        .has_status(422);
    let mut mended = bad.clone();
    mended["behavior"] = json!("like");
    let republished = client.post(&republish, json!({"payload": mended})).ok();
    assert_eq!(republished["event_id"], bad["event_id"]);
    client
        .post(&format!("{}/discard", path(&conflict)), "{}")
        .ok();
    database.execute(&["DROP TRIGGER reject_13"]);
    pipeline_drains(&service);
    let ids = [&good[0], &good[1], &later, &bad].map(id_of);
    stored_once(database, ids);
    assert_eq!(client.read(1, 7).like_count, Some(5));
    assert_eq!(database.count("likewise_quarantined_events"), 2);
    everything_holds(&service);
}

#[test]
fn undecodable_batch_is_quarantined_whole() {
    let stack = Stack::start();
    let service = stack.setup().start();
    let (client, database) = (service.client(), service.database());
    let publisher = Publisher::of(&stack.nats);
    for body in ["not json", "{\"user_id\": 1}", "[]"] {
        publisher.runtime.block_on(async {
            let sent = publisher.stream.publish(BATCH, body.into()).await;
            sent.expect("it is sent").await.expect("an acknowledgement");
        });
    }
    pipeline_drains(&service);
    // An empty batch has nothing to lose.
    let reasons = database.texts("SELECT reason FROM likewise_quarantined_events");
    assert_eq!(reasons.len(), 2);
    assert!(
        reasons
            .iter()
            .all(|reason| reason.contains("not a JSON array")),
        "{reasons:?}"
    );
    let kept = client.get("/admin/quarantine").ok()["messages"][0].clone();
    let mended = like(1, 7);
    let path = format!(
        "/admin/quarantine/{}/republish",
        kept["id"].as_str().expect("an id")
    );
    client.post(&path, json!({"payload": mended})).ok();
    pipeline_drains(&service);
    ledger_closes(database);
    stored_once(database, [id_of(&mended)]);
}

/// Events that another deployment accepted on the same stream are neither recorded nor erased.
#[test]
fn batch_of_another_deployment_is_left_alone() {
    const USER: i64 = 7_316_258_490_317;
    let stack = Stack::start();
    let service = stack.setup().start();
    let client = service.client();
    client.like(USER, 1);
    let publisher = Publisher::of(&stack.nats);
    let theirs = json!([like(USER, 7), like(2, 7)]);
    publisher.runtime.block_on(async {
        let mut headers = HeaderMap::new();
        headers.insert("Likewise-Deployment", Uuid::now_v7().to_string());
        let sent = publisher
            .stream
            .publish_with_headers(BATCH, headers, theirs.to_string().into());
        sent.await
            .expect("it is sent")
            .await
            .expect("an acknowledgement");
    });
    pipeline_drains(&service);
    assert_eq!(
        metric(&service, "likewise_messages_of_other_deployments_total"),
        1
    );
    assert_eq!(service.database().count("user_behaviors"), 1);
    erase(&client, USER);
    assert_eq!(messages(&publisher), [(BATCH.to_owned(), theirs)]);
}

/// Erases a user, and returns the proof.
#[track_caller]
fn erase(client: &Client, user: i64) -> Value {
    let asked = client.send("DELETE", &format!("/v1/users/{user}"), &[]);
    assert_eq!(asked.status, 202, "{asked:?}");
    let path = format!(
        "/v1/erasures/{}",
        asked.json()["id"].as_str().expect("an id")
    );
    until("the erasure to end", PATIENCE, || {
        let erasure = client.get(&path).json();
        assert_ne!(erasure["state"], "failed", "{erasure}");
        match erasure["finished_at"].is_string() {
            true => Ok(erasure),
            false => Err(erasure.to_string()),
        }
    })
}

/// The ids of the events in the stream, and whether it names this user.
fn found(publisher: &Publisher, user: i64) -> (BTreeSet<String>, bool) {
    let messages = messages(publisher);
    let is_named = messages
        .iter()
        .any(|(_, body)| body.to_string().contains(&user.to_string()));
    let events = messages.iter().flat_map(|(_, body)| match body {
        Value::Array(events) => events.clone(),
        one => vec![one.clone()],
    });
    (events.map(|one| id_of(&one).to_owned()).collect(), is_named)
}

#[test]
fn erasure_keeps_the_neighbours_of_a_batch() {
    const USER: i64 = 7_316_258_490_317;
    const REJECTED: i64 = 13;
    let stack = Stack::start();
    let service = stack.setup().set("LIKEWISE_MAX_RETRIES", 1_000).start();
    let (client, database) = (service.client(), service.database());
    let publisher = Publisher::of(&stack.nats);
    // The first and the last of a request may travel alone.
    let mut others = like_all(&client, [1, 2, 3, USER, 4, 5], 7);
    others.remove(3);
    pipeline_drains(&service);
    // One neighbour is not recorded yet, and one is no event.
    reject(&service, REJECTED);
    let (unrecorded, recorded) = (like(REJECTED, 8), like(6, 8));
    let batch = json!([unrecorded, like(USER, 8), recorded, like(USER, 9)]);
    publisher.publish(BATCH, batch.to_string());
    publisher.publish(BATCH, json!([like(USER, 10), like(USER, 11)]).to_string());
    database.until_count("user_behaviors WHERE resource_id > 7", 5);
    assert!(found(&publisher, USER).1);
    let proof = erase(&client, USER);
    say(format_args!("{proof}"));
    // The redelivery of the rejected event may have erased its message before the job came to it.
    let deleted = proof["deleted"]["stream_messages"].as_u64();
    assert!([Some(2), Some(3)].contains(&deleted), "{proof}");
    let (events, is_named) = found(&publisher, USER);
    assert!(!is_named, "{:#?}", messages(&publisher));
    let ids = [&unrecorded, &recorded].map(|one| id_of(one).to_owned());
    let mut expected: BTreeSet<_> = others.iter().cloned().chain(ids).collect();
    assert_eq!(events, expected);

    // What arrives later leaves the stream too, without its neighbours.
    let late = [like(7, 8), like(REJECTED, 9)];
    let batch = json!([late[0], like(USER, 12), late[1]]);
    publisher.publish(BATCH, batch.to_string());
    let mut nonsense = like(USER, 12);
    nonsense["behavior"] = json!("liked");
    publisher.publish(BATCH, json!([nonsense, like(8, 8)]).to_string());
    database.until_count("user_behaviors WHERE user_id IN (7, 8)", 2);
    until_equal("the stream to name the erased no more", false, || {
        found(&publisher, USER).1
    });
    database.execute(&["DROP TRIGGER reject_13"]);
    pipeline_drains(&service);
    expected.extend(late.iter().map(|one| id_of(one).to_owned()));
    let (events, _) = found(&publisher, USER);
    assert!(events.is_superset(&expected), "{events:?}");
    stored_once(database, expected.iter().map(String::as_str));
    assert_eq!(
        database.count(&format!("user_behaviors WHERE user_id = {USER}")),
        0
    );
    assert_eq!(database.count("likewise_quarantined_events"), 0);
    assert_eq!(client.read(1, 8).like_count, Some(4));
    everything_holds(&service);
}
