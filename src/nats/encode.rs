//! The JSON of one event on NATS, and its subject. `decode.rs` reads it, and `batch.rs` packs several into one message.

use std::borrow::Cow;

use bytes::Bytes;
use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize, Serializer};
use uuid::Uuid;

use super::trace::read_leniently;
use crate::domain::origin::{ACCEPTED, BEHAVIORS};
use crate::domain::{BehaviorEvent, BehaviorType, Id, ResourceType, Source, TraceParent, Version};

/// The JSON of an event. Foreign events may lack `version` and `source`. In a batch, our own events lack `source`, and
/// `occurred_at` if it is the time of the version.
#[derive(Serialize, Deserialize)]
pub(super) struct EventJson<'a> {
    pub(super) event_id: Uuid,
    pub(super) user_id: Id,
    pub(super) resource_type: ResourceType,
    pub(super) resource_id: Id,
    pub(super) behavior: BehaviorType,
    #[serde(
        default,
        serialize_with = "with_micros",
        skip_serializing_if = "Option::is_none"
    )]
    pub(super) occurred_at: Option<DateTime<Utc>>,
    pub(super) version: Option<Version>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) source: Option<Cow<'a, str>>,
    #[serde(
        default,
        deserialize_with = "read_leniently",
        skip_serializing_if = "Option::is_none"
    )]
    pub(super) traceparent: Option<TraceParent>,
}

impl EventJson<'_> {
    /// Returns the JSON of one of our own events within a batch.
    pub(super) fn in_batch(event: &BehaviorEvent) -> Self {
        let has_own_time = event.occurred_at != event.version.moment();
        Self {
            event_id: event.event_id,
            user_id: event.user_id.clone(),
            resource_type: event.resource.resource_type,
            resource_id: event.resource.id.clone(),
            behavior: event.behavior,
            occurred_at: has_own_time.then_some(event.occurred_at),
            version: Some(event.version),
            source: None,
            traceparent: event.trace,
        }
    }
}

fn with_micros<S: Serializer>(
    time: &Option<DateTime<Utc>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let text = time.map(|time| time.to_rfc3339_opts(SecondsFormat::Micros, true));
    text.serialize(serializer)
}

/// Returns the subject of an event. The event's source determines the tree.
#[must_use]
pub fn subject(event: &BehaviorEvent) -> String {
    let tree = match event.source {
        Source::Api => ACCEPTED,
        Source::Foreign(_) => BEHAVIORS,
    };
    format!("{tree}.{}.{}", event.resource.resource_type, event.behavior)
}

/// Returns the body of the message of one event. Its trace is in the header of the message.
#[must_use]
pub fn encode(event: &BehaviorEvent) -> Bytes {
    let json = EventJson {
        occurred_at: Some(event.occurred_at),
        source: Some(event.source.name()),
        traceparent: None,
        ..EventJson::in_batch(event)
    };
    let mut body = Vec::with_capacity(256);
    write(&json, &mut body);
    body.into()
}

/// Appends JSON to a body.
pub(super) fn write(json: &impl Serialize, body: &mut Vec<u8>) {
    serde_json::to_writer(body, json)
        .unwrap_or_else(|error| unreachable!("numbers and text are always JSON: {error}"));
}
