//! Publishes accepted events to JetStream. Events that wait at the same time share a message (group commit). Answers each
//! sender when the message of its event is acknowledged.

use std::sync::Arc;

use actor_kit::{Actor, BatchActor, BatchLimits, Context, Envelope, Schedule};
use async_nats::jetstream::context::PublishAckFuture;
use futures_util::future::join_all;

use crate::config::PublisherOptions;
use crate::messages::{NotPublished, Publish};
use crate::nats::{Broker, NatsError, Packed, pack, publish_error};
use crate::telemetry::BatchPublished;

/// The actor.
pub struct EventPublisher {
    broker: Arc<Broker>,
    options: PublisherOptions,
    context: Context<Self>,
}

impl Actor for EventPublisher {
    const NAME: &'static str = "event_publisher";

    fn details(&self) -> serde_json::Value {
        serde_json::json!({
            "connected": self.broker.is_connected(),
            "ready": self.broker.is_ready(),
            "stream_differences": self.broker.differences(),
        })
    }

    fn schedule(&self) -> Option<Schedule> {
        Some(Schedule {
            every: self.options.check_every,
            at_once: false,
        })
    }

    /// Checks the stream if a check is due. The broker logs the result.
    async fn tick(self: Arc<Self>) {
        if let Err(error) = self.broker.check_if_due().await {
            self.context.failed(&error);
        }
    }
}

impl BatchActor<Publish> for EventPublisher {
    type Item = Envelope<Publish>;

    fn limits(&self) -> BatchLimits {
        BatchLimits {
            largest: self.options.largest_batch,
            lanes: self.options.lanes,
            spare_lanes: self.options.spare_lanes,
        }
    }

    async fn run(self: Arc<Self>, batch: Vec<Envelope<Publish>>) {
        let events: Vec<_> = batch.iter().map(|envelope| &envelope.body.event).collect();
        let messages = pack(&events, self.broker.largest_batch());
        let mut sent = Vec::with_capacity(messages.len());
        for message in &messages {
            sent.push(self.send(message).await);
        }
        let outcomes = join_all(sent.into_iter().map(async |sent| {
            let acknowledgement = sent?.await;
            acknowledgement
                .map(drop)
                .map_err(|error| publish_error(&error))
        }));
        let mut published = BatchPublished::default();
        let mut failed = None;
        let mut envelopes = batch.into_iter();
        for (message, outcome) in messages.iter().zip(outcomes.await) {
            let answer = match outcome {
                Ok(()) => {
                    published.events += message.events;
                    published.messages += 1;
                    Ok(())
                }
                Err(error) => {
                    let answer = Err(NotPublished(error.to_string()));
                    failed = Some(error);
                    answer
                }
            };
            for envelope in envelopes.by_ref().take(message.events) {
                envelope.reply.send(answer.clone());
            }
        }
        self.context.progress(published.events);
        if published.events > 0 {
            self.broker.publish_succeeded();
        }
        published.emit();
        if let Some(error) = failed
            && self.broker.publish_failed(&error)
        {
            self.context.failed(&error);
        }
    }
}

impl EventPublisher {
    /// Returns a publisher to this broker.
    #[must_use]
    pub const fn new(
        broker: Arc<Broker>,
        options: PublisherOptions,
        context: Context<Self>,
    ) -> Self {
        Self {
            broker,
            options,
            context,
        }
    }

    /// Sends a message without waiting for the acknowledgement. Fails at once while the broker is not in order, so that no
    /// sender waits for a certain time-out.
    async fn send(&self, message: &Packed) -> Result<PublishAckFuture, NatsError> {
        if !self.broker.is_ready() {
            return Err(NatsError::Unavailable(
                "not connected, or not in order".into(),
            ));
        }
        self.broker.publish(message).await
    }
}
