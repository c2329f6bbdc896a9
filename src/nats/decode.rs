//! Decodes one event from NATS, with the checks that all events pass. `encode.rs` defines its JSON, `legacy.rs` that of the
//! older Go services, and `batch.rs` unpacks several from one message.

use std::borrow::Cow;

use serde_json::Value;

use super::encode::EventJson;
use super::legacy;
use super::undecodable::{MAX_PAYLOAD, Undecodable};
use crate::domain::origin::Origin;
use crate::domain::{
    BehaviorEvent, HybridClock, IdKinds, Resource, ResourceType, ResourceTypes, Source,
    TraceParent, Version,
};

/// A message of the stream.
#[derive(Debug, Clone, Copy)]
pub struct Incoming<'a> {
    /// Its subject.
    pub subject: &'a str,
    /// Its body.
    pub body: &'a [u8],
    /// Its stream sequence, which orders events of the Go services within one second.
    pub sequence: u64,
    /// The trace in its headers. An event may bring its own in its JSON, which counts instead.
    pub trace: Option<TraceParent>,
}

/// The source recorded for foreign events that claim to be Likewise's own.
const UNVERIFIED_API: &str = "unverified:likewise-api";

/// Decodes the message of one event. The subject determines its origin, whatever the body claims. An event on an accepted
/// subject is Likewise's own and is valid at any time, because it was acknowledged to a user. A foreign event may be dated
/// at most five minutes after `now`. `served` are the resource types of this process, and `kinds` the deployment's ids.
///
/// # Errors
/// If the message is not a valid event, with a reason for its publisher. [`Undecodable::NotServed`] if it is our own, and may
/// be one for another process.
pub fn decode(
    message: &Incoming<'_>,
    now: Version,
    served: &ResourceTypes,
    kinds: IdKinds,
) -> Result<BehaviorEvent, Undecodable> {
    let Incoming { body, sequence, .. } = *message;
    if body.len() > MAX_PAYLOAD {
        return Err(Undecodable::TooLarge(body.len()));
    }
    let origin = Origin::of(message.subject);
    // Almost every message is as documented. The others are parsed again, for their reason or for the older format.
    let event = match as_documented(body) {
        Some(json) => current(json, sequence, origin)?,
        None => {
            let json = serde_json::from_slice(body);
            let json = json.map_err(|error| Undecodable::NotJson(error.to_string()))?;
            from_value(json, sequence, origin, served)?
        }
    };
    let mut event = valid(event, served, kinds)?;
    if event.trace.is_none() {
        event = event.traced(message.trace);
    }
    let latest = event.version.max(Version::at(event.occurred_at));
    if origin == Origin::Foreign && HybridClock::is_too_far_ahead(latest, now) {
        return Err(Undecodable::FromTheFuture(latest.moment().to_rfc3339()));
    }
    Ok(event)
}

fn as_documented(body: &[u8]) -> Option<EventJson<'_>> {
    // Serde also reads an array as the fields of an event.
    let is_object = body.trim_ascii_start().starts_with(b"{");
    is_object.then(|| serde_json::from_slice(body).ok())?
}

/// Decodes the JSON of one of our own events, which may come from a batch.
pub(super) fn own_from_value(
    json: Value,
    sequence: u64,
    served: &ResourceTypes,
    kinds: IdKinds,
) -> Result<BehaviorEvent, Undecodable> {
    let event = from_value(json, sequence, Origin::Accepted, served)?;
    valid(event, served, kinds)
}

/// Decodes one of our own events in a batch.
pub(super) fn own(
    json: EventJson<'_>,
    sequence: u64,
    served: &ResourceTypes,
    kinds: IdKinds,
) -> Result<BehaviorEvent, Undecodable> {
    valid(current(json, sequence, Origin::Accepted)?, served, kinds)
}

fn from_value(
    json: Value,
    sequence: u64,
    origin: Origin,
    served: &ResourceTypes,
) -> Result<BehaviorEvent, Undecodable> {
    let Some(object) = json.as_object() else {
        return Err(Undecodable::NotJson(
            "it is another kind of value".to_owned(),
        ));
    };
    let is_legacy = !object.contains_key("resource_type") && !object.contains_key("behavior");
    if origin == Origin::Foreign && is_legacy {
        return legacy::decode(json, sequence);
    }
    let word = json["resource_type"].as_str();
    if origin == Origin::Accepted
        && let Some(word) = word.filter(|word| is_of_others(word, served))
    {
        return Err(Undecodable::NotServed(word.to_owned()));
    }
    let given = serde_path_to_error::deserialize(json)
        .map_err(|error| Undecodable::Field(error.to_string()))?;
    current(given, sequence, origin)
}

