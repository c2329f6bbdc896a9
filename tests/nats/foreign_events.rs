//! Events from other services: valid ones count once, invalid ones are quarantined with a reason, and none delays the
//! others.

use std::collections::BTreeMap;

use rand::RngExt;
use rand::seq::SliceRandom;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{LIKES, Publisher, event};
use crate::support::checks::{
    everything_holds, ledger_closes, pipeline_drains, stored_counts, stored_states,
};
use crate::support::database::Database;
use crate::support::redis_and_nats::Stack;
use crate::support::seed;
use crate::support::servers::Kind;
use crate::support::service::Service;

/// Waits until this many messages have been processed, and the ledger is closed.
#[track_caller]
fn taken(service: &Service, behaviors: i64, quarantined: i64) {
    let database = service.database();
    database.until_count("user_behaviors", behaviors);
    database.until_count("likewise_quarantined_events", quarantined);
    ledger_closes(database);
}

const NOON: &str = "2026-01-02T12:00:00Z";
const ONE: &str = "2026-01-02T13:00:00Z";
const TWO: &str = "2026-01-02T14:00:00Z";

#[test]
fn foreign_likes_are_visible_after_earlier_reads() {
    let stack = Stack::start();
    let service = stack.setup().start();
    let client = service.client();
    let publisher = Publisher::of(&stack.nats);
    // Both videos are in the cache now, one without likes and one with a like.
    assert!(!client.read(1, 1).liked);
    client.like(9, 2);
    assert!(!client.read(1, 2).liked);
    for video in [1, 2, 3] {
        publisher.publish(LIKES, event(1, video, "like", NOON).to_string());
    }
    for (video, count) in [(1, 1), (2, 2), (3, 1)] {
        client.until_read(1, video, (true, Some(count)));
    }
    // The user unlikes it here, later than the foreign like.
    let unliked = client.unlike(1, 1);
    assert_eq!((unliked.changed, unliked.like_count), (Some(true), Some(0)));
    everything_holds(&service);
    service.stop();
}

#[test]
fn duplicate_and_reordered_events_count_once() {
    let mut rng = seed::rng("foreign duplicates");
    let stack = Stack::start();
    let service = stack.setup().start_as(&["serve", "--role", "worker"]);
    let publisher = Publisher::of(&stack.nats);

    let like = event(1, 1, "like", ONE);
    publisher.publish_as("once", LIKES, like.to_string());
    publisher.publish_as("once", LIKES, like.to_string());
    publisher.publish_as("another name", LIKES, like.to_string());
    // Other content under the same event id: the first content stands, and the others are quarantined.
    taken(&service, 1, 0);
    let mut altered = like.clone();
    altered["behavior"] = json!("unlike");
    altered["occurred_at"] = json!(NOON);
    publisher.publish(LIKES, altered.to_string());
    altered["occurred_at"] = json!(TWO);
    altered["user_id"] = json!(77);
    publisher.publish(LIKES, altered.to_string());
    // An older event arrives after the newer one.
    publisher.publish(LIKES, event(2, 1, "like", ONE).to_string());
    publisher.publish(LIKES, event(2, 1, "unlike", TWO).to_string());
    publisher.publish(LIKES, event(2, 1, "like", NOON).to_string());
    publisher.publish(LIKES, event(3, 1, "unlike", NOON).to_string());
    publisher.publish(LIKES, event(3, 1, "like", TWO).to_string());
    taken(&service, 6, 2);

    let states = stored_states(service.database());
    assert!(states[&(1, 1)] && !states[&(2, 1)] && states[&(3, 1)]);
    assert!(!states.contains_key(&(77, 1)), "{states:?}");
    assert_eq!(stored_counts(service.database())[&1], 2);

    // Many events, in random order and some of them twice.
    let mut expected = BTreeMap::new();
    let mut events = Vec::new();
    for second in 0..200 {
        let (user, liked) = (rng.random_range(10..20), rng.random_bool(0.5));
        let at = format!("2026-01-03T12:{:02}:{:02}Z", second / 60, second % 60);
        let behavior = if liked { "like" } else { "unlike" };
        let event = event(user, 5, behavior, &at).to_string();
        expected.insert((user, 5), liked);
        events.push(event.clone());
        if rng.random_bool(0.3) {
            events.push(event);
        }
    }
    events.shuffle(&mut rng);
    for event in events {
        publisher.publish(LIKES, event);
    }
    taken(&service, 206, 2);
    let states = stored_states(service.database());
    for (pair, liked) in &expected {
        assert_eq!(states.get(pair), Some(liked), "{pair:?}");
    }
    service.setup().verify(30).holds();
    service.stop();
}

