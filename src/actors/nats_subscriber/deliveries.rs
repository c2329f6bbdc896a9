//! The work on a batch of messages: decodes them, sends their events to the recorder, and acknowledges, quarantines or
//! redelivers each message.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::jetstream::message::{AckKind, Info, Message};
use futures_util::future::join_all;

use super::NatsSubscriber;
use crate::actors::cache_writer::revert;
use crate::domain::{BehaviorEvent, LedgerRow, Source, Version};
use crate::messages::{Forget, NotRecorded, Record};
use crate::nats::{Incoming, OverwriteLimit, StreamSwept, decode};
use crate::telemetry::{Dependency, MessagesTaken, OtherDeployment};

/// How much the server overwrites in each batch.
const OVERWRITES: OverwriteLimit = OverwriteLimit {
    messages: 64,
    time: Duration::from_millis(500),
};

impl NatsSubscriber {
    /// Decodes messages, and records the events in them.
    pub(super) async fn work(&self, messages: Vec<Message>) {
        let mut events = Vec::with_capacity(messages.len());
        let mut recordable = Vec::with_capacity(messages.len());
        let mut undecodable = Vec::new();
        let mut of_others = Vec::new();
        let mut redelivered = 0;
        let taken = messages.len();
        let (served, kinds) = (self.store.resource_types(), self.store.id_kinds());
        for message in messages {
            let Ok(info) = message.info() else {
                // A message without a reply subject was not delivered by a stream and needs no answer.
                continue;
            };
            redelivered += usize::from(info.delivered > 1);
            self.pending.store(info.pending, Ordering::Relaxed);
            if self.broker.is_of_another_deployment(&message) {
                of_others.push(message);
                continue;
            }
            let incoming = Incoming {
                subject: message.subject.as_str(),
                body: &message.payload,
                sequence: info.stream_sequence,
            };
            match decode(&incoming, self.latest_clock(&info), served, kinds) {
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
        if !of_others.is_empty() {
            OtherDeployment {
                messages: of_others.len(),
            }
            .emit();
            self.acknowledge(of_others).await;
        }
        if !undecodable.is_empty() {
            self.quarantine(undecodable).await;
        }
        if !events.is_empty() {
            self.record(events, recordable, redelivered > 0).await;
        }
    }

    /// Records events, and handles each message by the recorder's answer. A recorded event is acknowledged. An event
    /// that can never be stored, or was rejected too often, goes into quarantine. Any other is redelivered later.
    async fn record(&self, events: Vec<BehaviorEvent>, messages: Vec<Message>, redelivered: bool) {
        let reverts: Vec<Option<Forget>> = events.iter().map(revert_of).collect();
        let record = Record {
            events,
            redelivered,
        };
        let failures = match self.ask(record).await {
            Ok(failures) if failures.is_empty() => return self.acknowledge(messages).await,
            Ok(failures) => failures,
            // The outcome is unknown. Recording the events again has no effect.
            Err(NoAnswer) => return self.redeliver(messages).await,
        };
        let mut failures = failures.into_iter().peekable();
        let (mut recorded, mut refused, mut later) = (Vec::new(), Vec::new(), Vec::new());
        let (mut without_effect, mut erased) = (Vec::new(), Vec::new());
        for (place, (message, revert)) in messages.into_iter().zip(reverts).enumerate() {
            let Some((_, failure)) = failures.next_if(|(failed, _)| *failed == place) else {
                recorded.push(message);
                continue;
            };
            let is_final = match failure {
                NotRecorded::Erased(_) => {
                    erased.push(message);
                    without_effect.extend(revert);
                    continue;
                }
                NotRecorded::Refused(_) | NotRecorded::Conflict => true,
                NotRecorded::Rejected(_) => {
                    self.rejections.add(&message) > self.options.max_retries
                }
                NotRecorded::Unavailable(_) => false,
            };
            if is_final {
                refused.push((message, failure.to_string()));
                without_effect.extend(revert);
            } else {
                later.push(message);
            }
        }
        self.acknowledge(recorded).await;
        self.quarantine(refused).await;
        revert(&self.cache_writer, without_effect).await;
        self.erase(erased).await;
        self.redeliver(later).await;
    }

    /// Erases messages of erased users and resources from the stream, and then acknowledges them. The server overwrites
    /// the first of a batch, and only deletes the others, so that a flood of them does not delay live events.
    pub(super) async fn erase(&self, messages: Vec<Message>) {
        if messages.is_empty() {
            return;
        }
        let sequences = messages.iter().flat_map(Message::info);
        let sequences = sequences.map(|info| info.stream_sequence).collect();
        let (stream, mut swept) = (self.broker.stream_name(), StreamSwept::default());
        let erasing = self
            .broker
            .erase_messages(stream, sequences, OVERWRITES, &mut swept);
        match erasing.await {
            Ok(()) => self.acknowledge(messages).await,
            Err(error) => {
                self.failed(Dependency::Broker, "erasing messages", &error);
                self.redeliver(messages).await;
            }
        }
    }

    /// Sends events to the recorder. Returns the failures by position.
    async fn ask(&self, record: Record) -> Result<Vec<(usize, NotRecorded)>, NoAnswer> {
        let answer = self.recorder.ask_or_wait(record).await;
        answer.map_err(|_| NoAnswer)?.await.map_err(|_| NoAnswer)
    }

    /// Acknowledges messages, and waits for the server's confirmation. A lost acknowledgement costs a redelivery, which
    /// the ledger recognises.
    pub(super) async fn acknowledge(&self, messages: Vec<Message>) {
        self.rejections.forget(&messages);
        let acknowledged = join_all(messages.iter().map(Message::double_ack)).await;
        self.context.progress(
            acknowledged
                .iter()
                .filter(|outcome| outcome.is_ok())
                .count(),
        );
        if let Some(Err(error)) = acknowledged.into_iter().find(Result::is_err) {
            self.failed(Dependency::Broker, "acknowledging messages", &error);
        }
    }

    /// Asks for later redelivery, and pauses, so that an outage does not redeliver the whole backlog in a loop.
    pub(super) async fn redeliver(&self, messages: Vec<Message>) {
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

    /// Returns the time that a foreign event's time is compared with: the database's, or the NATS server's when it
    /// stored the message, whichever is later. A slow clock alone then refuses no event.
    fn latest_clock(&self, info: &Info<'_>) -> Version {
        let stored = info.published.unix_timestamp_nanos() / 1_000;
        Version::at(self.store.now()).max(Version(i64::try_from(stored).unwrap_or(0)))
    }
}

/// The recorder panicked or has stopped.
struct NoAnswer;

/// Returns the message that reverts an event in the cache. Only our own likes are in the cache before they are
/// recorded: foreign ones enter it when they are synced.
fn revert_of(event: &BehaviorEvent) -> Option<Forget> {
    let row = LedgerRow::born(event, 0).filter(|_| event.source == Source::Api)?;
    Some(Forget::from(&row))
}

/// The number of rejections by the database, for each message that is still in the stream. The server's count of
/// deliveries does not serve: it grows with every outage. The consumer's limit of unacknowledged messages bounds this.
#[derive(Debug, Default)]
pub(super) struct Rejections(Mutex<HashMap<u64, u32>>);

impl Rejections {
    /// Counts one more rejection, and returns their number.
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