/// Returns whether a word can be a resource type, and this process does not serve it.
fn is_of_others(word: &str, served: &ResourceTypes) -> bool {
    ResourceType::is_usable(word) && !served.iter().any(|one| one.as_str() == word)
}

/// Checks an event as every message's.
fn valid(
    mut event: BehaviorEvent,
    served: &ResourceTypes,
    kinds: IdKinds,
) -> Result<BehaviorEvent, Undecodable> {
    if let Err(error) = served.served(event.resource.resource_type) {
        return Err(match event.source {
            Source::Api => Undecodable::NotServed(event.resource.resource_type.to_string()),
            Source::Foreign(_) => Undecodable::Field(format!("resource_type: {error}")),
        });
    }
    let time = Version::at(event.occurred_at);
    if event.version <= Version::NEVER || time < Version::NEVER {
        return Err(Undecodable::Field(format!(
            "it is dated {}, before 1970",
            event.occurred_at
        )));
    }
    if event.version.max(time) > Version::LAST {
        return Err(Undecodable::Field(
            "version and occurred_at must be before the year 10000".to_owned(),
        ));
    }
    // A leap second is the next second here. MySQL reads times that it cannot store as NULL, and would refuse the event for
    // a missing value, which no event causes otherwise.
    event.occurred_at = time.moment();
    Ok(event.validated(kinds)?)
}

fn current(
    given: EventJson<'_>,
    sequence: u64,
    origin: Origin,
) -> Result<BehaviorEvent, Undecodable> {
    let missing =
        |field: &str| Undecodable::Field(format!("{field} is missing, which every event here has"));
    let (source, version, occurred_at) = match origin {
        Origin::Accepted => {
            let version = given.version.ok_or_else(|| missing("version"))?;
            let occurred_at = match given.occurred_at {
                Some(time) => time,
                None if version <= Version::LAST => version.moment(),
                // The time of a later version cannot be stored.
                None => return Err(missing("occurred_at")),
            };
            (Source::Api, version, occurred_at)
        }
        Origin::Foreign => {
            let occurred_at = given.occurred_at.ok_or_else(|| missing("occurred_at"))?;
            let version = given.version.unwrap_or_else(|| Version::at(occurred_at));
            let source = foreign_source(given.source.unwrap_or_default())?;
            (source, version, occurred_at)
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
        occurred_at,
        source,
        stream_sequence: Some(sequence),
        trace: None,
    }
    .traced(given.traceparent))
}

