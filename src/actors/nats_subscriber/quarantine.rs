//! The quarantine: messages and events of batches that are no events, or can never be recorded, are kept with their reason.

use async_nats::header::NATS_MESSAGE_ID;
use bytes::Bytes;
use uuid::Uuid;

use super::NatsSubscriber;
use super::fate::{Delivered, Place};
use crate::domain::{BehaviorEvent, Origin, TraceParent};
use crate::nats::{NoEvent, Undecodable, encode, subject, trace_of};
use crate::store::QuarantinedEvent;
use crate::telemetry::{Dependency, EventsQuarantined};

/// What goes into quarantine: a message, or one event of a batch.
pub(super) struct Refused {
    pub(super) place: Place,
    reason: String,
    /// The event of a batch; `None` if it is the whole message.
    element: Option<Element>,
}

/// An event of a batch, as the message of a single event.
struct Element {
    /// Its subject; `None` if it cannot be decoded.
    subject: Option<String>,
    event_id: Option<Uuid>,
    /// Its trace. What cannot be decoded keeps it in the body.
    trace: Option<TraceParent>,
    body: Bytes,
}

impl Refused {
    /// A message that cannot be decoded.
    pub(super) fn message(place: Place, reason: &Undecodable) -> Self {
        Self {
            place,
            reason: reason.to_string(),
            element: None,
        }
    }

    /// An element of a batch that is no event.
    pub(super) fn no_event(place: Place, no_event: NoEvent) -> Self {
        Self {
            place,
            reason: no_event.reason.to_string(),
            element: Some(Element {
                subject: None,
                event_id: no_event.event_id,
                trace: None,
                body: no_event.body,
            }),
        }
    }

    /// An event that cannot be recorded.
    pub(super) fn event(place: Place, event: &BehaviorEvent, reason: String) -> Self {
        let element = place.event.map(|_| Element {
            subject: Some(subject(event)),
            event_id: Some(event.event_id),
            trace: event.trace,
            body: encode(event),
        });
        Self {
            place,
            reason,
            element,
        }
    }
}

impl NatsSubscriber {
    /// Keeps messages, and events of batches, in quarantine, a few at a time: each may be as large as the server allows. Marks
    /// the messages of those that name an erased user or resource, which are not kept, and of those that cannot be kept now.
    pub(super) async fn quarantine(&self, refused: Vec<Refused>, messages: &mut [Delivered]) {
        const AT_ONCE: usize = 16;
        for some in refused.chunks(AT_ONCE) {
            let (places, events): (Vec<_>, Vec<_>) = some
                .iter()
                .filter_map(|one| {
                    let event = self.quarantined(one, &messages[one.place.message])?;
                    Some((one.place, event))
                })
                .unzip();
            let Some(first) = events.first() else {
                continue;
            };
            match self.store.quarantine(&events).await {
                Ok(erased) => {
                    let is_accepted =
                        |event: &&QuarantinedEvent| Origin::of(&event.subject) == Origin::Accepted;
                    EventsQuarantined {
                        events: events.len(),
                        accepted: events.iter().filter(is_accepted).count(),
                        reason: &first.reason,
                        trace: first.trace,
                    }
                    .emit();
                    for index in erased {
                        let place = places[index];
                        messages[place.message].erased.push(place.event);
                    }
                }
                Err(error) => {
                    self.failed(
                        Dependency::Database,
                        "keeping messages in quarantine",
                        &error,
                    );
                    for place in places {
                        messages[place.message].is_for_later = true;
                    }
                }
            }
        }
    }

    fn quarantined(&self, refused: &Refused, of: &Delivered) -> Option<QuarantinedEvent> {
        let (message, element) = (&of.message, refused.element.as_ref());
        let info = message.info().ok()?;
        let message_id = match element {
            Some(element) => element.event_id.map(|id| id.hyphenated().to_string()),
            None => {
                let headers = message.headers.as_ref();
                let id = headers.and_then(|headers| headers.get(NATS_MESSAGE_ID));
                id.map(|id| fitting(id.as_str()))
            }
        };
        let subject = element.and_then(|element| element.subject.as_deref());
        let body = element.map_or(&message.payload, |element| &element.body);
        Some(QuarantinedEvent {
            id: self.broker.message_identity(&info, refused.place.event),
            stream_sequence: i64::try_from(info.stream_sequence).unwrap_or(i64::MAX),
            subject: fitting(subject.unwrap_or(&message.subject)),
            message_id,
            trace: match element {
                Some(element) => element.trace,
                None => trace_of(message.headers.as_ref()),
            },
            reason: fitting(&refused.reason),
            payload: body.to_vec(),
            created_at: self.store.now(),
        })
    }
}

/// Returns the start of a text, as long as a column allows, without the NUL that a database rejects.
fn fitting(text: &str) -> String {
    text.chars().filter(|c| *c != '\0').take(1_000).collect()
}
