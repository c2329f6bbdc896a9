//! Takes events from JetStream, ours and other services', hands them to the behavior recorder, and acknowledges them
//! once they are committed.
//!
//! This file pulls; [`opened`] decodes, [`deliveries`] works on the events, [`fate`] says what happens to a message, and
//! [`quarantine`] keeps what is no event.

mod deliveries;
mod fate;
mod opened;
mod quarantine;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actor_kit::{Actor, Context, Mailbox, Schedule};
use async_nats::jetstream::consumer::PullConsumer;
use async_nats::jetstream::message::Message;
use futures_util::StreamExt;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::behavior_recorder::BehaviorRecorder;
use super::cache_writer::CacheWriter;
use crate::config::SubscriberOptions;
use crate::nats::{Broker, NatsError};
use crate::store::Store;
use crate::telemetry::{Dependency, DependencyFailed, PullStalled};
use deliveries::Rejections;
use opened::Work;

/// The time between two comparisons of the stream with the configuration, and before dead pulling resumes.
const INTERVAL: Duration = Duration::from_secs(1);

/// The limit of one pull in bytes, if the server accepts no larger message. It bounds the memory of the subscriber.
const BYTES: usize = 1 << 20;

/// The actor.
pub struct NatsSubscriber {
    broker: Arc<Broker>,
    recorder: Mailbox<BehaviorRecorder>,
    cache_writer: Mailbox<CacheWriter>,
    store: Arc<Store>,
    options: SubscriberOptions,
    lanes: Arc<Semaphore>,
    /// The number of messages in work.
    in_work: AtomicUsize,
    /// The number of messages that the consumer has not delivered yet.
    pending: AtomicU64,
    /// The events of a message in the last pull, on average.
    events_per_message: AtomicUsize,
    rejections: Rejections,
    /// The resource types that the log has reported as served by others only.
    unserved: Mutex<BTreeSet<String>>,
    context: Context<Self>,
}

impl Actor for NatsSubscriber {
    const NAME: &'static str = "nats_subscriber";

    fn details(&self) -> serde_json::Value {
        serde_json::json!({
            "connected": self.broker.is_connected(),
            "pulling": self.context.is_ticking(),
            "in_work": self.in_work.load(Ordering::Relaxed),
            "pending": self.pending.load(Ordering::Relaxed),
            "stream_differences": self.broker.differences(),
        })
    }

    fn schedule(&self) -> Option<Schedule> {
        Some(Schedule {
            every: INTERVAL,
            at_once: true,
        })
    }

    /// Pulls until the actor stops. The next tick resumes after a panic.
    async fn tick(self: Arc<Self>) {
        tokio::select! {
            () = self.pull_until_stopped() => {}
            () = self.compare_stream() => {}
        }
    }
}

impl NatsSubscriber {
    /// Returns a subscriber that hands events to this recorder, and reverts refused events through this cache
    /// writer.
    #[must_use]
    pub fn new(
        broker: Arc<Broker>,
        recorder: Mailbox<BehaviorRecorder>,
        cache_writer: Mailbox<CacheWriter>,
        store: Arc<Store>,
        options: SubscriberOptions,
        context: Context<Self>,
    ) -> Self {
        Self {
            broker,
            recorder,
            cache_writer,
            store,
            options,
            lanes: Arc::new(Semaphore::new(options.lanes)),
            in_work: AtomicUsize::new(0),
            pending: AtomicU64::new(0),
            // A backlog of full batches may wait.
            events_per_message: AtomicUsize::new(options.largest_batch),
            rejections: Rejections::default(),
            unserved: Mutex::default(),
            context,
        }
    }

    /// Compares the stream with the configuration while it is in order. Otherwise pulling does.
    async fn compare_stream(&self) {
        loop {
            tokio::time::sleep(INTERVAL).await;
            if self.broker.is_ready()
                && let Err(error) = self.broker.check_if_due().await
            {
                self.context.failed(&error);
            }
        }
    }

    async fn pull_until_stopped(self: &Arc<Self>) {
        let mut failures = 0;
        while !self.context.is_stopping() {
            // A process that starts without its database publishes, but has nothing to record into.
            if !self.broker.is_named() {
                tokio::time::sleep(self.options.pause).await;
                continue;
            }
            match self.pull().await {
                Ok(()) => failures = 0,
                Err(error) => {
                    // An outage is logged once.
                    if failures == 0 {
                        self.failed(Dependency::Broker, "pulling from the stream", &error);
                    }
                    failures += 1;
                    tokio::time::sleep(self.options.pause).await;
                }
            }
        }
    }

