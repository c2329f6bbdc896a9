//! The messages of a pull, and the events that are decoded from them. `deliveries.rs` works on them.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use async_nats::jetstream::message::{Info, Message};

use super::NatsSubscriber;
use super::fate::{Delivered, Place};
use super::quarantine::Refused;
use crate::domain::{BehaviorEvent, Version};
use crate::nats::{Incoming, NoEvent, Undecodable, decode, is_batch, trace_of, unpack};

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
    /// The resource types of our own events that this process does not serve.
    pub(super) unserved: BTreeSet<String>,
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
        let mut unserved = BTreeSet::new();
        if self.broker.is_of_another_deployment(&message) {
            work.of_others += 1;
        } else if is_batch(incoming.subject) {
            match unpack(&incoming, served, kinds) {
                Ok(elements) => {
                    for (place, element) in elements.into_iter().enumerate() {
                        let event = Some(place);
                        unserved.extend(work.add(Place { event, ..whole }, element));
                    }
                }
                Err(reason) => work.refused.push(Refused::message(whole, &reason)),
            }
        } else {
            match decode(&incoming, self.latest_clock(&info), served, kinds) {
                Ok(event) => unserved.extend(work.add(whole, Ok(event))),
                Err(Undecodable::NotServed(resource_type)) => {
                    unserved.insert(resource_type);
                }
                Err(reason) => work.refused.push(Refused::message(whole, &reason)),
            }
        }
        let (sequence, delivered) = (info.stream_sequence, info.delivered);
        let events = work.events.len() - before;
        // One without events for this process, which comes again and again, must not make the others take two steps.
        work.redelivered += usize::from(delivered > 1 && events > 0);
        work.messages.push(Delivered {
            message,
            sequence,
            delivered,
            events,
            erased: Vec::new(),
            is_refused: false,
            is_for_later: false,
            is_for_others: !unserved.is_empty(),
        });
        work.unserved.append(&mut unserved);
    }

    /// Returns the time that a foreign event's time is compared with: the database's, or the NATS server's when it
    /// stored the message, whichever is later. A slow clock alone then refuses no event.
    fn latest_clock(&self, info: &Info<'_>) -> Version {
        let stored = info.published.unix_timestamp_nanos() / 1_000;
        Version::at(self.store.now()).max(Version(i64::try_from(stored).unwrap_or(0)))
    }
}

impl Work {
    /// Adds an element of a message. Returns its resource type if others serve it: then it is not added.
    fn add(&mut self, place: Place, element: Result<BehaviorEvent, NoEvent>) -> Option<String> {
        match element {
            Ok(event) => {
                self.events.push(event);
                self.places.push(place);
                None
            }
            Err(NoEvent {
                reason: Undecodable::NotServed(resource_type),
                ..
            }) => Some(resource_type),
            Err(no_event) => {
                self.refused.push(Refused::no_event(place, no_event));
                None
            }
        }
    }
}
