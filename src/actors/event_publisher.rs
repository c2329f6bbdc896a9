//! Publishes accepted events to JetStream, many acknowledgements in flight at once, and answers each
//! once it is acknowledged.

use std::sync::Arc;
use std::time::Duration;

use actix::{AsyncContext, Context, Handler};
use futures_util::future::join_all;

use super::kit::{Batcher, Parcel, Vitals, spawn_batch, spawn_work, supervise_batching};
use crate::messages::{NotPublished, Publish};
use crate::nats::{Broker, NatsError, publish_error};
use crate::telemetry::BatchPublished;

/// How the event publisher works.
#[derive(Debug, Clone, Copy)]
pub struct PublisherOptions {
    /// The most events published before the first acknowledgement is awaited.
    pub largest_batch: usize,
    /// How many such batches may be in flight.
    pub lanes: usize,
    /// How often a stream that is not in order is checked again.
    pub check_every: Duration,
}

/// The actor.
pub struct EventPublisher {
    publishing: Publishing,
    batcher: Batcher<Parcel<Publish>>,
    options: PublisherOptions,
}

impl EventPublisher {
    /// Its name in the registry.
    pub const NAME: &'static str = "event_publisher";

    /// A publisher to this broker.
    #[must_use]
    pub fn new(broker: Arc<Broker>, options: PublisherOptions, vitals: Arc<Vitals>) -> Self {
        let watched = Arc::downgrade(&broker);
        vitals.set_details(move || {
            let broker = watched.upgrade();
            serde_json::json!({
                "connected": broker.as_ref().is_some_and(|broker| broker.is_connected()),
                "ready": broker.as_ref().is_some_and(|broker| broker.is_ready()),
                "stream_differences": broker.as_ref().map(|broker| broker.differences()),
            })
        });
        Self {
            publishing: Publishing { broker, vitals },
            batcher: Batcher::new(options.largest_batch, options.lanes),
            options,
        }
    }

    fn schedule(&mut self, context: &mut Context<Self>) {
        context.run_interval(self.options.check_every, |actor, _| {
            let publishing = actor.publishing.clone();
            let vitals = Arc::clone(&actor.publishing.vitals);
            spawn_work(vitals, async move { publishing.check().await });
        });
    }

    fn flush(&mut self, context: &mut Context<Self>) {
        while let Some((batch, lane)) = self.batcher.next_batch() {
            let publishing = self.publishing.clone();
            spawn_batch(context, &self.publishing.vitals, lane, async move {
                publishing.publish(batch).await;
            });
        }
    }
}

supervise_batching!(EventPublisher, started: schedule);

impl Handler<Parcel<Publish>> for EventPublisher {
    type Result = ();

    fn handle(&mut self, parcel: Parcel<Publish>, context: &mut Self::Context) {
        self.batcher.push(parcel);
        self.flush(context);
    }
}

/// What the publisher does with a batch, without actix.
#[derive(Clone)]
struct Publishing {
    broker: Arc<Broker>,
    vitals: Arc<Vitals>,
}

impl Publishing {
    async fn publish(&self, batch: Vec<Parcel<Publish>>) {
        let mut acknowledged = Vec::with_capacity(batch.len());
        for parcel in &batch {
            acknowledged.push(self.send(parcel).await);
        }
        let outcomes = join_all(acknowledged.into_iter().map(async |sent| {
            let acknowledgement = sent?.await;
            acknowledgement
                .map(drop)
                .map_err(|error| publish_error(&error))
        }));
        let mut published = 0;
        let mut failed = None;
        for (parcel, outcome) in batch.into_iter().zip(outcomes.await) {
            parcel.reply.send(match outcome {
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
        self.vitals.progress(published);
        BatchPublished { events: published }.emit();
        if published > 0 {
            self.broker.publish_succeeded();
        }
        if let Some(error) = failed
            && self.broker.publish_failed(&error)
        {
            self.vitals.failed(&error);
        }
    }

    /// Sends without waiting for the acknowledgement; at once refused while the broker is not in order,
    /// so that nobody waits for a time-out that is bound to come.
    async fn send(
        &self,
        parcel: &Parcel<Publish>,
    ) -> Result<async_nats::jetstream::context::PublishAckFuture, NatsError> {
        if !self.broker.is_ready() {
            return Err(NatsError::Unavailable(
                "not connected, or not in order".into(),
            ));
        }
        self.broker.publish(&parcel.body.event).await
    }

    /// Checks the stream when that is due. The broker logs what it finds.
    async fn check(&self) {
        if let Err(error) = self.broker.check_if_due().await {
            self.vitals.failed(&error);
        }
    }
}
