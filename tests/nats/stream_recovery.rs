//! The stream and its consumer, and their loss.

use std::fs;
use std::time::{Duration, Instant};

use async_nats::jetstream::consumer::{AckPolicy, PullConsumer};
use async_nats::jetstream::stream::{DiscardPolicy, RetentionPolicy, StorageType};

use super::{LIKES, Publisher, STREAM, SUBJECTS, event};
use crate::support::checks::{everything_holds, pipeline_drains};
use crate::support::redis_and_nats::Stack;
use crate::support::service::Service;
use crate::support::{PATIENCE, until, until_equal, until_seen};

/// The shortest wait before the redelivery of a message that could not be recorded.
const REDELIVERY: Duration = Duration::from_millis(500);

#[test]
fn stream_and_consumer_have_the_required_settings() {
    let stack = Stack::start();
    let service = stack
        .setup()
        .set("LIKEWISE_NATS_MAX_AGE_SECONDS", 3_600)
        .set("LIKEWISE_NATS_MAX_BYTES", 50_000_000)
        .start();
    service.client().like(1, 1);
    pipeline_drains(&service);
    let publisher = Publisher::of(&stack.nats);
    publisher.runtime.block_on(async {
        let mut stream = publisher
            .stream
            .get_stream(STREAM)
            .await
            .expect("the stream");
        let config = stream.info().await.expect("an answer").config.clone();
        assert_eq!(config.subjects, SUBJECTS);
        assert_eq!(config.retention, RetentionPolicy::Limits);
        assert_eq!(config.storage, StorageType::File);
        assert_eq!(config.discard, DiscardPolicy::New);
        assert_eq!(config.max_age.as_secs(), 3_600);
        assert_eq!(config.max_bytes, 50_000_000);
        assert_eq!(config.duplicate_window.as_secs(), 120);
        assert_eq!(config.num_replicas, 1);
        let mut consumer: PullConsumer = stream
            .get_consumer(&service.setup().consumer())
            .await
            .expect("the consumer");
        let info = consumer.info().await.expect("an answer");
        assert_eq!(info.config.ack_policy, AckPolicy::Explicit);
        assert_eq!(info.config.max_deliver, -1);
        assert_eq!(info.config.filter_subjects, SUBJECTS);
        assert_eq!(info.config.ack_wait.as_secs(), 30);
        assert_eq!(info.config.max_ack_pending, 20_000);
    });
    // The message is acknowledged only after the commit.
    until_equal("everything to be acknowledged", (0, 0), || {
        publisher.runtime.block_on(async {
            let consumer: Result<PullConsumer, _> = publisher
                .stream
                .get_consumer_from_stream(service.setup().consumer(), STREAM)
                .await;
            let info = consumer.expect("the consumer").cached_info().clone();
            (info.num_pending, info.num_ack_pending)
        })
    });
    service.stop();
}

/// Without a delay, an outage of the database would redeliver the whole backlog in a loop.
#[test]
fn unrecordable_event_is_redelivered_after_a_delay() {
    const DELIVERIES: u64 = 5;
    let stack = Stack::start();
    let service = stack.setup().start_as(&["serve", "--role", "worker"]);
    let publisher = Publisher::of(&stack.nats);
    let delivered = || {
        let info = publisher.runtime.block_on(async {
            let consumer: Result<PullConsumer, _> = publisher
                .stream
                .get_consumer_from_stream(service.setup().consumer(), STREAM)
                .await;
            consumer.map(|consumer| consumer.cached_info().delivered.consumer_sequence)
        });
        info.unwrap_or_default()
    };
    let database = service.database();
    database.execute(&["ALTER TABLE user_behaviors RENAME TO gone"]);
    let published = Instant::now();
    publisher.publish(
        LIKES,
        event(1, 1, "like", "2026-01-02T12:00:00Z").to_string(),
    );
    until_seen("it to be delivered some times", delivered, |times| {
        *times >= DELIVERIES
    });
    let taken = published.elapsed();
    assert!(taken > REDELIVERY * (DELIVERIES as u32 - 1), "{taken:?}");
    database.execute(&["ALTER TABLE gone RENAME TO user_behaviors"]);
    behaviors(&service, 1);
    service.stop();
}

#[test]
fn likes_continue_without_the_stream_until_it_is_recreated() {
    let stack = Stack::start();
    let service = stack.setup().start();
    let publisher = Publisher::of(&stack.nats);
    assert_eq!(service.client().like(1, 1).durability, "broker");
    pipeline_drains(&service);
    let like = || {
        delete_stream(&publisher);
        let like = service.client().like(2, 1);
        if like.durability == "broker" {
            // The service has created the stream again already. It is deleted once more without this like.
            pipeline_drains(&service);
        }
        like.durability
    };
    until_seen("a like without the stream", like, |durability| {
        durability == "database"
    });
    recovers(&service, &publisher);
}

#[test]
fn worker_recreates_a_deleted_stream() {
    let stack = Stack::start();
    let service = stack.setup().start_as(&["serve", "--role", "worker"]);
    let publisher = Publisher::of(&stack.nats);
    publisher.publish(
        LIKES,
        event(1, 1, "like", "2026-01-02T12:00:00Z").to_string(),
    );
    behaviors(&service, 1);
    delete_stream(&publisher);
    until("the stream to be back", PATIENCE, || {
        let found = publisher
            .runtime
            .block_on(publisher.stream.get_stream(STREAM));
        found.map(drop)
    });
    publisher.publish(
        LIKES,
        event(2, 1, "like", "2026-01-02T12:00:00Z").to_string(),
    );
    behaviors(&service, 2);
    service.stop();
}

#[test]
fn nats_that_returns_empty_is_set_up_again() {
    let mut stack = Stack::start();
    let service = stack.setup().start();
    assert_eq!(service.client().like(1, 1).durability, "broker");
    pipeline_drains(&service);
    stack.nats.kill();
    assert_eq!(service.client().like(2, 1).durability, "database");
    fs::remove_dir_all(stack.nats.data()).expect("its data goes");
    fs::create_dir(stack.nats.data()).expect("a folder");
    stack.nats.run();
    let publisher = Publisher::of(&stack.nats);
    recovers(&service, &publisher);
}

fn delete_stream(publisher: &Publisher) {
    let deleted = publisher
        .runtime
        .block_on(publisher.stream.delete_stream(STREAM));
    assert!(deleted.expect("an answer").success);
}

#[track_caller]
fn behaviors(service: &Service, count: i64) {
    service.database().until_count("user_behaviors", count);
}

/// Checks that our own and foreign likes pass through the stream again.
#[track_caller]
fn recovers(service: &Service, publisher: &Publisher) {
    let client = service.client();
    until_seen(
        "likes to go through the stream again",
        || client.like(3, 1),
        |like| like.durability == "broker",
    );
    publisher.publish(
        LIKES,
        event(4, 1, "like", "2026-01-02T12:00:00Z").to_string(),
    );
    until_seen(
        "the foreign like to show",
        || client.read(4, 1),
        |read| read.liked,
    );
    everything_holds(service);
    assert_eq!(client.read(1, 1).like_count, Some(4));
}