/// Returns the source of a foreign event. A body cannot claim Likewise's own name.
fn foreign_source(name: Cow<'_, str>) -> Result<Source, Undecodable> {
    if name.len() > Source::MAX_LENGTH || name.contains('\0') {
        return Err(Undecodable::Field(format!(
            "source must be text of at most {} bytes",
            Source::MAX_LENGTH
        )));
    }
    Ok(Source::Foreign(if name == Source::API {
        UNVERIFIED_API.to_owned()
    } else {
        name.into_owned()
    }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use uuid::Uuid;

    use super::super::encode::{encode, subject};
    use super::*;
    use crate::domain::BehaviorType;

    const NOW: Version = Version(1_790_000_000_000_000);
    const FOREIGN: &str = "likewise.behaviors.comment.share";
    const OWN: &str = "likewise.accepted.comment.share";
    const AN_HOUR: i64 = 3_600_000_000;

    fn decode_on(subject: &str, body: &[u8], sequence: u64) -> Result<BehaviorEvent, Undecodable> {
        let message = Incoming {
            subject,
            body,
            sequence,
            trace: None,
        };
        decode(&message, NOW, &ResourceTypes::default(), IdKinds::default())
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
            7.into(),
            Resource::video(9),
            BehaviorType::Like,
            version,
        )
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
    fn trace_is_read_from_the_event_or_its_message() {
        let parse = |id: &str| {
            let text = format!("00-4bf92f3577b34da6a3ce929d0e0e47{id}-00f067aa0ba902b7-01");
            TraceParent::parse(&text).expect("valid")
        };
        let (in_header, in_body) = (parse("01"), parse("02"));
        let decoded = |body: &Value, trace: Option<TraceParent>| {
            let body = body.to_string();
            let message = Incoming {
                subject: FOREIGN,
                body: body.as_bytes(),
                sequence: 42,
                trace,
            };
            let (types, kinds) = (ResourceTypes::default(), IdKinds::default());
            decode(&message, NOW, &types, kinds).expect("valid")
        };
        let untraced = decoded(&valid(), None);
        assert_eq!(untraced.trace, None);
        let of_event = |trace: TraceParent| Some(trace.of_event(untraced.event_id));
        let both = with("traceparent", json!(in_body));
        for (body, header, expected) in [
            (valid(), Some(in_header), of_event(in_header)),
            (both.clone(), None, of_event(in_body)),
            (both, Some(in_header), of_event(in_body)),
        ] {
            assert_eq!(decoded(&body, header).trace, expected, "{body}");
        }
        // What names no trace refuses no event.
        for invalid in [
            json!(null),
            json!(7),
            json!(-7),
            json!(0.5),
            json!(true),
            json!(["00"]),
            json!({"a": [1]}),
            json!(""),
            json!("00-4BF92F3577B34DA6A3CE929D0E0E4736-00F067AA0BA902B7-01"),
        ] {
            let body = with("traceparent", invalid);
            assert_eq!(decoded(&body, None), untraced, "{body}");
            let trace = decoded(&body, Some(in_header)).trace;
            assert_eq!(trace, of_event(in_header), "{body}");
        }
        // The events of the Go services have it in their header.
        let body =
            json!({"user_id": 7, "video_id": 9, "action_type": 1, "timestamp": 1_789_999_000});
        let event = decoded(&body, Some(in_header));
        assert_eq!(event.trace, Some(in_header.of_event(event.event_id)));
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
    fn own_event_of_an_unserved_type_is_left_to_others() {
        let of_type = |word: &str| {
            let mut body = with("resource_type", json!(word));
            body["version"] = json!(NOW.0);
            body.to_string()
        };
        let song = of_type("song");
        assert_eq!(
            decode_on(OWN, song.as_bytes(), 42),
            Err(Undecodable::NotServed("song".to_owned()))
        );
        // What no process can serve is no event.
        let malformed = decode_on(OWN, of_type("Song!").as_bytes(), 42);
        assert!(matches!(malformed, Err(Undecodable::Field(_))));
        let foreign = decode_on(FOREIGN, song.as_bytes(), 42);
        assert!(matches!(foreign, Err(Undecodable::Field(_))));
        // A word that this process knows, and does not serve.
        let body = encode(&accepted(NOW));
        let message = Incoming {
            subject: OWN,
            body: &body,
            sequence: 42,
            trace: None,
        };
        let served: ResourceTypes = "photo".parse().expect("types");
        assert_eq!(
            decode(&message, NOW, &served, IdKinds::default()),
            Err(Undecodable::NotServed("video".to_owned()))
        );
    }

    #[test]
    fn foreign_event_version_is_its_time() {
        let event = read(&valid()).expect("valid");
        assert_eq!(event.behavior, BehaviorType::Share);
        assert_eq!(event.version, Version::at(event.occurred_at));
        assert_eq!(event.source, Source::Foreign("feed".to_owned()));
    }

    #[test]
    fn every_database_can_store_the_times_of_an_event() {
        let leap = read(&with("occurred_at", json!("2016-12-31T23:59:60.25Z"))).expect("valid");
        let next = "2017-01-01T00:00:00.25Z".parse().expect("a time");
        assert_eq!((leap.occurred_at, leap.version), (next, Version::at(next)));
        let of_both = |occurred_at: &str, version: i64| {
            let mut body = with("occurred_at", json!(occurred_at));
            body["version"] = json!(version);
            decode_on(OWN, body.to_string().as_bytes(), 42)
        };
        let noon = "2026-09-21T12:00:00Z";
        assert!(of_both(noon, Version::LAST.0).is_ok());
        for (occurred_at, version, reason) in [
            (noon, Version::LAST.0 + 1, "before the year 10000"),
            (noon, i64::MAX, "before the year 10000"),
            ("1960-01-01T00:00:00Z", NOW.0, "before 1970"),
        ] {
            let refused = of_both(occurred_at, version)
                .expect_err("no event")
                .to_string();
            assert!(refused.contains(reason), "{refused}");
        }
    }

    #[test]
    fn undecodable_message_is_rejected_with_a_reason() {
        let late = with("occurred_at", json!("2027-01-01T00:00:00Z"));
        let versioned = with("version", json!(NOW.0 + 400_000_000));
        for (body, reason) in [
            (with("event_id", json!("seven")), "UUID"),
            (with("user_id", json!("seven")), "user_id must be a number"),
            (with("user_id", json!(0)), "user_id must be a number"),
            (
                with("resource_id", json!(-1)),
                "resource_id must be a number",
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
}