/// For example, a constraint that the product added. The like was acknowledged, and shows until the database refuses
/// it.
#[test]
fn rejected_like_is_quarantined_and_reverted() {
    const REFUSED: i64 = 13;
    let stack = Stack::start();
    let service = stack.setup().set("LIKEWISE_MAX_RETRIES", 1).start();
    let client = service.client();
    service.database().execute(&[&format!(
        "CREATE TRIGGER refuse BEFORE INSERT ON user_behaviors WHEN NEW.user_id = {REFUSED} \
         BEGIN SELECT RAISE(ABORT, 'a constraint of the product'); END"
    )]);
    assert!(!client.read(1, 7).liked);
    client.like(1, 7);
    client.like(REFUSED, 7);
    client.until_read(1, 7, (true, Some(1)));
    client.until_read(REFUSED, 7, (false, Some(1)));
    taken(&service, 1, 1);
    // It was taken back with its refusal, and not when it had been in flight for too long.
    let metrics = client.get("/metrics").text;
    let compared = "likewise_cache_events_reconciled_total{outcome=\"lost\"} 0";
    assert!(metrics.contains(compared), "{metrics}");
}

#[test]
fn rejected_event_delays_no_other_event() {
    const REJECTED: i64 = 13;
    let stack = Stack::start();
    let service = stack.setup().set("LIKEWISE_MAX_RETRIES", 1_000).start();
    let (client, database) = (service.client(), service.database());
    database.execute(&[&format!(
        "CREATE TRIGGER refuse BEFORE INSERT ON user_behaviors WHEN NEW.user_id = {REJECTED} \
         BEGIN SELECT RAISE(ABORT, 'a constraint of the product'); END"
    )]);
    client.like(REJECTED, 7);
    for user in 1..=5 {
        client.like(user, 7);
    }
    database.until_count("video_likes", 5);
    assert_eq!(database.count("likewise_quarantined_events"), 0);
    database.execute(&["DROP TRIGGER refuse"]);
    pipeline_drains(&service);
    assert_eq!(database.count("likewise_quarantined_events"), 0);
    assert_eq!(client.read(REJECTED, 7).like_count, Some(6));
    everything_holds(&service);
}

