//! Takes events from JetStream, ours and other services', hands them to the behavior recorder, and
//! acknowledges them once they are committed. What is no event goes into quarantine.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use actix::{Actor, AsyncContext, Context, Handler, Supervised};
use async_nats::header::NATS_MESSAGE_ID;
use async_nats::jetstream::consumer::PullConsumer;
use async_nats::jetstream::message::{AckKind, Message};
use chrono::Utc;
use futures_util::StreamExt;
use futures_util::future::join_all;
use tokio::sync::Semaphore;

use super::behavior_recorder::BehaviorRecorder;
use super::cache_writer::{CacheWriter, revert};
use super::kit::{ActorStats, InjectPanic, Mailbox, Turn, spawn_work};
use crate::config::SubscriberOptions;
use crate::domain::{BehaviorEvent, LedgerRow, Origin, Source, Version};
use crate::messages::{NotRecorded, Record};
use crate::nats::{Broker, Incoming, NatsError, decode};
use crate::store::{QuarantinedEvent, Store};
use crate::telemetry::{
    Dependency, DependencyFailed, EventsQuarantined, MessagesTaken, PullStalled,
};

/// Why an event is quarantined whose id belongs to another one.
const ID_USED_BEFORE: &str =
    "its event id belongs to another event, which was recorded first and stands";

/// The actor.
pub struct NatsSubscriber {
    subscription: Arc<Subscription>,
}

impl NatsSubscriber {
    /// Its name in the registry.
    pub const NAME: &'static str = "nats_subscriber";

    /// A subscriber that hands on to this recorder, and takes events that are refused back through this
    /// cache writer.
    #[must_use]
    pub fn new(
        broker: Arc<Broker>,
        recorder: Mailbox<BehaviorRecorder>,
        cache_writer: Mailbox<CacheWriter>,
        store: Arc<Store>,
        options: SubscriberOptions,
        stats: Arc<ActorStats>,
    ) -> Self {
        let subscription = Arc::new(Subscription {
            broker,
            recorder,
            cache_writer,
            store,
            options,
            stats,
            lanes: Semaphore::new(options.lanes),
            pulling: Turn::default(),
            stopped: AtomicBool::new(false),
            in_work: AtomicUsize::new(0),
            pending: AtomicU64::new(0),
            rejections: Rejections::default(),
        });
        let watched = Arc::downgrade(&subscription);
        subscription.stats.set_details(move || {
            watched.upgrade().map_or_else(
                || serde_json::json!({}),
                |subscription| {
                    serde_json::json!({
                        "connected": subscription.broker.is_connected(),
                        "pulling": subscription.pulling.is_taken(),
                        "in_work": subscription.in_work.load(Ordering::Relaxed),
                        "pending": subscription.pending.load(Ordering::Relaxed),
                        "stream_differences": subscription.broker.differences(),
                    })
                },
            )
        });
        Self { subscription }
    }

    /// Begins to pull, unless it is already under way: at the start, and again should it have died.
    fn keep_pulling(&self) {
        let subscription = Arc::clone(&self.subscription);
        if subscription.stopped.load(Ordering::Relaxed) {
            return;
        }
        let Some(turn) = subscription.pulling.take() else {
            return;
        };
        spawn_work(Arc::clone(&self.subscription.stats), async move {
            let _turn = turn;
            subscription.pull_until_stopped().await;
        });
    }
}

impl NatsSubscriber {
    /// Compares the stream with the configuration while it is in order; otherwise pulling does.
    fn compare_stream(&self) {
        let subscription = Arc::clone(&self.subscription);
        if !subscription.broker.is_ready() {
            return;
        }
        spawn_work(Arc::clone(&self.subscription.stats), async move {
            if let Err(error) = subscription.broker.check_if_due().await {
                subscription.stats.failed(&error);
            }
        });
    }
}

impl Actor for NatsSubscriber {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        self.keep_pulling();
        context.run_interval(Duration::from_secs(1), |actor, _| {
            actor.keep_pulling();
            actor.compare_stream();
        });
    }
}

impl Supervised for NatsSubscriber {}

impl Handler<InjectPanic> for NatsSubscriber {
    type Result = ();

    fn handle(&mut self, _: InjectPanic, _: &mut Self::Context) {
        panic!("provoked by fault injection");
    }
}

/// Ends the pulling; answers once what was taken is done. Sent at shutdown.
#[derive(Debug)]
pub struct StopPulling;

impl actix::Message for StopPulling {
    type Result = ();
}