    /// Pulls with one handle on the consumer until something is wrong with it.
    async fn pull(self: &Arc<Self>) -> Result<(), NatsError> {
        // Checks the server as well, and creates the stream if this worker is the first.
        if !self.broker.is_ready()
            && let Err(error) = self.broker.check().await
        {
            // The check has logged it, once for each cause.
            self.context.failed(&error);
            // The stream is consumed even while its settings prevent publishing.
            if !matches!(error, NatsError::Misconfigured { .. }) {
                tokio::time::sleep(self.options.pause).await;
                return Ok(());
            }
        }
        let consumer = self.broker.consumer().await;
        // The stream may be gone. In a process that does not publish, only this actor notices.
        let consumer = consumer.inspect_err(|_| self.broker.suspect())?;
        // A new generation of the deployment has a consumer of its own.
        while !self.context.is_stopping() && self.broker.is_current(&consumer) {
            self.pull_once(&consumer).await?;
        }
        Ok(())
    }

    async fn pull_once(self: &Arc<Self>, consumer: &PullConsumer) -> Result<(), NatsError> {
        let unavailable = |error: &dyn std::fmt::Display| NatsError::Unavailable(error.to_string());
        let messages = consumer
            .batch()
            .max_messages(self.messages_per_pull())
            .max_bytes(self.broker.bytes_per_pull(BYTES))
            .expires(self.options.pull_for)
            .messages()
            .await
            .map_err(|error| unavailable(&error))?;
        let mut batches = messages.ready_chunks(self.options.largest_batch);
        let silence = self.options.pull_for + self.options.stalled_after;
        loop {
            let Ok(batch) = tokio::time::timeout(silence, batches.next()).await else {
                PullStalled { silent: silence }.emit();
                return Err(NatsError::Unavailable(format!(
                    "a pull was silent for {silence:?}"
                )));
            };
            let Some(batch) = batch else {
                return Ok(());
            };
            let (messages, errors): (Vec<_>, Vec<_>) = batch.into_iter().partition(Result::is_ok);
            let next = Instant::now() + self.options.pace;
            let events = self.take(messages.into_iter().flatten()).await;
            if events < self.options.largest_batch {
                tokio::time::sleep_until(next).await;
            }
            if let Some(Err(error)) = errors.into_iter().next() {
                return Err(unavailable(&error));
            }
        }
    }

    /// Returns how many messages to pull, so that they bring about as many events as a batch has. If the messages become
    /// larger meanwhile, the limit in bytes bounds the events.
    fn messages_per_pull(&self) -> usize {
        let events = self.events_per_message.load(Ordering::Relaxed);
        self.options.largest_batch.div_ceil(events.max(1))
    }

    /// Decodes messages, and works on them in parts of about as many events as a batch has, each as soon as a lane is free,
    /// beside the next pull. Returns the number of events.
    async fn take(self: &Arc<Self>, messages: impl Iterator<Item = Message>) -> usize {
        let mut work = Work::default();
        let (mut all, mut events) = (0, 0);
        for message in messages {
            let before = work.events.len();
            self.open(message, &mut work);
            all += 1;
            events += work.events.len() - before;
            if work.events.len() >= self.options.largest_batch {
                self.start(std::mem::take(&mut work)).await;
            }
        }
        if all > 0 {
            self.events_per_message
                .store(events.div_ceil(all), Ordering::Relaxed);
        }
        self.start(work).await;
        events
    }

    async fn start(self: &Arc<Self>, work: Work) {
        if work.messages.is_empty() {
            return;
        }
        let in_work = InWork::new(self, work.messages.len());
        let Ok(lane) = Arc::clone(&self.lanes).acquire_owned().await else {
            return;
        };
        let this = Arc::clone(self);
        self.context.spawn(async move {
            let (_lane, _in_work) = (lane, in_work);
            this.work(work).await;
        });
    }

    fn failed(&self, dependency: Dependency, doing: &'static str, error: &dyn std::fmt::Display) {
        self.context.failed(error);
        DependencyFailed {
            dependency,
            doing,
            error,
        }
        .emit();
    }
}

/// Messages in work, counted until this is dropped.
struct InWork(Arc<NatsSubscriber>, usize);

impl InWork {
    fn new(subscriber: &Arc<NatsSubscriber>, messages: usize) -> Self {
        subscriber.in_work.fetch_add(messages, Ordering::Relaxed);
        Self(Arc::clone(subscriber), messages)
    }
}

impl Drop for InWork {
    fn drop(&mut self) {
        self.0.in_work.fetch_sub(self.1, Ordering::Relaxed);
    }
}
