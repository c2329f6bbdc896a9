//! The JSON of events on NATS: the format of this service, and that of the older Go services.

use bytes::Bytes;
use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::domain::origin::{ACCEPTED, BEHAVIORS, Origin};
use crate::domain::{
    BehaviorEvent, BehaviorType, HybridClock, InvalidBehavior, Resource, ResourceType, ResourceTypes,
    Source,
    Version,
};

/// The largest accepted body, in bytes. An event needs a few hundred.
pub const MAX_PAYLOAD: usize = 16 * 1024;

/// The reason why a message is not a valid event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Undecodable {
    /// The body is too large.
    #[error("the body has {0} bytes; an event has at most {MAX_PAYLOAD}")]
    TooLarge(usize),
    /// The body is not JSON, or not an object.
    #[error("the body is not a JSON object: {0}")]
    NotJson(String),
    /// A field is missing or invalid.
    #[error("{0}")]
    Field(String),
    /// An id is not positive.
    #[error(transparent)]
    Invalid(#[from] InvalidBehavior),
    /// A foreign event is dated too far ahead.
    #[error("it is dated {0}, more than five minutes ahead of this server's clock")]
    FromTheFuture(String),
}

/// A message of the stream.
#[derive(Debug, Clone, Copy)]
pub struct Incoming<'a> {
    /// Its subject.
    pub subject: &'a str,
    /// Its body.
    pub body: &'a [u8],
    /// Its stream sequence, which orders events of the Go services within one second.
    pub sequence: u64,
}

/// An event on the wire.
#[derive(Serialize)]
struct Wire<'a> {
    event_id: Uuid,
    user_id: i64,
    resource_type: ResourceType,
    resource_id: i64,
    behavior: BehaviorType,
    occurred_at: String,
    version: Version,
    source: &'a str,
}

/// A [`Wire`] of a foreign event.
#[derive(Deserialize)]
struct Given {
    event_id: Uuid,
    user_id: i64,
    resource_type: ResourceType,
    resource_id: i64,
    behavior: BehaviorType,
    occurred_at: DateTime<Utc>,
    version: Option<Version>,
    source: Option<String>,
}

/// An event of the Go services. Numbers may be text; an unused id is zero or absent.
#[derive(Deserialize)]
struct Legacy {
    user_id: Value,
    #[serde(default)]
    video_id: Value,
    #[serde(default)]
    comment_id: Value,
    #[serde(default)]
    action_type: Value,
    #[serde(default)]
    event_type: Value,
    timestamp: Value,
    #[serde(default)]
    event_id: Value,
}

/// The source recorded for events of the Go services, which send none.
const LEGACY_SOURCE: &str = "legacy";

/// The source recorded for foreign events that claim to be Likewise's own.
const UNVERIFIED_API: &str = "unverified:likewise-api";

/// Returns the subject of an event. The event's source determines the tree.
#[must_use]
pub fn subject(event: &BehaviorEvent) -> String {
    let tree = match event.source {
        Source::Api => ACCEPTED,
        Source::Foreign(_) => BEHAVIORS,
    };
    format!("{tree}.{}.{}", event.resource.resource_type, event.behavior)
}

/// Returns the body of an event.
#[must_use]
pub fn encode(event: &BehaviorEvent) -> Bytes {
    let wire = Wire {
        event_id: event.event_id,
        user_id: event.user_id,
        resource_type: event.resource.resource_type,
        resource_id: event.resource.id,
        behavior: event.behavior,
        occurred_at: event
            .occurred_at
            .to_rfc3339_opts(SecondsFormat::Micros, true),
        version: event.version,
        source: &event.source.name(),
    };
    serde_json::to_vec(&wire).map_or_else(
        |error| unreachable!("numbers and text are always JSON: {error}"),
        Bytes::from,
    )
}