impl Handler<StopPulling> for NatsSubscriber {
    type Result = actix::ResponseFuture<()>;

    fn handle(&mut self, _: StopPulling, _: &mut Self::Context) -> Self::Result {
        let subscription = Arc::clone(&self.subscription);
        subscription.stopped.store(true, Ordering::Relaxed);
        Box::pin(async move {
            while subscription.pulling.is_taken()
                || subscription.in_work.load(Ordering::Relaxed) > 0
            {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
    }
}

/// Messages in work, counted until this is dropped.
struct InWork(Arc<Subscription>, usize);

impl InWork {
    fn new(subscription: &Arc<Subscription>, messages: usize) -> Self {
        subscription.in_work.fetch_add(messages, Ordering::Relaxed);
        Self(Arc::clone(subscription), messages)
    }
}

impl Drop for InWork {
    fn drop(&mut self) {
        self.0.in_work.fetch_sub(self.1, Ordering::Relaxed);
    }
}

/// What the subscriber does, without actix.
struct Subscription {
    broker: Arc<Broker>,
    recorder: Mailbox<BehaviorRecorder>,
    cache_writer: Mailbox<CacheWriter>,
    store: Arc<Store>,
    options: SubscriberOptions,
    stats: Arc<ActorStats>,
    lanes: Semaphore,
    pulling: Turn,
    stopped: AtomicBool,
    in_work: AtomicUsize,
    pending: AtomicU64,
    rejections: Rejections,
}

/// How often the database has rejected messages that are still in the stream. The server's count of deliveries does
/// not tell: it grows with every outage. As many messages are remembered as may be unacknowledged.
#[derive(Debug, Default)]
struct Rejections(Mutex<HashMap<u64, u32>>);

impl Rejections {
    /// Counts one more; answers how many there are.
    fn add(&self, message: &Message) -> u32 {
        let Ok(info) = message.info() else {
            return 0;
        };
        let mut counts = self.lock();
        let count = counts.entry(info.stream_sequence).or_default();
        *count = count.saturating_add(1);
        *count
    }

    /// Forgets messages that leave the stream.
    fn forget(&self, messages: &[Message]) {
        let mut counts = self.lock();
        if counts.is_empty() {
            return;
        }
        for info in messages.iter().flat_map(Message::info) {
            counts.remove(&info.stream_sequence);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, u32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Subscription {
    async fn pull_until_stopped(self: &Arc<Self>) {
        let mut failures = 0;
        while !self.stopped.load(Ordering::Relaxed) {
            match self.pull().await {
                Ok(()) => failures = 0,
                Err(error) => {
                    // Once per outage: an outage is one piece of news.
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
        // Checks the server as well, and creates the stream if this worker is the first to come.
        if !self.broker.is_ready()
            && let Err(error) = self.broker.check().await
        {
            // The check has logged it, once for each cause.
            self.stats.failed(&error);
            // What the stream holds is taken even while its settings keep likes from being published.
            if !matches!(error, NatsError::Misconfigured { .. }) {
                tokio::time::sleep(self.options.pause).await;
                return Ok(());
            }
        }
        let consumer = self.broker.consumer().await;
        // The stream may be gone; where nobody publishes, nobody else would notice.
        let consumer = consumer.inspect_err(|_| self.broker.suspect())?;
        while !self.stopped.load(Ordering::Relaxed) {
            self.pull_once(&consumer).await?;
        }
        Ok(())
    }

    async fn pull_once(self: &Arc<Self>, consumer: &PullConsumer) -> Result<(), NatsError> {
        let unavailable = |error: &dyn std::fmt::Display| NatsError::Unavailable(error.to_string());
        let messages = consumer
            .batch()
            .max_messages(self.options.largest_batch)
            .max_bytes(self.broker.bytes_per_pull())
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
            let messages: Vec<Message> = messages.into_iter().flatten().collect();
            if !messages.is_empty() {
                self.take(messages).await;
            }
            if let Some(Err(error)) = errors.into_iter().next() {
                return Err(unavailable(&error));
            }
        }
    }

    /// Works on a batch as soon as a lane is free, beside the next pull.
    async fn take(self: &Arc<Self>, messages: Vec<Message>) {
        let in_work = InWork::new(self, messages.len());
        let this = Arc::clone(self);
        let Ok(lane) = self.lanes.acquire().await else {
            return;
        };
        lane.forget();
        spawn_work(Arc::clone(&self.stats), async move {
            let _lane = ReturnLane(&this.lanes);
            let _in_work = in_work;
            this.work(messages).await;
        });
    }

    async fn work(&self, messages: Vec<Message>) {
        let mut events = Vec::with_capacity(messages.len());
        let mut recordable = Vec::with_capacity(messages.len());
        let mut undecodable = Vec::new();
        let mut redelivered = 0;
        let taken = messages.len();
        for message in messages {
            let Ok(info) = message.info() else {
                // Without the reply subject it is no delivery of a stream, and nobody awaits an answer.
                continue;
            };
            redelivered += usize::from(info.delivered > 1);
            self.pending.store(info.pending, Ordering::Relaxed);
            let incoming = Incoming {
                subject: message.subject.as_str(),
                body: &message.payload,
                sequence: info.stream_sequence,
            };
            match decode(&incoming, self.latest_clock(&info)) {
                Ok(event) => {
                    events.push(event);
                    recordable.push(message);
                }
                Err(reason) => undecodable.push((message, reason.to_string())),
            }
        }
        MessagesTaken {
            messages: taken,
            redelivered,
        }
        .emit();
        if !undecodable.is_empty() {
            self.quarantine(undecodable).await;
        }
        if !events.is_empty() {
            self.record(events, recordable).await;
        }
    }

    /// Records a batch. If the database takes none of it because of one of its events, each goes alone. One that
    /// can never be stored goes into quarantine, as does one that was rejected too often.
    async fn record(&self, events: Vec<BehaviorEvent>, messages: Vec<Message>) {
        match self.ask(events.clone()).await {
            Ok(conflicts) if conflicts.is_empty() => self.acknowledge(messages).await,
            Ok(conflicts) => self.part(events, messages, &conflicts).await,
            Err(NotRecorded::Unavailable(_)) => self.redeliver(messages).await,
            Err(NotRecorded::Refused(_) | NotRecorded::Rejected(_)) => {
                let (mut recorded, mut refused, mut later) = (Vec::new(), Vec::new(), Vec::new());
                let mut without_effect = Vec::new();
                for (event, message) in events.into_iter().zip(messages) {
                    // One of ours is in the cache, as on its way.
                    let row = LedgerRow::born(&event, 0);
                    match self.ask(vec![event]).await {
                        Ok(conflicts) if conflicts.is_empty() => recorded.push(message),
                        Ok(_) => {
                            refused.push((message, ID_USED_BEFORE.to_owned()));
                            without_effect.extend(row);
                        }
                        Err(NotRecorded::Refused(reason)) => {
                            refused.push((message, reason));
                            without_effect.extend(row);
                        }
                        Err(NotRecorded::Rejected(reason)) => {
                            if self.rejections.add(&message) > self.options.max_retries {
                                refused.push((message, reason));
                                without_effect.extend(row);
                            } else {
                                later.push(message);
                            }
                        }
                        Err(NotRecorded::Unavailable(_)) => later.push(message),
                    }
                }
                self.acknowledge(recorded).await;
                self.quarantine(refused).await;
                revert(&self.cache_writer, &without_effect).await;
                self.redeliver(later).await;
            }
        }
    }

    /// Acknowledges what was recorded, and quarantines the events whose id was used before.
    async fn part(&self, events: Vec<BehaviorEvent>, messages: Vec<Message>, conflicts: &[usize]) {
        let (mut recorded, mut refused) = (Vec::new(), Vec::new());
        let mut without_effect = Vec::new();
        for (place, (event, message)) in events.into_iter().zip(messages).enumerate() {
            if conflicts.contains(&place) {
                refused.push((message, ID_USED_BEFORE.to_owned()));
                // One of ours is in the cache, as on its way.
                let is_ours = event.source == Source::Api;
                without_effect.extend(LedgerRow::born(&event, 0).filter(|_| is_ours));
            } else {
                recorded.push(message);
            }
        }
        self.acknowledge(recorded).await;
        self.quarantine(refused).await;
        revert(&self.cache_writer, &without_effect).await;
    }

    async fn ask(&self, events: Vec<BehaviorEvent>) -> Result<Vec<usize>, NotRecorded> {
        let unavailable = |error: String| Err(NotRecorded::Unavailable(error));
        match self.recorder.ask_or_wait(Record { events }).await {
            Ok(answer) => answer
                .await
                .unwrap_or_else(|closed| unavailable(closed.to_string())),
            Err(refused) => unavailable(refused.to_string()),
        }
    }

    /// Acknowledges, and waits for the server to say that it has heard. An acknowledgement that is lost
    /// costs a redelivery, which the ledger recognises.
    async fn acknowledge(&self, messages: Vec<Message>) {
        self.rejections.forget(&messages);
        let acknowledged = join_all(messages.iter().map(Message::double_ack)).await;
        self.stats.progress(
            acknowledged
                .iter()
                .filter(|outcome| outcome.is_ok())
                .count(),
        );
        if let Some(Err(error)) = acknowledged.into_iter().find(Result::is_err) {
            self.failed(Dependency::Broker, "acknowledging messages", &error);
        }
    }

    /// Asks for later redelivery, and pauses, so that an outage does not turn the whole backlog round.
    async fn redeliver(&self, messages: Vec<Message>) {
        if messages.is_empty() {
            return;
        }
        let outcomes = join_all(messages.iter().map(async |message| {
            let delivered = message.info().map_or(1, |info| info.delivered);
            let attempts = u32::try_from(delivered).unwrap_or(1);
            let wait = self
                .options
                .redeliver
                .draw(attempts)
                .max(self.options.pause);
            message.ack_with(AckKind::Nak(Some(wait))).await
        }))
        .await;
        if let Some(Err(error)) = outcomes.into_iter().find(Result::is_err) {
            self.failed(Dependency::Broker, "asking for redelivery", &error);
        }
        tokio::time::sleep(self.options.pause).await;
    }

    /// Keeps messages in quarantine, a few at a time: each may be as large as the server takes.
    async fn quarantine(&self, mut messages: Vec<(Message, String)>) {
        const AT_ONCE: usize = 16;
        while !messages.is_empty() {
            let later = messages.split_off(messages.len().min(AT_ONCE));
            self.quarantine_some(messages).await;
            messages = later;
        }
    }

    async fn quarantine_some(&self, messages: Vec<(Message, String)>) {
        let events: Vec<_> = messages
            .iter()
            .filter_map(|(message, reason)| self.quarantined(message, reason))
            .collect();
        let Some(first) = events.first() else {
            return;
        };
        let kept = self.store.quarantine(&events).await;
        if kept.is_ok() {
            let is_accepted =
                |event: &&QuarantinedEvent| Origin::of(&event.subject) == Origin::Accepted;
            EventsQuarantined {
                events: events.len(),
                accepted: events.iter().filter(is_accepted).count(),
                reason: &first.reason,
            }
            .emit();
        }
        let messages = messages.into_iter().map(|(message, _)| message).collect();
        match kept {
            Ok(()) => self.acknowledge(messages).await,
            Err(error) => {
                self.failed(
                    Dependency::Database,
                    "keeping messages in quarantine",
                    &error,
                );
                self.redeliver(messages).await;
            }
        }
    }

    fn quarantined(&self, message: &Message, reason: &str) -> Option<QuarantinedEvent> {
        let info = message.info().ok()?;
        let message_id = message
            .headers
            .as_ref()
            .and_then(|headers| headers.get(NATS_MESSAGE_ID));
        Some(QuarantinedEvent {
            id: self.broker.message_identity(&info),
            stream_sequence: i64::try_from(info.stream_sequence).unwrap_or(i64::MAX),
            subject: fitting(message.subject.as_str()),
            message_id: message_id.map(|id| fitting(id.as_str())),
            reason: fitting(reason),
            payload: message.payload.to_vec(),
            created_at: Utc::now(),
        })
    }

    /// The clock that a foreign event's time is judged by: the later of the database's and the NATS server's when
    /// it stored the message, so that neither alone can refuse an event for being behind.
    fn latest_clock(&self, info: &async_nats::jetstream::message::Info<'_>) -> Version {
        let stored = info.published.unix_timestamp_nanos() / 1_000;
        Version::at(self.store.now()).max(Version(i64::try_from(stored).unwrap_or(0)))
    }

    fn failed(&self, dependency: Dependency, doing: &'static str, error: &dyn std::fmt::Display) {
        self.stats.failed(&error);
        DependencyFailed {
            dependency,
            doing,
            error,
        }
        .emit();
    }
}

/// The start of a text, as much as a column takes, and without what a database does not.
fn fitting(text: &str) -> String {
    text.chars().filter(|c| *c != '\0').take(1_000).collect()
}

struct ReturnLane<'a>(&'a Semaphore);

impl Drop for ReturnLane<'_> {
    fn drop(&mut self) {
        self.0.add_permits(1);
    }
}
