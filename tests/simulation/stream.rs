//! The stream delivers at least once, in any order, and keeps every unacknowledged message.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use likewise::domain::BehaviorEvent;
use uuid::Uuid;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Delivery {
    /// The time from which the message is delivered: at first, after a NAK with a delay, or after a missing
    /// acknowledgement.
    From(DateTime<Utc>),
    Acknowledged,
}

#[derive(Debug, Clone)]
struct Message {
    event: BehaviorEvent,
    delivered: u32,
    delivery: Delivery,
}

#[derive(Default)]
pub struct Stream {
    messages: BTreeMap<u64, Message>,
}

/// A delivered message.
#[derive(Debug, Clone)]
pub struct Delivered {
    pub sequence: u64,
    pub event: BehaviorEvent,
    pub times: u32,
}

impl Stream {
    pub fn publish(&mut self, event: BehaviorEvent, now: DateTime<Utc>) {
        let sequence = self.messages.len() as u64 + 1;
        let message = Message {
            event,
            delivered: 0,
            delivery: Delivery::From(now),
        };
        self.messages.insert(sequence, message);
    }

    /// Whether the stream holds or held an event of this id: the dedup window.
    pub fn has_seen(&self, id: Uuid) -> bool {
        self.messages
            .values()
            .any(|message| message.event.event_id == id)
    }

    /// Whether an event of this id is unacknowledged.
    pub fn owes(&self, id: Uuid) -> bool {
        self.messages.values().any(|message| {
            message.event.event_id == id && message.delivery != Delivery::Acknowledged
        })
    }

    /// Whether a message is unacknowledged.
    pub fn owes_any(&self) -> bool {
        let mut messages = self.messages.values();
        messages.any(|message| message.delivery != Delivery::Acknowledged)
    }

    pub fn ready(&self, now: DateTime<Utc>) -> Vec<u64> {
        let ready = |message: &Message| matches!(message.delivery, Delivery::From(at) if at <= now);
        let messages = self.messages.iter();
        messages
            .filter(|(_, message)| ready(message))
            .map(|(sequence, _)| *sequence)
            .collect()
    }

    pub fn deliver(&mut self, sequence: u64, again_at: DateTime<Utc>) -> Option<Delivered> {
        let message = self.messages.get_mut(&sequence)?;
        message.delivered += 1;
        message.delivery = Delivery::From(again_at);
        Some(Delivered {
            sequence,
            event: message.event.clone(),
            times: message.delivered,
        })
    }

    pub fn acknowledge(&mut self, sequence: u64) {
        if let Some(message) = self.messages.get_mut(&sequence) {
            message.delivery = Delivery::Acknowledged;
        }
    }

    pub fn nak(&mut self, sequence: u64, again_at: DateTime<Utc>) {
        if let Some(message) = self.messages.get_mut(&sequence)
            && message.delivery != Delivery::Acknowledged
        {
            message.delivery = Delivery::From(again_at);
        }
    }

    /// The consumer was recreated, so everything is redelivered.
    pub fn rewind(&mut self, now: DateTime<Utc>) {
        for message in self.messages.values_mut() {
            message.delivery = Delivery::From(now);
        }
    }

    /// The time of the next delivery, if any.
    pub fn next_delivery(&self) -> Option<DateTime<Utc>> {
        let messages = self.messages.values();
        messages
            .filter_map(|message| match message.delivery {
                Delivery::From(at) => Some(at),
                Delivery::Acknowledged => None,
            })
            .min()
    }
}