/// Decodes an event. The subject determines its origin, whatever the body claims. An event on an accepted subject is
/// Likewise's own and is valid at any time, because it was acknowledged to a user. A foreign event may be dated at most
/// five minutes after `now`. `served` has the resource types of the deployment.
///
/// # Errors
/// If the message is not a valid event, with a reason for its publisher.
pub fn decode(
    message: &Incoming<'_>,
    now: Version,
    served: &ResourceTypes,
) -> Result<BehaviorEvent, Undecodable> {
    let Incoming { body, sequence, .. } = *message;
    if body.len() > MAX_PAYLOAD {
        return Err(Undecodable::TooLarge(body.len()));
    }
    let json: Value =
        serde_json::from_slice(body).map_err(|error| Undecodable::NotJson(error.to_string()))?;
    let Some(object) = json.as_object() else {
        return Err(Undecodable::NotJson(
            "it is another kind of value".to_owned(),
        ));
    };
    let origin = Origin::of(message.subject);
    let is_legacy = !object.contains_key("resource_type") && !object.contains_key("behavior");
    let event = match origin {
        Origin::Foreign if is_legacy => legacy(json, sequence)?,
        _ => current(json, sequence, origin)?,
    };
    let resource_type = served.served(event.resource.resource_type);
    resource_type.map_err(|error| Undecodable::Field(format!("resource_type: {error}")))?;
    if event.version <= Version::NEVER {
        return Err(Undecodable::Field(format!(
            "it is dated {}, before 1970",
            event.occurred_at
        )));
    }
    let latest = event.version.max(Version::at(event.occurred_at));
    if origin == Origin::Foreign && HybridClock::is_too_far_ahead(latest, now) {
        return Err(Undecodable::FromTheFuture(latest.moment().to_rfc3339()));
    }
    Ok(event.validated()?)
}

fn current(json: Value, sequence: u64, origin: Origin) -> Result<BehaviorEvent, Undecodable> {
    let given: Given = serde_path_to_error::deserialize(json)
        .map_err(|error| Undecodable::Field(error.to_string()))?;
    let source = match origin {
        Origin::Accepted => Source::Api,
        Origin::Foreign => foreign_source(given.source.unwrap_or_default())?,
    };
    let version = match (given.version, origin) {
        (Some(version), _) => version,
        (None, Origin::Foreign) => Version::at(given.occurred_at),
        (None, Origin::Accepted) => {
            return Err(Undecodable::Field(
                "version is missing, which every event on this subject has".to_owned(),
            ));
        }
    };
    Ok(BehaviorEvent {
        event_id: given.event_id,
        user_id: given.user_id,
        resource: Resource {
            resource_type: given.resource_type,
            id: given.resource_id,
        },
        behavior: given.behavior,
        version,
        occurred_at: given.occurred_at,
        source,
        stream_sequence: Some(sequence),
    })
}

/// Returns the source of a foreign event. A body cannot claim Likewise's own name.
fn foreign_source(name: String) -> Result<Source, Undecodable> {
    if name.len() > Source::MAX_LENGTH || name.contains('\0') {
        return Err(Undecodable::Field(format!(
            "source must be text of at most {} bytes",
            Source::MAX_LENGTH
        )));
    }
    Ok(Source::Foreign(if name == Source::API {
        UNVERIFIED_API.to_owned()
    } else {
        name
    }))
}

fn legacy(json: Value, sequence: u64) -> Result<BehaviorEvent, Undecodable> {
    let given: Legacy = serde_path_to_error::deserialize(json)
        .map_err(|error| Undecodable::Field(error.to_string()))?;
    let user_id = number("user_id", &given.user_id)?
        .ok_or_else(|| Undecodable::Field("user_id is missing".to_owned()))?;
    let video_id = number("video_id", &given.video_id)?.filter(|id| *id != 0);
    let comment_id = number("comment_id", &given.comment_id)?.filter(|id| *id != 0);
    let resource = match (video_id, comment_id) {
        // A like of a comment also names the comment's video.
        (_, Some(id)) => Resource {
            resource_type: ResourceType::COMMENT,
            id,
        },
        (Some(id), None) => Resource::video(id),
        (None, None) => {
            return Err(Undecodable::Field(
                "neither video_id nor comment_id is given".to_owned(),
            ));
        }
    };
    let behavior = legacy_behavior(&given.action_type)
        .or_else(|| legacy_behavior(&given.event_type))
        .ok_or_else(|| {
            Undecodable::Field(format!(
                "neither action_type {} nor event_type {} is a known behavior",
                given.action_type, given.event_type
            ))
        })?;
    let seconds = number("timestamp", &given.timestamp)?
        .ok_or_else(|| Undecodable::Field("timestamp is missing".to_owned()))?;
    let occurred_at = DateTime::from_timestamp(seconds, 0)
        .ok_or_else(|| Undecodable::Field(format!("timestamp {seconds} is no time in seconds")))?;
    let event_id = match text(&given.event_id) {
        Some(id) => Uuid::parse_str(&id)
            .unwrap_or_else(|_| Uuid::new_v5(&Uuid::NAMESPACE_OID, id.as_bytes())),
        // Without an id, equal content is the same event.
        None => Uuid::new_v5(
            &Uuid::NAMESPACE_OID,
            format!("{user_id}/{resource}/{behavior}/{seconds}").as_bytes(),
        ),
    };
    // Within one second the stream sequence decides; it repeats only after a million messages.
    let version = Version::at(occurred_at).0 + i64::try_from(sequence % 1_000_000).unwrap_or(0);
    Ok(BehaviorEvent {
        event_id,
        user_id,
        resource,
        behavior,
        version: Version(version),
        occurred_at,
        source: Source::Foreign(LEGACY_SOURCE.to_owned()),
        stream_sequence: Some(sequence),
    })
}