#[test]
fn undecodable_message_is_quarantined_with_its_reason() {
    let stack = Stack::start();
    let service = stack.setup().start_as(&["serve", "--role", "worker"]);
    let publisher = Publisher::of(&stack.nats);
    let valid = || event(1, 1, "like", NOON);
    let with = |field: &str, value: Value| {
        let mut body = valid();
        body[field] = value;
        body.to_string().into_bytes()
    };
    let without = |field: &str| {
        let mut body = valid();
        body.as_object_mut().expect("an object").remove(field);
        body.to_string().into_bytes()
    };
    let tomorrow = chrono::Utc::now() + chrono::TimeDelta::days(1);
    let broken: Vec<(Vec<u8>, &str)> =
        vec![
        (b"{\"event_id\": ".to_vec(), "not a JSON object"),
        (vec![0xff, 0xfe, 0x00, 0x80], "not a JSON object"),
        (b"\0\0\0".to_vec(), "not a JSON object"),
        (Vec::new(), "not a JSON object"),
        (b"[1, 2]".to_vec(), "not a JSON object"),
        (b"{}".to_vec(), "user_id"),
        (with("user_id", json!("one")), "user_id must be a number"),
        (with("user_id", json!(1.5)), "a whole number or text"),
        (with("event_id", json!("seven")), "UUID"),
        (without("event_id"), "event_id"),
        (without("user_id"), "user_id"),
        (without("occurred_at"), "occurred_at"),
        (with("resource_type", json!("song")), "song"),
        (with("behavior", json!("dislike")), "dislike"),
        (with("behavior", json!("void")), "unknown variant `void`"),
        (with("behavior", json!("restore")), "unknown variant `restore`"),
        (with("occurred_at", json!(tomorrow.to_rfc3339())), "ahead"),
        (with("occurred_at", json!("1960-01-01T00:00:00Z")), "1970"),
        (with("user_id", json!(0)), "user_id"),
        (with("user_id", json!(-5)), "user_id"),
        (with("resource_id", json!(0)), "resource_id"),
        (with("resource_id", json!(u64::MAX)), "resource_id must be a number"),
        (with("source", json!("s".repeat(17 << 10))), "bytes"),
        (with("source", json!("s".repeat(900 << 10))), "bytes"),
        (with("source", json!("a\0b")), "source"),
        (
            json!({"user_id": 1, "video_id": 0, "action_type": "1", "timestamp": 1_700_000_000})
                .to_string()
                .into_bytes(),
            "video_id",
        ),
        (
            json!({"user_id": 1, "video_id": 1, "action_type": "9", "timestamp": 1_700_000_000})
                .to_string()
                .into_bytes(),
            "known behavior",
        ),
    ];
    // Valid events between them must not wait.
    for (place, (body, _)) in broken.iter().enumerate() {
        publisher.publish(LIKES, body.clone());
        let user = 100 + i64::try_from(place).expect("few");
        publisher.publish(LIKES, event(user, 1, "like", NOON).to_string());
    }
    let count = i64::try_from(broken.len()).expect("few");
    taken(&service, count, count);
    assert_eq!(stored_counts(service.database())[&1], count);

    let listed = |rest: &[&str]| {
        service
            .setup()
            .run(&[&["events", "quarantine"], rest].concat())
    };
    let ran = listed(&["--json", "--limit", "100"]);
    ran.exits(0);
    let rows: Vec<Value> = serde_json::from_str(&ran.stdout).expect("JSON");
    assert_eq!(rows.len(), broken.len());
    let payload = |row: &Value| row["payload_hex"].as_str().expect("text").to_owned();
    let kept: BTreeMap<_, _> = rows.iter().map(|row| (payload(row), row)).collect();
    for (body, reason) in &broken {
        let row = kept[&hex::encode(body)];
        let found = row["reason"].as_str().expect("text");
        assert!(found.contains(reason), "{reason}: {found}");
        assert_eq!(row["subject"], LIKES);
        assert!(row["message_id"].is_string() && row["stream_sequence"].is_number());
    }
    listed(&["--limit", "3"]).exits(0).prints(LIKES);
    service.setup().verify(30).holds();
    service.stop();
}

/// MySQL reads a leap second as NULL.
#[test]
fn leap_second_is_recorded_as_the_next_second() {
    let stack = Stack::start();
    let database = Database::hosted(Kind::MariaDb);
    let setup = stack.setup().on(&database);
    let service = setup.start_as(&["serve", "--role", "worker"]);
    let publisher = Publisher::of(&stack.nats);
    for (user, time) in [(1, "2016-12-31T23:59:60Z"), (2, NOON)] {
        publisher.publish(LIKES, event(user, 1, "like", time).to_string());
    }
    taken(&service, 2, 0);
    let time = "SELECT CAST(behavior_time AS CHAR) FROM user_behaviors WHERE user_id = 1";
    assert_eq!(database.texts(time), ["2017-01-01 00:00:00.000000"]);
    service.setup().verify(30).holds();
    service.stop();
}

