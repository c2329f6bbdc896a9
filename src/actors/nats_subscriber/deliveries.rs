//! The work on messages: sends their events to the recorder, and acknowledges, quarantines, erases or redelivers each
//! message. A message is acknowledged when each of its events is recorded, in quarantine, erased or published again.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::jetstream::message::AckKind;
use futures_util::future::join_all;

use super::NatsSubscriber;
use super::fate::{Delivered, Fate};
use super::opened::Work;
use super::quarantine::Refused;
use crate::actors::cache_writer::revert;
use crate::domain::{BehaviorEvent, LedgerRow, ResourceTypes, Source};
use crate::messages::{Forget, NotRecorded, Record};
use crate::nats::{OverwriteLimit, StreamSwept};
use crate::telemetry::{Dependency, EventsUnserved, MessagesTaken, OtherDeployment};

/// How much the server overwrites in each batch.
const OVERWRITES: OverwriteLimit = OverwriteLimit {
    messages: 64,
    time: Duration::from_millis(500),
};

impl NatsSubscriber {
    /// Records the events of messages, and handles each message by the outcomes of its events. A recorded event is done. An
    /// event that can never be stored, or was rejected too often, goes into quarantine. A message with any other, or with one
    /// that only other processes serve, is redelivered later, and the events that were recorded are recognised then.
    pub(super) async fn work(&self, work: Work) {
        MessagesTaken {
            messages: work.messages.len(),
            redelivered: work.redelivered,
        }
        .emit();
        if work.of_others > 0 {
            OtherDeployment {
                messages: work.of_others,
            }
            .emit();
        }
        self.report_unserved(&work.unserved);
        let Work {
            mut messages,
            events,
            places,
            mut refused,
            redelivered,
            ..
        } = work;
        let failures = self.record(&events, redelivered > 0).await;
        let mut without_effect = Vec::new();
        for (index, failure) in failures {
            let (event, place) = (&events[index], places[index]);
            let message = &mut messages[place.message];
            let is_final = match failure {
                NotRecorded::Erased(_) => {
                    message.erased.push(place.event);
                    without_effect.extend(revert_of(event));
                    continue;
                }
                NotRecorded::Refused(_) | NotRecorded::Conflict => true,
                NotRecorded::Rejected(_) => {
                    let rejections = self.rejections.add(message.sequence, place.event);
                    rejections > self.options.max_retries
                }
                NotRecorded::Unavailable(_) => false,
            };
            if is_final {
                refused.push(Refused::event(place, event, failure.to_string()));
                without_effect.extend(revert_of(event));
            } else {
                message.is_for_later = true;
            }
        }
        for one in &refused {
            messages[one.place.message].is_refused = true;
        }
        let is_done = |one: &&Delivered| one.fate() == Fate::Done;
        let recorded = messages.iter().filter(|one| !one.is_refused);
        self.acknowledge(recorded.filter(is_done).collect()).await;
        self.quarantine(refused, &mut messages).await;
        revert(&self.cache_writer, without_effect).await;
        let kept = messages.iter().filter(|one| one.is_refused);
        self.acknowledge(kept.filter(is_done).collect()).await;
        let all_of = |fate| messages.iter().filter(move |one| one.fate() == fate);
        self.erase(all_of(Fate::Erased).collect()).await;
        // Without a pause: the other events of the stream can be recorded meanwhile.
        self.postpone(&all_of(Fate::Others).collect::<Vec<_>>())
            .await;
        self.redeliver(all_of(Fate::Later).collect()).await;
    }

    /// Erases the events of erased users and resources from the stream, and then acknowledges their messages. What else is in
    /// them is published again, so it does not matter whether it is recorded. The server overwrites the first messages of a batch, and only deletes the others, so that a flood of them does not delay live
    /// events.
    async fn erase(&self, messages: Vec<&Delivered>) {
        if messages.is_empty() {
            return;
        }
        let erasable = messages.iter().map(|one| {
            let is_erased = |place, _: &_| one.erased.contains(&Some(place));
            self.broker.erasable(&one.message, one.sequence, is_erased)
        });
        let (stream, mut swept) = (self.broker.stream_name(), StreamSwept::default());
        let erasing =
            self.broker
                .erase_messages(stream, erasable.collect(), OVERWRITES, &mut swept);
        match erasing.await {
            Ok(()) => self.acknowledge(messages).await,
            Err(error) => {
                self.failed(Dependency::Broker, "erasing messages", &error);
                self.redeliver(messages).await;
            }
        }
    }