/// Returns the behavior of a Go event: by name, alone or after the resource's (`video_like`), or by number.
fn legacy_behavior(value: &Value) -> Option<BehaviorType> {
    let word = text(value)?.to_lowercase();
    match word.as_str() {
        "1" => Some(BehaviorType::Like),
        "2" => Some(BehaviorType::Unlike),
        word => word.rsplit(['_', '.']).next()?.parse().ok(),
    }
}

fn number(field: &str, value: &Value) -> Result<Option<i64>, Undecodable> {
    let number = match value {
        Value::Null => return Ok(None),
        Value::String(text) if text.is_empty() => return Ok(None),
        Value::Number(number) => number.as_i64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    };
    number
        .map(Some)
        .ok_or_else(|| Undecodable::Field(format!("{field} is not a whole number: {value}")))
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: Version = Version(1_790_000_000_000_000);
    const FOREIGN: &str = "likewise.behaviors.comment.share";
    const OWN: &str = "likewise.accepted.comment.share";
    const AN_HOUR: i64 = 3_600_000_000;

    fn decode_on(subject: &str, body: &[u8], sequence: u64) -> Result<BehaviorEvent, Undecodable> {
        let message = Incoming {
            subject,
            body,
            sequence,
        };
        decode(&message, NOW, &ResourceTypes::default())
    }

    fn read(body: &Value) -> Result<BehaviorEvent, Undecodable> {
        decode_on(FOREIGN, body.to_string().as_bytes(), 42)
    }

    fn valid() -> Value {
        json!({
            "event_id": "01a20975-da56-711e-a096-45803f35e632",
            "user_id": 7,
            "resource_type": "comment",
            "resource_id": 9,
            "behavior": "share",
            "occurred_at": "2026-09-21T13:33:20.5Z",
            "source": "feed",
        })
    }

    fn with(field: &str, value: Value) -> Value {
        let mut body = valid();
        body[field] = value;
        body
    }

    fn accepted(version: Version) -> BehaviorEvent {
        BehaviorEvent::accepted(
            Uuid::now_v7(),
            7,
            Resource::video(9),
            BehaviorType::Like,
            version,
        )
        .expect("valid")
    }

    #[test]
    fn own_event_round_trips() {
        let event = accepted(Version(NOW.0 + 3));
        assert_eq!(subject(&event), "likewise.accepted.video.like");
        let arrived = BehaviorEvent {
            stream_sequence: Some(42),
            ..event.clone()
        };
        assert_eq!(decode_on(OWN, &encode(&event), 42), Ok(arrived));
    }

    #[test]
    fn accepted_events_are_not_rejected_for_their_time() {
        let ahead = accepted(Version(NOW.0 + AN_HOUR));
        let decoded = decode_on(OWN, &encode(&ahead), 42).expect("ours");
        assert_eq!(
            (decoded.version, decoded.source),
            (ahead.version, Source::Api)
        );
        assert!(matches!(
            decode_on(FOREIGN, &encode(&ahead), 42),
            Err(Undecodable::FromTheFuture(_))
        ));
    }

    #[test]
    fn publisher_is_taken_from_the_subject() {
        let claimed = decode_on(FOREIGN, &encode(&accepted(NOW)), 42).expect("valid");
        assert_eq!(claimed.source, Source::Foreign(UNVERIFIED_API.to_owned()));
        assert_eq!(subject(&claimed), "likewise.behaviors.video.like");
        let versioned = with("version", json!(NOW.0)).to_string();
        let ours = decode_on(OWN, versioned.as_bytes(), 42).expect("valid");
        assert_eq!(ours.source, Source::Api);
    }

    #[test]
    fn accepted_subjects_take_only_our_own_events() {
        for (body, reason) in [
            (valid(), "version is missing"),
            (
                json!({"user_id": 7, "video_id": 9, "action_type": 1, "timestamp": 1_789_999_000}),
                "missing field",
            ),
        ] {
            let refused = decode_on(OWN, body.to_string().as_bytes(), 42)
                .expect_err("not ours")
                .to_string();
            assert!(refused.contains(reason), "{refused}");
        }
    }

    #[test]
    fn foreign_event_version_is_its_time() {
        let event = read(&valid()).expect("valid");
        assert_eq!(event.behavior, BehaviorType::Share);
        assert_eq!(event.version, Version::at(event.occurred_at));
        assert_eq!(event.source, Source::Foreign("feed".to_owned()));
    }

    #[test]
    fn undecodable_message_is_rejected_with_a_reason() {
        let late = with("occurred_at", json!("2027-01-01T00:00:00Z"));
        let versioned = with("version", json!(NOW.0 + 400_000_000));
        for (body, reason) in [
            (with("event_id", json!("seven")), "UUID"),
            (with("user_id", json!("7")), "i64"),
            (
                with("user_id", json!(0)),
                "user id must be a positive number",
            ),
            (
                with("resource_id", json!(-1)),
                "resource id must be a positive number",
            ),
            (with("resource_type", json!("song")), "song"),
            (with("behavior", json!("dislike")), "dislike"),
            (
                with("occurred_at", json!("yesterday")),
                "input contains invalid characters",
            ),
            (
                with("occurred_at", json!("1960-01-01T00:00:00Z")),
                "before 1970",
            ),
            (with("source", json!("s".repeat(65))), "at most 64 bytes"),
            (late, "ahead of this server's clock"),
            (versioned, "ahead of this server's clock"),
            (json!([1, 2]), "not a JSON object"),
            (json!({}), "user_id"),
        ] {
            let refused = read(&body).expect_err("no event").to_string();
            assert!(refused.contains(reason), "{body}: {refused}");
        }
        let large = read(&with("source", json!("s".repeat(MAX_PAYLOAD))));
        assert!(matches!(large, Err(Undecodable::TooLarge(_))));
        assert!(matches!(
            decode_on(FOREIGN, b"{\"user_id\": ", 1),
            Err(Undecodable::NotJson(_))
        ));
        assert!(matches!(
            decode_on(FOREIGN, &[0xff, 0xfe], 1),
            Err(Undecodable::NotJson(_))
        ));
    }

    #[test]
    fn go_service_json_is_decoded() {
        let event = |body: Value| read(&body).expect("valid");
        let like = event(json!({
            "user_id": 7, "video_id": 9, "comment_id": 0, "action_type": "1",
            "event_type": "video_like", "timestamp": 1_789_999_000, "event_id": "evt-1",
        }));
        assert_eq!(like.resource, Resource::video(9));
        assert_eq!(like.behavior, BehaviorType::Like);
        assert_eq!(like.version, Version(1_789_999_000_000_042));
        assert_eq!(like.source, Source::Foreign(LEGACY_SOURCE.to_owned()));
        let unlike = event(json!({
            "user_id": "7", "video_id": 9, "comment_id": 5, "action_type": 2,
            "timestamp": "1789999000",
        }));
        assert_eq!(unlike.resource.resource_type, ResourceType::COMMENT);
        assert_eq!(unlike.behavior, BehaviorType::Unlike);
        let viewed = event(json!({
            "user_id": 7, "video_id": 9, "event_type": "video_view", "timestamp": 1_789_999_000,
        }));
        assert_eq!(viewed.behavior, BehaviorType::View);
    }

    #[test]
    fn go_event_id_is_stable_across_deliveries() {
        let body = |id: Value| {
            json!({
                "user_id": 7, "video_id": 9, "action_type": "like", "timestamp": 1_789_999_000, "event_id": id,
            })
        };
        let id = |body: &Value, sequence| {
            decode_on(FOREIGN, body.to_string().as_bytes(), sequence)
                .expect("valid")
                .event_id
        };
        assert_eq!(id(&body(json!("evt-1")), 1), id(&body(json!("evt-1")), 2));
        assert_ne!(id(&body(json!("evt-1")), 1), id(&body(json!("evt-2")), 1));
        assert_eq!(id(&body(json!("")), 1), id(&body(Value::Null), 2));
    }
}
