//! The stream's settings: a starting process reports differences and changes nothing, and an operator changes them
//! without losing acknowledged likes.

use std::collections::BTreeSet;
use std::thread::ScopedJoinHandle;

use async_nats::jetstream::consumer::{AckPolicy, PullConsumer, pull};
use async_nats::jetstream::stream::{Config, DiscardPolicy, Info};
use chrono::{TimeDelta, Utc};
use insta::assert_json_snapshot;
use serde_json::{Value, json};

use super::{LIKES, Publisher, STREAM, SUBJECTS, apply, event};
use crate::support::checks::{pipeline_drains, stored_once};
use crate::support::clock::Clock;
use crate::support::redis_and_nats::Stack;
use crate::support::service::{Service, Setup};
use crate::support::{until_equal, until_seen};

const AGE: &str = "LIKEWISE_NATS_MAX_AGE_SECONDS";

#[track_caller]
fn info(publisher: &Publisher) -> Info {
    publisher.runtime.block_on(async {
        let stream = publisher.stream.get_stream(STREAM).await;
        stream.expect("the stream").cached_info().clone()
    })
}

fn api(setup: Setup) -> Service {
    setup.start_as(&["serve", "--role", "api"])
}

fn worker(setup: Setup) -> Service {
    setup.start_as(&["serve", "--role", "worker"])
}

fn broker(service: &Service) -> Value {
    service.client().get("/readyz").json()["parts"]["broker"].clone()
}

/// Sends likes until one passes through the stream. Returns the event ids of all of them.
#[track_caller]
fn published_again(service: &Service, user: i64) -> Vec<String> {
    let mut ids = Vec::new();
    let like = || {
        let accepted = service.client().like(user, 1);
        ids.push(accepted.event_id.clone());
        accepted.durability
    };
    until_seen("likes to go through the stream", like, |durability| {
        durability == "broker"
    });
    ids
}

