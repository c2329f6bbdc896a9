//! Changed counts are announced to other services: many in a message, and on request one a resource.

use std::collections::BTreeMap;
use std::time::Duration;

use async_nats::Subscriber;
use futures_util::StreamExt;
use serde_json::{Value, json};

use super::{LIKES, Publisher, event};
use crate::support::checks::pipeline_drains;
use crate::support::redis_and_nats::Stack;
use crate::support::service::Service;
use crate::support::{say, until_seen};

const USERS: i64 = 300;
const NOON: &str = "2026-01-02T12:00:00Z";

fn nothing_more(publisher: &Publisher, announced: &mut Subscriber) {
    let late = publisher.runtime.block_on(async {
        tokio::time::timeout(Duration::from_millis(300), announced.next()).await
    });
    assert!(late.is_err(), "more after the last value: {late:?}");
}

/// The revision and the like count.
fn count(body: &Value) -> (i64, i64) {
    let number = |field: &str| body[field].as_i64().expect("a number");
    (number("revision"), number("like_count"))
}

fn recorded(service: &Service, events: i64) {
    until_seen(
        "all events to be recorded",
        || service.database().count("user_behaviors"),
        |recorded| *recorded == events,
    );
    pipeline_drains(service);
}

#[test]
fn changed_counts_share_messages() {
    const VIDEOS: i64 = 20;
    let stack = Stack::start();
    let publisher = Publisher::of(&stack.nats);
    let service = stack.setup().start_as(&["serve", "--role", "worker"]);
    let mut announced = publisher.subscribe("likewise.counts.>");
    for user in 1..=USERS {
        publisher.publish(
            LIKES,
            event(user, 1 + user % VIDEOS, "like", NOON).to_string(),
        );
    }
    recorded(&service, USERS);
    let mut heard: BTreeMap<i64, Vec<(i64, i64)>> = BTreeMap::new();
    let mut messages = 0;
    let each = USERS / VIDEOS;
    while heard.len() < VIDEOS as usize
        || heard
            .values()
            .any(|counts| counts.last().is_none_or(|(_, count)| *count < each))
    {
        let (subject, body) = publisher.next(&mut announced);
        assert_eq!(subject, "likewise.counts.batch");
        let generation = service
            .database()
            .texts("SELECT generation FROM likewise_deployment");
        assert_eq!(body["generation"], json!(generation[0]));
        let id = service
            .database()
            .texts("SELECT id FROM likewise_deployment");
        assert_eq!(body["deployment"], json!(id[0]));
        messages += 1;
        for one in body["counts"].as_array().expect("counts") {
            assert_eq!(one["resource_type"], "video");
            let video = one["resource_id"].as_i64().expect("a number");
            heard.entry(video).or_default().push(count(one));
        }
    }
    nothing_more(&publisher, &mut announced);
    say(format_args!("{messages} messages for {USERS} likes"));
    for (video, counts) in heard {
        // A batch raises the revision by one, so that revisions stay unique.
        assert!(
            counts.is_sorted_by(|(earlier, _), (later, _)| earlier < later),
            "{video}: {counts:?}"
        );
    }
    service.stop();
}

#[test]
fn each_resource_has_a_subject_on_request() {
    let stack = Stack::start();
    let publisher = Publisher::of(&stack.nats);
    let service = stack
        .setup()
        .set("LIKEWISE_NATS_RESOURCE_COUNTS", true)
        .start_as(&["serve", "--role", "worker"]);
    let mut announced = publisher.subscribe("likewise.counts.video.*");
    for user in 1..=USERS {
        publisher.publish(LIKES, event(user, 1 + user % 2, "like", NOON).to_string());
    }
    recorded(&service, USERS);
    let mut heard: BTreeMap<String, Vec<(i64, i64)>> = BTreeMap::new();
    while heard.len() < 2
        || heard
            .values()
            .any(|counts| counts.last().is_none_or(|(_, count)| *count < USERS / 2))
    {
        let (subject, body) = publisher.next(&mut announced);
        assert_eq!(
            subject,
            format!("likewise.counts.video.{}", body["resource_id"])
        );
        heard.entry(subject).or_default().push(count(&body));
    }
    nothing_more(&publisher, &mut announced);
    for (subject, counts) in heard {
        assert!(
            counts.is_sorted_by(|(earlier, _), (later, _)| earlier < later),
            "{subject}: {counts:?}"
        );
    }
    service.stop();
}
