//! Events of other services on a real NATS, and the stream.

mod acknowledged_events;
mod announced_counts;
mod batches;
mod foreign_events;
mod full_storage;
mod permissions;
mod process_reports;
mod roles;
mod server_version;
mod stream_apply;
mod stream_recovery;
mod stream_settings;

use async_nats::jetstream::{self, Context};
use async_nats::{Client, HeaderMap, Subscriber};
use futures_util::StreamExt;
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use uuid::Uuid;

use crate::support::PATIENCE;
use crate::support::servers::Server;
use crate::support::service::{Ran, Setup};

/// A plain client: another service.
pub struct Publisher {
    runtime: Runtime,
    client: Client,
    stream: Context,
}

impl Publisher {
    pub fn of(nats: &Server) -> Self {
        Self::at(&nats.url())
    }

    #[track_caller]
    pub fn at(url: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let client = runtime
            .block_on(async_nats::connect(url))
            .expect("a connection");
        let stream = {
            let _entered = runtime.enter();
            jetstream::new(client.clone())
        };
        Self {
            runtime,
            client,
            stream,
        }
    }

    /// Subscribes; what is published from now on arrives.
    #[track_caller]
    pub fn subscribe(&self, subject: &'static str) -> Subscriber {
        self.runtime.block_on(async {
            let subscribed = self.client.subscribe(subject).await;
            // The server answers only after it knows of the subscription.
            let inbox = self.client.new_inbox();
            let echo = self.client.subscribe(inbox.clone()).await;
            let mut echo = echo.expect("a subscription");
            let sent = self.client.publish(inbox, "".into()).await;
            sent.expect("it is sent");
            let echoed = tokio::time::timeout(PATIENCE, echo.next()).await;
            echoed.expect("in time").expect("an echo");
            subscribed.expect("a subscription")
        })
    }

    /// Waits for the next message of a subscription. Returns its subject and its body.
    #[track_caller]
    pub fn next(&self, subscribed: &mut Subscriber) -> (String, Value) {
        let message = self.runtime.block_on(async {
            let message = tokio::time::timeout(PATIENCE, subscribed.next()).await;
            message.expect("in time").expect("a message")
        });
        let body = serde_json::from_slice(&message.payload).expect("JSON");
        (message.subject.to_string(), body)
    }

    /// Publishes, and waits for the stream's acknowledgement.
    #[track_caller]
    pub fn publish(&self, subject: &str, body: impl Into<Vec<u8>>) {
        self.publish_as(&Uuid::now_v7().to_string(), subject, body);
    }

    /// As [`publish`](Self::publish), with this message id.
    #[track_caller]
    pub fn publish_as(&self, message_id: &str, subject: &str, body: impl Into<Vec<u8>>) {
        self.publish_with(&[("Nats-Msg-Id", message_id)], subject, body);
    }

    /// As [`publish`](Self::publish), with these headers.
    #[track_caller]
    pub fn publish_with(&self, named: &[(&str, &str)], subject: &str, body: impl Into<Vec<u8>>) {
        let mut headers = HeaderMap::new();
        for (name, value) in named {
            headers.append(*name, *value);
        }
        let body: Vec<u8> = body.into();
        let published = self.runtime.block_on(async {
            self.stream
                .publish_with_headers(subject.to_owned(), headers, body.into())
                .await
                .expect("it is sent")
                .await
        });
        published.expect("an acknowledgement");
    }

    /// Asks JetStream's API, and returns its answer, which must not be an error.
    #[track_caller]
    fn ask(&self, path: String, request: &Value) -> Value {
        let answer = self.runtime.block_on(async {
            let asked: Result<Value, _> = self.stream.request(path, request).await;
            asked.expect("an answer")
        });
        assert_eq!(answer.get("error"), None, "{answer:#}");
        answer
    }

    /// Returns all settings of a consumer, in the server's form.
    #[track_caller]
    fn consumer_settings(&self, consumer: &str) -> Value {
        let path = format!("CONSUMER.INFO.{STREAM}.{consumer}");
        self.ask(path, &json!({}))["config"].clone()
    }

    /// Replaces all settings of a consumer.
    #[track_caller]
    fn write_consumer(&self, consumer: &str, settings: &Value) {
        let path = format!("CONSUMER.CREATE.{STREAM}.{consumer}");
        let request = json!({"stream_name": STREAM, "config": settings, "action": "update"});
        self.ask(path, &request);
    }
}

/// Runs `likewise stream apply`.
#[track_caller]
fn apply(setup: &Setup, flags: &[&str]) -> Ran {
    setup.run(&[&["stream", "apply"], flags].concat())
}

/// An event as another service sends it.
pub fn event(user: i64, video: i64, behavior: &str, at: &str) -> Value {
    json!({
        "event_id": Uuid::now_v7(),
        "user_id": user,
        "resource_type": "video",
        "resource_id": video,
        "behavior": behavior,
        "occurred_at": at,
        "source": "feed",
    })
}

/// The name of the stream.
const STREAM: &str = "LIKEWISE";

pub const LIKES: &str = "likewise.behaviors.video.like";

/// The subjects of acknowledged events.
const ACCEPTED: &str = "likewise.accepted.video.like";

/// The subjects of the stream, and the consumer's filter.
const SUBJECTS: [&str; 2] = ["likewise.accepted.>", "likewise.behaviors.>"];
