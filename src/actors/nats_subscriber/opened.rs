//! The messages of a pull, and the events that are decoded from them. `deliveries.rs` works on them.

use std::sync::atomic::Ordering;

use async_nats::jetstream::message::{Info, Message};

use super::NatsSubscriber;
use super::quarantine::Refused;
use crate::domain::{BehaviorEvent, Version};
use crate::nats::{Incoming, NoEvent, decode, is_batch, trace_of, unpack};

/// The place of an event among the messages of a [`Work`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    /// The place of its message.
    pub(super) message: usize,
    /// Its place in a batch; `None` if the message holds one event, or is none.
    pub(super) event: Option<usize>,
}

/// A delivered message, and what is known about its events.
pub(super) struct Delivered {
    pub(super) message: Message,
    /// Its sequence in the stream.
    pub(super) sequence: u64,
    /// How often the server has delivered it.
    pub(super) delivered: i64,
    /// The number of its events to record.
    pub(super) events: usize,
    /// The places of its events whose user or resource is erased.
    pub(super) erased: Vec<Option<usize>>,
    /// Whether some of it goes into quarantine.
    pub(super) is_refused: bool,
    /// Whether some of it can neither be recorded nor kept in quarantine now.
    pub(super) is_for_later: bool,
}

/// What happens to a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// Each of its events is recorded or in quarantine: it is acknowledged.
    Done,
    /// Some events are of the erased: the others are published again, before it leaves the stream.
    Erased,
    /// It is redelivered.
    Later,
}

impl Delivered {
    /// Returns what happens to it, as far as is known.
    pub(super) fn fate(&self) -> Fate {
        if !self.erased.is_empty() {
            Fate::Erased
        } else if self.is_for_later {
            Fate::Later
        } else {
            Fate::Done
        }
    }
}

/// Messages that are worked on together.
#[derive(Default)]
pub(super) struct Work {
    pub(super) messages: Vec<Delivered>,
    /// The events to record.
    pub(super) events: Vec<BehaviorEvent>,
    /// Where each of them comes from.
    pub(super) places: Vec<Place>,
    /// What is no event.
    pub(super) refused: Vec<Refused>,
    /// The number of messages that were delivered before.
    pub(super) redelivered: usize,
    /// The number of messages that another deployment accepted, and this one does not record.
    pub(super) of_others: usize,
}

impl NatsSubscriber {
    /// Decodes a message, and adds it and its events to the work.
    pub(super) fn open(&self, message: Message, work: &mut Work) {
        let Ok(info) = message.info() else {
            // A message without a reply subject was not delivered by a stream and needs no answer.
            return;
        };
        self.pending.store(info.pending, Ordering::Relaxed);
        let incoming = Incoming {
            subject: message.subject.as_str(),
            body: &message.payload,
            sequence: info.stream_sequence,
            trace: trace_of(message.headers.as_ref()),
        };
        let (served, kinds) = (self.store.resource_types(), self.store.id_kinds());
        let whole = Place {
            message: work.messages.len(),
            event: None,
        };
        let before = work.events.len();
        if self.broker.is_of_another_deployment(&message) {
            work.of_others += 1;
        } else if is_batch(incoming.subject) {
            match unpack(&incoming, served, kinds) {
                Ok(elements) => {
                    for (place, element) in elements.into_iter().enumerate() {
                        let event = Some(place);
                        work.add(Place { event, ..whole }, element);
                    }
                }
                Err(reason) => work.refused.push(Refused::message(whole, &reason)),
            }
        } else {
            match decode(&incoming, self.latest_clock(&info), served, kinds) {
                Ok(event) => work.add(whole, Ok(event)),
                Err(reason) => work.refused.push(Refused::message(whole, &reason)),
            }
        }
        let (sequence, delivered) = (info.stream_sequence, info.delivered);
        work.redelivered += usize::from(delivered > 1);
        work.messages.push(Delivered {
            message,
            sequence,
            delivered,
            events: work.events.len() - before,
            erased: Vec::new(),
            is_refused: false,
            is_for_later: false,
        });
    }

    /// Returns the time that a foreign event's time is compared with: the database's, or the NATS server's when it
    /// stored the message, whichever is later. A slow clock alone then refuses no event.
    fn latest_clock(&self, info: &Info<'_>) -> Version {
        let stored = info.published.unix_timestamp_nanos() / 1_000;
        Version::at(self.store.now()).max(Version(i64::try_from(stored).unwrap_or(0)))
    }
}

impl Work {
    fn add(&mut self, place: Place, element: Result<BehaviorEvent, NoEvent>) {
        match element {
            Ok(event) => {
                self.events.push(event);
                self.places.push(place);
            }
            Err(no_event) => self.refused.push(Refused::no_event(place, no_event)),
        }
    }
}
