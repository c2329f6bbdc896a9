//! Publishes messages with events, and events from quarantine.

use std::error::Error;

use async_nats::HeaderMap;
use async_nats::header::NATS_MESSAGE_ID;
use async_nats::jetstream::context::{PublishAckFuture, PublishError};
use async_nats::jetstream::{self, ErrorCode};
use uuid::Uuid;

use super::batch::Packed;
use super::connection::Broker;
use super::{DEPLOYMENT_HEADER, NatsError};
use crate::domain::{BehaviorEvent, TraceParent};
use crate::telemetry::{Dependency, DependencyFailed, DependencyWorked};

/// The name of this work in the log.
const PUBLISHING: &str = "publishing events";

impl Broker {
    /// Publishes a message with its events. The returned future is JetStream's acknowledgement.
    ///
    /// # Errors
    /// If the message cannot be sent.
    pub async fn publish(&self, packed: &Packed) -> Result<PublishAckFuture, NatsError> {
        let mut headers = HeaderMap::new();
        if let Some(message_id) = &packed.message_id {
            headers.insert(NATS_MESSAGE_ID, message_id.as_str());
        }
        if let Some(trace) = packed.trace {
            headers.insert(TraceParent::HEADER, trace.to_string());
        }
        if let Some(deployment) = self.deployment.get() {
            headers.insert(DEPLOYMENT_HEADER, deployment.id.to_string());
        }
        self.context
            .publish_with_headers(packed.subject.clone(), headers, packed.body.clone())
            .await
            .map_err(|error| publish_error(&error))
    }

    /// Returns the largest body of a batch, in bytes: what the server accepts beside the headers, and at most 64 KiB, so that
    /// the messages of one pull hold a bounded number of events.
    #[must_use]
    pub fn largest_batch(&self) -> usize {
        const BYTES: usize = 64 * 1024;
        const HEADERS: usize = 512;
        BYTES.min(self.client.max_payload().saturating_sub(HEADERS))
    }

    /// Publishes an event from quarantine and awaits the acknowledgement. The message has a new id, because the server drops
    /// messages whose id it received within the last two minutes. The event keeps its id, so it counts once even if it is
    /// republished twice. The event's source determines the subject, so an accepted event stays accepted.
    ///
    /// # Errors
    /// If JetStream did not acknowledge it.
    pub async fn republish(
        &self,
        event: &BehaviorEvent,
        quarantine_id: Uuid,
    ) -> Result<(), NatsError> {
        let (event_id, quarantine_id) = (event.event_id.hyphenated(), quarantine_id.hyphenated());
        let id = format!("{event_id}{REPUBLISHED}{quarantine_id}");
        self.publish_acknowledged(&Packed::one(event, id)).await
    }

    /// Publishes a message, and awaits JetStream's acknowledgement.
    async fn publish_acknowledged(&self, packed: &Packed) -> Result<(), NatsError> {
        let acknowledgement = self.publish(packed).await?.await;
        acknowledgement
            .map(drop)
            .map_err(|error| publish_error(&error))
    }

    /// Records a failed publish: nothing is published until the next check of the stream. Returns whether the stream was
    /// ready before; otherwise the check has already reported the cause.
    pub fn publish_failed(&self, error: &NatsError) -> bool {
        let was_ready = self.is_ready();
        if was_ready {
            DependencyFailed {
                dependency: Dependency::Broker,
                doing: PUBLISHING,
                error,
            }
            .emit();
        }
        self.suspect();
        was_ready
    }

    /// Records that JetStream acknowledged events.
    pub fn publish_succeeded(&self) {
        DependencyWorked {
            dependency: Dependency::Broker,
            doing: PUBLISHING,
        }
        .emit();
    }

    /// Returns an id that nothing else ever has: of a message, or of the event at this place in a batch. A recreated stream
    /// numbers its messages from one again, but at other times.
    #[must_use]
    pub fn message_identity(
        &self,
        info: &jetstream::message::Info<'_>,
        place: Option<usize>,
    ) -> Uuid {
        let published = info.published.unix_timestamp_nanos();
        let mut name = format!("{}/{}/{published}", info.stream, info.stream_sequence);
        if let Some(place) = place {
            name.push_str(&format!("/{place}"));
        }
        Uuid::new_v5(&Uuid::NAMESPACE_URL, name.as_bytes())
    }
}

/// Separates the event's id from its id in quarantine, in the message id of a republished event.
const REPUBLISHED: &str = "/republished/";

/// Returns the id of the event in a message with this `Nats-Msg-Id`, if Likewise published it.
#[must_use]
pub fn original_id(message_id: &str) -> Option<Uuid> {
    let id = message_id.split(REPUBLISHED).next()?;
    Uuid::parse_str(id).ok()
}

/// Returns the server's refusal of a message; `None` if it did not answer.
pub(super) fn server_error(error: &PublishError) -> Option<&jetstream::Error> {
    error.source()?.downcast_ref()
}

/// Returns the reason why JetStream did not acknowledge an event.
#[must_use]
pub fn publish_error(error: &PublishError) -> NatsError {
    let Some(said) = server_error(error) else {
        return NatsError::Unavailable(error.to_string());
    };
    let advice = match said.error_code() {
        ErrorCode::STREAM_STORE_FAILED
        | ErrorCode::INSUFFICIENT_RESOURCES
        | ErrorCode::STORAGE_RESOURCES_EXCEEDED
        | ErrorCode::ACCOUNT_RESOURCES_EXCEEDED => {
            "likes go to the database until messages have left the stream by their age, or until it \
             has more room: raise LIKEWISE_NATS_MAX_BYTES and run `likewise stream apply`, or give the \
             server more storage (max_file_store)"
        }
        _ => "likes go to the database meanwhile",
    };
    NatsError::Refused {
        what: "an event".to_owned(),
        said: said.to_string(),
        advice: advice.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn republished_message_names_its_original_event() {
        let (event, quarantine) = (Uuid::now_v7(), Uuid::now_v7());
        assert_eq!(original_id(&event.to_string()), Some(event));
        let again = format!("{event}{REPUBLISHED}{quarantine}");
        assert_eq!(original_id(&again), Some(event));
        assert_eq!(original_id("once"), None);
    }
}
