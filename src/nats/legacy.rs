//! The JSON of events that the older Go services publish. `decode.rs` recognizes it.

use chrono::DateTime;
use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use super::undecodable::Undecodable;
use crate::domain::{BehaviorEvent, BehaviorType, Resource, ResourceType, Source, Version};

/// An event of the Go services. Numbers may be text; an unused id is zero or absent.
#[derive(Deserialize)]
struct GoEvent {
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
const SOURCE: &str = "legacy";

/// Decodes an event of the Go services. The stream sequence orders their events within one second.
///
/// # Errors
/// If a field is missing or invalid.
pub(super) fn decode(json: Value, sequence: u64) -> Result<BehaviorEvent, Undecodable> {
    let given: GoEvent = serde_path_to_error::deserialize(json)
        .map_err(|error| Undecodable::Field(error.to_string()))?;
    let user_id = number("user_id", &given.user_id)?
        .ok_or_else(|| Undecodable::Field("user_id is missing".to_owned()))?;
    let video_id = number("video_id", &given.video_id)?.filter(|id| *id != 0);
    let comment_id = number("comment_id", &given.comment_id)?.filter(|id| *id != 0);
    let resource = match (video_id, comment_id) {
        // A like of a comment also names the comment's video.
        (_, Some(id)) => Resource {
            resource_type: ResourceType::COMMENT,
            id: id.into(),
        },
        (Some(id), None) => Resource::video(id),
        (None, None) => {
            return Err(Undecodable::Field(
                "neither video_id nor comment_id is given".to_owned(),
            ));
        }
    };
    let kind = behavior(&given.action_type)
        .or_else(|| behavior(&given.event_type))
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
            format!("{user_id}/{resource}/{kind}/{seconds}").as_bytes(),
        ),
    };
    // Within one second the stream sequence decides; it repeats only after a million messages.
    let version = Version::at(occurred_at).0 + i64::try_from(sequence % 1_000_000).unwrap_or(0);
    Ok(BehaviorEvent {
        event_id,
        user_id: user_id.into(),
        resource,
        behavior: kind,
        version: Version(version),
        occurred_at,
        source: Source::Foreign(SOURCE.to_owned()),
        stream_sequence: Some(sequence),
        trace: None,
    })
}

/// Returns the behavior of a Go event: by name, alone or after the resource's (`video_like`), or by number.
fn behavior(value: &Value) -> Option<BehaviorType> {
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

    #[test]
    fn go_service_json_is_decoded() {
        let event = |body: Value| decode(body, 42).expect("valid");
        let like = event(json!({
            "user_id": 7, "video_id": 9, "comment_id": 0, "action_type": "1",
            "event_type": "video_like", "timestamp": 1_789_999_000, "event_id": "evt-1",
        }));
        assert_eq!(like.resource, Resource::video(9));
        assert_eq!(like.behavior, BehaviorType::Like);
        assert_eq!(like.version, Version(1_789_999_000_000_042));
        assert_eq!(like.source, Source::Foreign(SOURCE.to_owned()));
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
        let id = |body: &Value, sequence| decode(body.clone(), sequence).expect("valid").event_id;
        assert_eq!(id(&body(json!("evt-1")), 1), id(&body(json!("evt-1")), 2));
        assert_ne!(id(&body(json!("evt-1")), 1), id(&body(json!("evt-2")), 1));
        assert_eq!(id(&body(json!("")), 1), id(&body(Value::Null), 2));
    }
}