#[test]
fn go_service_events_are_counted() {
    let stack = Stack::start();
    let service = stack.setup().start_as(&["serve", "--role", "worker"]);
    let publisher = Publisher::of(&stack.nats);
    let publish = |user: Value, action: Value, kind: &str, second: Value, id: Value| {
        let body = json!({
            "user_id": user, "video_id": 4, "comment_id": 0, "action_type": action,
            "event_type": kind, "timestamp": second, "event_id": id,
        });
        publisher.publish(LIKES, body.to_string());
    };
    const SECOND: i64 = 1_700_000_000;
    for _ in 0..2 {
        publish(
            json!(1),
            json!("1"),
            "video_like",
            json!(SECOND),
            json!("evt-1"),
        );
    }
    publish(
        json!("2"),
        json!("like"),
        "",
        json!("1700000000"),
        json!(Uuid::now_v7()),
    );
    publish(
        json!(3),
        json!(1),
        "video_like",
        json!(SECOND),
        json!("evt-3"),
    );
    // Within one second, the order of the stream decides.
    publish(
        json!(3),
        json!("2"),
        "video_unlike",
        json!(SECOND),
        json!("evt-4"),
    );
    publish(
        json!(2),
        json!("unlike"),
        "",
        json!(1_600_000_000),
        json!("evt-5"),
    );
    let of_comment = json!({
        "user_id": 1, "video_id": 4, "comment_id": 6, "action_type": "1", "timestamp": SECOND,
    });
    publisher.publish("likewise.behaviors.comment.like", of_comment.to_string());
    // Behaviors that are no likes are recorded, with no other effect.
    for behavior in ["view", "share", "comment"] {
        let subject = format!("likewise.behaviors.video.{behavior}");
        publisher.publish(&subject, event(1, 4, behavior, NOON).to_string());
    }
    taken(&service, 9, 0);
    let database = service.database();
    let expected = [((1, 4), true), ((2, 4), true), ((3, 4), false)];
    assert_eq!(stored_states(database), expected.into());
    assert_eq!(stored_counts(database)[&4], 2);
    let comments = "comment_likes WHERE comment_id = 6 AND deleted_at IS NULL";
    assert_eq!(database.count(comments), 1);
    assert_eq!(database.count("sync_events"), 6);
    service.setup().verify(30).holds();
    service.stop();
}

/// The columns of the read models, which a forged event must not change.
fn read_models(service: &Service) -> Vec<Vec<crate::support::database::Value>> {
    let database = service.database();
    let mut rows = database.rows("SELECT user_id, video_id, version FROM video_likes");
    rows.extend(database.rows("SELECT user_id, comment_id, version FROM comment_likes"));
    rows.extend(database.rows("SELECT resource_id, like_count FROM likewise_like_counts"));
    rows.sort();
    rows
}

#[test]
fn reused_event_id_is_quarantined_and_the_first_stands() {
    let stack = Stack::start();
    let service = stack.setup().start();
    let client = service.client();
    let publisher = Publisher::of(&stack.nats);
    let liked = client.like(1, 1);
    taken(&service, 1, 0);
    let before = read_models(&service);
    let version = chrono::Utc::now().timestamp_micros();

    // Everything that a message can claim about one of our own completed events.
    let mut forged = event(1, 1, "unlike", NOON);
    forged["event_id"] = json!(liked.event_id);
    forged["source"] = json!("likewise-api");
    forged["version"] = json!(version);
    let mut of_another = forged.clone();
    of_another["user_id"] = json!(2);
    of_another["behavior"] = json!("like");
    let mut of_a_comment = of_another.clone();
    of_a_comment["resource_type"] = json!("comment");
    let mut seen = forged.clone();
    seen["behavior"] = json!("view");
    for message in [&forged, &of_another, &of_a_comment, &seen] {
        publisher.publish(LIKES, message.to_string());
    }
    // Two events under one unused id: the first stands.
    let first = event(3, 3, "like", NOON);
    let mut second = first.clone();
    second["user_id"] = json!(4);
    publisher.publish(LIKES, first.to_string());
    publisher.publish(LIKES, second.to_string());
    publisher.publish(LIKES, first.to_string());
    taken(&service, 2, 5);

    let reasons = service
        .database()
        .texts("SELECT DISTINCT reason FROM likewise_quarantined_events");
    assert_eq!(reasons.len(), 1);
    assert!(
        reasons[0].contains("event id belongs to another event"),
        "{reasons:?}"
    );
    let after = read_models(&service);
    assert_eq!(after.len(), before.len() + 2, "{after:?}");
    assert!(before.iter().all(|row| after.contains(row)), "{after:?}");
    assert!(client.read(1, 1).liked && client.read(3, 3).liked && !client.read(4, 3).liked);
    everything_holds(&service);
}
