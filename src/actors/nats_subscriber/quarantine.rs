//! The quarantine: messages that are no events, or can never be recorded, are kept with their reason.

use async_nats::header::NATS_MESSAGE_ID;
use async_nats::jetstream::message::Message;
use chrono::Utc;

use super::NatsSubscriber;
use crate::domain::Origin;
use crate::store::QuarantinedEvent;
use crate::telemetry::{Dependency, EventsQuarantined};

impl NatsSubscriber {
    /// Keeps messages in quarantine and acknowledges them, a few at a time: each may be as large as the server allows.
    pub(super) async fn quarantine(&self, mut messages: Vec<(Message, String)>) {
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
        let messages = messages.into_iter().map(|(message, _)| message);
        match kept {
            Ok(erased) => {
                let (of_erased, others): (Vec<_>, Vec<_>) = messages
                    .enumerate()
                    .partition(|(place, _)| erased.contains(place));
                let plain = |some: Vec<(usize, Message)>| some.into_iter().map(|(_, one)| one);
                self.acknowledge(plain(others).collect()).await;
                self.erase(plain(of_erased).collect()).await;
            }
            Err(error) => {
                self.failed(
                    Dependency::Database,
                    "keeping messages in quarantine",
                    &error,
                );
                self.redeliver(messages.collect()).await;
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
}

/// Returns the start of a text, as long as a column allows, without the NUL that a database rejects.
fn fitting(text: &str) -> String {
    text.chars().filter(|c| *c != '\0').take(1_000).collect()
}
