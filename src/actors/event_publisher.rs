//! Publishes accepted events to JetStream, many acknowledgements in flight at once, and answers each
//! once it is acknowledged.

use std::sync::Arc;

use actix::{AsyncContext, Context, Handler};
use futures_util::future::join_all;

use super::kit::{ActorStats, Batcher, Envelope, spawn_batch, spawn_work, supervise_batching};
use crate::config::PublisherOptions;
use crate::messages::{NotPublished, Publish};
use crate::nats::{Broker, NatsError, publish_error};
use crate::telemetry::BatchPublished;

/// The actor.
pub struct EventPublisher {
    publishing: Publishing,
    batcher: Batcher<Envelope<Publish>>,
    options: PublisherOptions,
}

impl EventPublisher {
    /// Its name in the registry.
    pub const NAME: &'static str = "event_publisher";

    /// A publisher to this broker.
    #[must_use]
    pub fn new(broker: Arc<Broker>, options: PublisherOptions, stats: Arc<ActorStats>) -> Self {
        let watched = Arc::downgrade(&broker);
        stats.set_details(move || {
            let broker = watched.upgrade();
            serde_json::json!({
                "connected": broker.as_ref().is_some_and(|broker| broker.is_connected()),
                "ready": broker.as_ref().is_some_and(|broker| broker.is_ready()),
                "stream_differences": broker.as_ref().map(|broker| broker.differences()),
            })
        });
        Self {
            publishing: Publishing { broker, stats },
            batcher: Batcher::new(options.largest_batch, options.lanes),
            options,
        }
    }

    fn schedule(&mut self, context: &mut Context<Self>) {
        context.run_interval(self.options.check_every, |actor, _| {
            let publishing = actor.publishing.clone();
            let stats = Arc::clone(&actor.publishing.stats);
            spawn_work(stats, async move { publishing.check().await });
        });
    }

    fn flush(&mut self, context: &mut Context<Self>) {
        while let Some((batch, lane)) = self.batcher.next_batch() {
            let publishing = self.publishing.clone();
            spawn_batch(context, &self.publishing.stats, lane, async move {
                publishing.publish(batch).await;
            });
        }
    }
}

supervise_batching!(EventPublisher, started: schedule);

impl Handler<Envelope<Publish>> for EventPublisher {
    type Result = ();

    fn handle(&mut self, envelope: Envelope<Publish>, context: &mut Self::Context) {
        self.batcher.push(envelope);
        self.flush(context);
    }
}

/// What the publisher does with a batch, without actix.
#[derive(Clone)]
struct Publishing {
    broker: Arc<Broker>,
    stats: Arc<ActorStats>,
}

impl Publishing {
    async fn publish(&self, batch: Vec<Envelope<Publish>>) {
        let mut acknowledged = Vec::with_capacity(batch.len());
        for envelope in &batch {
            acknowledged.push(self.send(envelope).await);
        }
        let outcomes = join_all(acknowledged.into_iter().map(async |sent| {
            let acknowledgement = sent?.await;
            acknowledgement
                .map(drop)
                .map_err(|error| publish_error(&error))
        }));
        let mut published = 0;
        let mut failed = None;
        for (envelope, outcome) in batch.into_iter().zip(outcomes.await) {
            envelope.reply.send(match outcome {
                Ok(()) => {
                    published += 1;
                    Ok(())
                }
                Err(error) => {
                    let answer = Err(NotPublished(error.to_string()));
                    failed = Some(error);
                    answer
                }
            });
        }
        self.stats.progress(published);
        BatchPublished { events: published }.emit();
        if published > 0 {
            self.broker.publish_succeeded();
        }
        if let Some(error) = failed
            && self.broker.publish_failed(&error)
        {
            self.stats.failed(&error);
        }
    }

    /// Sends without waiting for the acknowledgement; at once refused while the broker is not in order,
    /// so that nobody waits for a time-out that is bound to come.
    async fn send(
        &self,
        envelope: &Envelope<Publish>,
    ) -> Result<async_nats::jetstream::context::PublishAckFuture, NatsError> {
        if !self.broker.is_ready() {
            return Err(NatsError::Unavailable(
                "not connected, or not in order".into(),
            ));
        }
        self.broker.publish(&envelope.body.event).await
    }

    /// Checks the stream when that is due. The broker logs what it finds.
    async fn check(&self) {
        if let Err(error) = self.broker.check_if_due().await {
            self.stats.failed(&error);
        }
    }
}