    /// Sends events to the recorder, in parts that it has room for. Returns the failures by position. If the recorder does not
    /// answer, the outcome is unknown, and recording the events again has no effect.
    async fn record(
        &self,
        events: &[BehaviorEvent],
        redelivered: bool,
    ) -> Vec<(usize, NotRecorded)> {
        let mut asked = Vec::new();
        for part in events.chunks(self.options.largest_batch) {
            let record = Record {
                events: part.to_vec(),
                redelivered,
                asks_effect: false,
            };
            asked.push(self.recorder.ask_or_wait(record).await);
        }
        let mut failures = Vec::new();
        for (number, answer) in asked.into_iter().enumerate() {
            let first = number * self.options.largest_batch;
            let answer = match answer {
                Ok(answer) => answer.await.ok(),
                Err(_) => None,
            };
            match answer {
                Some(answer) => {
                    let of_part = answer.failures.into_iter();
                    failures.extend(of_part.map(|(place, failure)| (first + place, failure)));
                }
                None => {
                    let last = events.len().min(first + self.options.largest_batch);
                    let unknown = || NotRecorded::Unavailable("the recorder did not answer".into());
                    failures.extend((first..last).map(|place| (place, unknown())));
                }
            }
        }
        failures
    }

    /// Acknowledges messages, and waits for the server's confirmation. A lost acknowledgement costs a redelivery, which
    /// the ledger recognises.
    async fn acknowledge(&self, messages: Vec<&Delivered>) {
        if messages.is_empty() {
            return;
        }
        self.rejections.forget(&messages);
        let acknowledging = messages
            .iter()
            .map(|one| self.broker.acknowledge(&one.message));
        let acknowledged = join_all(acknowledging).await;
        let done = messages.iter().zip(&acknowledged);
        let done = done.filter(|(_, outcome)| outcome.is_ok());
        self.context
            .progress(done.map(|(one, _)| one.events.max(1)).sum());
        if let Some(Err(error)) = acknowledged.into_iter().find(Result::is_err) {
            self.failed(Dependency::Broker, "acknowledging messages", &error);
        }
    }

    /// Reports resource types that this process does not serve, each once.
    fn report_unserved(&self, resource_types: &BTreeSet<String>) {
        let mut reported = self.unserved.lock().unwrap_or_else(PoisonError::into_inner);
        for resource_type in resource_types {
            // Whoever may publish there could name any number of them.
            if reported.len() < ResourceTypes::MOST && reported.insert(resource_type.clone()) {
                EventsUnserved { resource_type }.emit();
            }
        }
    }

    /// Asks for later redelivery, and pauses, so that an outage does not redeliver the whole backlog in a loop.
    async fn redeliver(&self, messages: Vec<&Delivered>) {
        if messages.is_empty() {
            return;
        }
        self.postpone(&messages).await;
        tokio::time::sleep(self.options.pause).await;
    }

    /// Asks for later redelivery. The consumer does not limit the number of deliveries.
    async fn postpone(&self, messages: &[&Delivered]) {
        let outcomes = join_all(messages.iter().map(async |one| {
            let attempts = u32::try_from(one.delivered).unwrap_or(1);
            let wait = self
                .options
                .redeliver
                .draw(attempts)
                .max(self.options.pause);
            one.message.ack_with(AckKind::Nak(Some(wait))).await
        }))
        .await;
        if let Some(Err(error)) = outcomes.into_iter().find(Result::is_err) {
            self.failed(Dependency::Broker, "asking for redelivery", &error);
        }
    }
}

/// Returns the message that reverts an event in the cache. Only our own likes are in the cache before they are
/// recorded: foreign ones enter it when they are synced.
fn revert_of(event: &BehaviorEvent) -> Option<Forget> {
    let row = LedgerRow::born(event, 0).filter(|_| event.source == Source::Api)?;
    Some(Forget::from(&row))
}

/// The number of rejections by the database, for each rejected event of a message that is still in the stream. The server's
/// count of deliveries does not serve: it grows with every outage. The consumer's limit of unacknowledged messages bounds
/// this.
#[derive(Debug, Default)]
pub(super) struct Rejections(Mutex<HashMap<u64, HashMap<Option<usize>, u32>>>);

impl Rejections {
    /// Counts one more rejection of the event at this place of a message, and returns their number.
    fn add(&self, sequence: u64, event: Option<usize>) -> u32 {
        let mut counts = self.lock();
        let count = counts
            .entry(sequence)
            .or_default()
            .entry(event)
            .or_default();
        *count = count.saturating_add(1);
        *count
    }

    /// Forgets messages that leave the stream.
    fn forget(&self, messages: &[&Delivered]) {
        let mut counts = self.lock();
        if counts.is_empty() {
            return;
        }
        for one in messages {
            counts.remove(&one.sequence);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, HashMap<Option<usize>, u32>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