#[test]
fn shorter_max_age_deletes_nothing() {
    let stack = Stack::start();
    let first = api(stack.setup());
    let ids: Vec<_> = (1..=5)
        .map(|user| first.client().like(user, 1).event_id)
        .collect();
    let publisher = Publisher::of(&stack.nats);
    let before = info(&publisher);

    let second = api(first.setup().beside().set(AGE, 1));
    // Long enough for the server to delete messages with an age of a second.
    let age = || Utc::now().timestamp() - before.state.last_timestamp.unix_timestamp();
    until_seen("the likes to be older than the other age", age, |age| {
        *age > 3
    });
    let after = info(&publisher);
    assert_eq!(after.state.messages, 5);
    assert_eq!(after.config, before.config);

    let sentence = "stream max_age_seconds is 604800, configured is 1";
    let report = broker(&second);
    assert_eq!(report["state"], "up");
    let details = second.client().actor("event_publisher").details;
    for said in [&report["warnings"][0], &details["stream_differences"]] {
        assert!(said.to_string().contains(sentence), "{said:#}");
    }
    assert_eq!(
        second.log().matches(sentence).count(),
        1,
        "{}",
        second.log()
    );
    assert_eq!(broker(&first).get("warnings"), None);
    let shown = second.client().get("/admin/stream").json();
    assert_eq!(shown["state"], "differs");
    assert_eq!(shown["holds"]["unacknowledged"], 5);
    let settings = shown["settings"].as_array().expect("settings").iter();
    let differing: Vec<_> = settings
        .filter(|one| !one["difference"].is_null())
        .collect();
    assert_json_snapshot!(differing, @r#"
    [
      {
        "configured": 1,
        "current": 604800,
        "difference": "warning",
        "name": "max_age_seconds",
        "owner": "stream"
      },
      {
        "configured": 1,
        "current": 120,
        "difference": "warning",
        "name": "duplicate_window_seconds",
        "owner": "stream"
      }
    ]
    "#);
    let metric = "likewise_stream_differences{severity=\"warning\"} 2";
    assert!(second.client().get("/metrics").text.contains(metric));

    let worker = worker(stack.setup().on(first.database()));
    first
        .database()
        .until_count("sync_events WHERE status = 'completed'", 5);
    stored_once(first.database(), ids.iter().map(String::as_str));
    worker.setup().verify(30).holds();
}

#[test]
fn apply_refuses_to_lose_unacknowledged_events() {
    const MIB: i64 = 1 << 20;
    let stack = Stack::start();
    let first = api(stack.setup());
    first.client().like(1, 1);
    let publisher = Publisher::of(&stack.nats);
    // Large foreign messages that are no events.
    for _ in 0..2 {
        publisher.publish(LIKES, vec![b' '; 900 << 10]);
    }
    let before = info(&publisher);
    let age = "max_age_seconds: the oldest of 3 unacknowledged messages is";
    let bytes = "max_bytes: the stream holds 18";
    for (setting, value, reason) in [(AGE, 1, age), ("LIKEWISE_NATS_MAX_BYTES", MIB, bytes)] {
        let setup = first.setup().beside().set(setting, value);
        for flags in [&[][..], &["--dry-run"]] {
            let refused = apply(&setup, flags);
            assert_ne!(refused.code, Some(0), "{refused:?}");
            refused.prints(reason);
            let said = &refused.stdout;
            assert!(said.ends_with("nothing was changed\n"), "{said}");
        }
        assert_eq!(info(&publisher).config, before.config);
    }

    // An age that leaves time for the messages is applied, after a dry run.
    let hour = first.setup().beside().set(AGE, 3_600);
    let tried = apply(&hour, &["--dry-run"]);
    tried
        .exits(0)
        .prints("stream max_age_seconds: 604800 -> 3600");
    assert_eq!(info(&publisher).config, before.config);
    let applied = apply(&hour, &[]);
    applied.exits(0);
    let after = info(&publisher);
    assert_eq!(after.config.max_age.as_secs(), 3_600);
    assert_eq!(after.state.messages, 3);
    let again = apply(&hour, &[]);
    again.prints("every setting is as configured");
    // The running process notices the change.
    until_seen(
        "the other process to say what differs",
        || broker(&first),
        |report| {
            let said = report["warnings"][0].to_string();
            said.contains("max_age_seconds is 3600, configured is 604800")
        },
    );
}

#[test]
fn apply_measures_ages_by_the_servers_clock() {
    let stack = Stack::start();
    let first = api(stack.setup());
    // It is seconds old, by the clock of the server.
    assert_eq!(first.client().like(1, 1).durability, "broker");
    let publisher = Publisher::of(&stack.nats);
    let before = info(&publisher).config;
    let clock = Clock::new();
    let with_age = |seconds: u64| {
        let setup = first.setup().beside().with_clock(&clock);
        setup.set(AGE, seconds)
    };
    clock.set(TimeDelta::minutes(-10));
    let refused = apply(&with_age(30), &[]);
    refused
        .exits(1)
        .prints("max_age_seconds: the oldest of 1 unacknowledged messages is");
    assert_eq!(info(&publisher).config, before);
    let shown = with_age(30).run(&["stream", "show"]);
    assert!(!shown.stdout.contains("the oldest -"), "{shown:?}");
    clock.set(TimeDelta::minutes(10));
    let tried = apply(&with_age(300), &["--dry-run"]);
    tried
        .exits(0)
        .prints("stream max_age_seconds: 604800 -> 300");
}

#[test]
fn show_prints_actual_and_required_settings() {
    let stack = Stack::start();
    let setup = stack.setup();
    let absent = setup.run(&["stream", "show"]);
    absent
        .exits(0)
        .prints("is absent")
        .reports("the consumer is left out");
    setup.run(&["migrate"]).exits(0);
    let created = apply(&setup, &[]);
    created.exits(0);
    let other = setup.beside().set(AGE, 60);
    let shown = other.run(&["stream", "show"]);
    let mut lines = shown.stdout.lines();
    let row = lines.find(|line| line.contains("max_age_seconds"));
    let cells = row.expect("a row").split(['│', '┆']).map(str::trim);
    let cells: Vec<_> = cells.filter(|cell| !cell.is_empty()).collect();
    assert_eq!(
        cells,
        ["stream", "max_age_seconds", "60", "604800", "warning"]
    );
    let shown = other.run(&["stream", "show", "--json"]);
    let shown: Value = serde_json::from_str(&shown.stdout).expect("JSON");
    assert_eq!(shown["state"], "differs");
    let without = Setup::new().run(&["stream", "show"]);
    assert_ne!(without.code, Some(0), "{without:?}");
    without.reports("LIKEWISE_NATS_URL");
}

#[test]
fn concurrent_starts_create_one_stream() {
    let stack = Stack::start();
    // Even if the configuration differs.
    let services: Vec<_> = std::thread::scope(|scope| {
        let setup = |n| stack.setup().set(AGE, 1_000 + n % 2);
        let start = |setup: Setup| scope.spawn(|| setup.start());
        let starts: Vec<_> = (0..4).map(setup).map(start).collect();
        let join = |start: ScopedJoinHandle<'_, _>| start.join().expect("it starts");
        starts.into_iter().map(join).collect()
    });
    for (user, service) in (1..).zip(&services) {
        assert_eq!(service.client().like(user, 1).durability, "broker");
        assert_eq!(broker(service)["state"], "up");
    }
    let state =
        |service: &Service| service.client().get("/admin/stream").json()["state"].to_string();
    let ages: BTreeSet<_> = services.iter().map(state).collect();
    assert_eq!(ages.len(), 2, "one half differs: {ages:?}");
}

/// A stream from before acknowledged events had subjects of their own, with one message.
fn old_stream(publisher: &Publisher, consumer: String) {
    publisher.runtime.block_on(async {
        let config = Config {
            name: STREAM.to_owned(),
            subjects: vec!["likewise.behaviors.>".to_owned()],
            discard: DiscardPolicy::New,
            ..Config::default()
        };
        let stream = publisher.stream.create_stream(config).await;
        let stream = stream.expect("a stream");
        let consumer = stream.create_consumer(pull::Config {
            durable_name: Some(consumer),
            ack_policy: AckPolicy::Explicit,
            filter_subject: "likewise.behaviors.>".to_owned(),
            ..pull::Config::default()
        });
        consumer.await.expect("a consumer");
    });
    let like = event(70, 1, "like", "2026-01-02T12:00:00Z");
    publisher.publish(LIKES, like.to_string());
}

#[test]
fn stream_without_accepted_subjects_sends_likes_to_database() {
    let stack = Stack::start();
    let publisher = Publisher::of(&stack.nats);
    let setup = stack.setup();
    setup.run(&["migrate"]).exits(0);
    old_stream(&publisher, setup.consumer());
    let before = info(&publisher);
    let service = setup.start();
    let client = service.client();
    let accepted = client.like(1, 1);
    assert_eq!(accepted.durability, "database");
    let mut ids = vec![accepted.event_id];
    let report = broker(&service);
    assert_eq!(report["state"], "down");
    let error = report["error"].as_str().expect("an error");
    assert!(error.contains("likewise stream apply"), "{error}");
    assert!(error.contains("likewise.accepted.>"), "{error}");
    // Other services' messages are still consumed.
    until_seen(
        "the foreign like to show",
        || client.read(70, 1),
        |read| read.liked,
    );
    // Several checks give one log line.
    let errors = || client.actor("event_publisher").errors;
    until_seen("some checks", errors, |errors| *errors >= 4);
    let logged = service.logged("cannot carry acknowledged likes");
    assert_eq!(logged.len(), 1, "{logged:?}");
    assert_eq!(info(&publisher).config, before.config, "nothing is changed");

    let applied = apply(service.setup(), &[]);
    applied.exits(0);
    assert_eq!(info(&publisher).config.subjects, SUBJECTS);
    ids.extend(published_again(&service, 2));
    service.until_logged("checking the stream succeeds again");
    pipeline_drains(&service);
    stored_once(service.database(), ids.iter().map(String::as_str));
    service.stop().verify(30).holds();
}

#[test]
fn transform_of_accepted_subjects_sends_likes_to_database() {
    let stack = Stack::start();
    let service = stack.setup().start();
    let client = service.client();
    let mut ids = vec![client.like(1, 1).event_id];
    pipeline_drains(&service);
    let publisher = Publisher::of(&stack.nats);
    let path = |verb: &str| format!("STREAM.{verb}.{STREAM}");
    let mut settings = publisher.ask(path("INFO"), &json!({}))["config"].clone();
    settings["subject_transform"] = json!({"src": "likewise.accepted.>", "dest": "moved.>"});
    publisher.ask(path("UPDATE"), &settings);
    let state = || broker(&service)["state"].clone();
    until_equal("the state of the broker", json!("down"), state);
    let error = broker(&service)["error"].to_string();
    assert!(error.contains("likewise.accepted.> to moved.>"), "{error}");
    let shown = client.get("/admin/stream").json();
    assert_eq!(shown["state"], "misconfigured");
    let like = client.like(2, 1);
    assert_eq!(like.durability, "database");
    ids.push(like.event_id);

    let applied = apply(service.setup(), &[]);
    applied.exits(0);
    ids.extend(published_again(&service, 3));
    pipeline_drains(&service);
    stored_once(service.database(), ids.iter().map(String::as_str));
    service.stop().verify(30).holds();
}

#[test]
fn paused_consumer_is_a_warning_until_it_resumes() {
    let stack = Stack::start();
    let service = stack.setup().start();
    let client = service.client();
    client.like(1, 1);
    pipeline_drains(&service);
    let publisher = Publisher::of(&stack.nats);
    let pause = format!("CONSUMER.PAUSE.{STREAM}.{}", service.setup().consumer());
    let until = Utc::now() + TimeDelta::hours(1);
    publisher.ask(pause.clone(), &json!({"pause_until": until}));
    let like = client.like(2, 1);
    assert_eq!(like.durability, "broker");
    let warnings = || broker(&service)["warnings"].to_string();
    let pauses = |warnings: &String| warnings.contains("consumer pause_until is");
    let warned = until_seen("a warning", warnings, pauses);
    let second = until.format("%Y-%m-%dT%H:%M:%S").to_string();
    assert!(warned.contains(&second), "{warned}");
    assert_eq!(broker(&service)["state"], "up");
    let shown = client.get("/admin/stream").json();
    assert_eq!(shown["state"], "differs");
    let refused = apply(service.setup(), &[]);
    assert_ne!(refused.code, Some(0), "{refused:?}");
    refused.prints("the consumer is paused until");

    publisher.ask(pause, &json!({}));
    pipeline_drains(&service);
    stored_once(service.database(), [like.event_id.as_str()]);
    until_equal("the warnings", Value::Null, || {
        broker(&service)["warnings"].clone()
    });
    service.stop().verify(30).holds();
}

#[test]
fn apply_redelivers_messages_a_wrong_filter_skipped() {
    let stack = Stack::start();
    let service = stack.setup().start();
    let client = service.client();
    assert_eq!(client.like(1, 1).durability, "broker");
    pipeline_drains(&service);
    let publisher = Publisher::of(&stack.nats);
    let consumer = || {
        publisher.runtime.block_on(async {
            let consumer: Result<PullConsumer, _> = publisher
                .stream
                .get_consumer_from_stream(service.setup().consumer(), STREAM)
                .await;
            consumer.expect("the consumer")
        })
    };
    // The service writes all settings of the consumer back when it notes a heartbeat there, once a minute.
    until_equal("a heartbeat at the consumer", true, || {
        let info = consumer().cached_info().clone();
        info.config.metadata.contains_key("likewise_beat")
    });
    // An operator narrows the filter while likes arrive.
    let ack_wait = consumer().cached_info().config.ack_wait;
    publisher.runtime.block_on(async {
        let config = pull::Config {
            durable_name: Some(service.setup().consumer()),
            filter_subject: "likewise.behaviors.>".to_owned(),
            filter_subjects: Vec::new(),
            ack_policy: AckPolicy::Explicit,
            ack_wait,
            max_deliver: -1,
            max_ack_pending: 20_000,
            ..pull::Config::default()
        };
        let updated = publisher.stream.update_consumer_on_stream(config, STREAM);
        updated.await.expect("an update");
    });
    let mut ids: Vec<_> = (2..=4).map(|user| client.like(user, 1).event_id).collect();
    let like = event(70, 1, "like", "2026-01-02T12:00:00Z");
    publisher.publish(LIKES, like.to_string());
    until_seen(
        "the foreign like to be taken",
        || client.read(70, 1),
        |read| read.liked,
    );
    let verified = service.setup().run(&["verify", "--wait", "1"]);
    assert_ne!(verified.code, Some(0), "{verified:?}");
    verified.reports("likewise.accepted.>");
    let like = || {
        let accepted = client.like(5, 1);
        ids.push(accepted.event_id);
        accepted.durability
    };
    until_seen("likes to go to the database instead", like, |durability| {
        durability == "database"
    });

    let tried = apply(service.setup(), &["--dry-run"]);
    tried.prints("redelivers from message 1");
    let applied = apply(service.setup(), &[]);
    applied.exits(0);
    ids.extend(published_again(&service, 6));
    pipeline_drains(&service);
    stored_once(service.database(), ids.iter().map(String::as_str));
    service.stop().verify(30).holds();
}
