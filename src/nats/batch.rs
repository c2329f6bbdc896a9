//! Several of our own events in one message: a JSON array on a subject of its own. The event publisher packs what waits, the
//! subscriber unpacks it, and an erasure removes events from it.

use bytes::Bytes;
use serde_json::Value;
use uuid::Uuid;

use super::decode::{Incoming, own, own_from_value};
use super::encode::{EventJson, encode, subject, write};
use super::undecodable::Undecodable;
use crate::domain::origin::ACCEPTED_BATCH;
use crate::domain::{BehaviorEvent, IdKinds, ResourceTypes, Source, TraceParent};

/// A message to publish, and how many events it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packed {
    /// The number of events.
    pub events: usize,
    /// The subject.
    pub(super) subject: String,
    /// The body.
    pub(super) body: Bytes,
    /// The id by which the server drops repeats; `None` for a batch, which is published once.
    pub(super) message_id: Option<String>,
    /// The trace of a single event; the events of a batch have theirs in the body.
    pub(super) trace: Option<TraceParent>,
}

impl Packed {
    /// Returns the message of a single event.
    pub(super) fn one(event: &BehaviorEvent, message_id: String) -> Self {
        Self {
            events: 1,
            subject: subject(event),
            body: encode(event),
            message_id: Some(message_id),
            trace: event.trace,
        }
    }

    fn batch(events: usize, body: Vec<u8>) -> Self {
        Self {
            events,
            subject: ACCEPTED_BATCH.to_owned(),
            body: body.into(),
            // A batch may repeat an event of another one. If the server compared ids, it could drop the others.
            message_id: None,
            trace: None,
        }
    }
}

/// Packs events into as few messages as their bodies allow, in their order. A body has at most `largest` bytes, unless one
/// event alone has more. A lone event travels in the form of a single event.
#[must_use]
pub fn pack(events: &[&BehaviorEvent], largest: usize) -> Vec<Packed> {
    let mut packed = Vec::new();
    let mut rest = events;
    while let Some(first) = rest.first() {
        let (count, body) = fill(rest, largest);
        packed.push(match count {
            1 => Packed::one(first, first.event_id.hyphenated().to_string()),
            _ => Packed::batch(count, body),
        });
        rest = &rest[count..];
    }
    packed
}

/// Returns how many of the first events share a message, at least one, and the body of several.
fn fill(events: &[&BehaviorEvent], largest: usize) -> (usize, Vec<u8>) {
    /// The usual length of an event.
    const LENGTH: usize = 160;
    // Only Likewise may write the subject of batches, so they hold only what it acknowledges.
    let ours = events
        .iter()
        .take_while(|event| event.source == Source::Api);
    let ours = ours.count();
    if ours < 2 {
        return (1, Vec::new());
    }
    let mut body = Vec::with_capacity(largest.min(ours * LENGTH));
    body.push(b'[');
    for (count, event) in events[..ours].iter().enumerate() {
        let before = body.len();
        if count > 0 {
            body.push(b',');
        }
        write(&EventJson::in_batch(event), &mut body);
        // The last byte closes the array.
        if count > 0 && body.len() >= largest {
            body.truncate(before);
            body.push(b']');
            return (count, body);
        }
    }
    body.push(b']');
    (ours, body)
}

/// An element of a batch that is no valid event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoEvent {
    /// Its JSON.
    pub body: Bytes,
    /// Its id, if it has one.
    pub event_id: Option<Uuid>,
    /// Why it is no event.
    pub reason: Undecodable,
}

/// Returns whether messages on this subject hold several events.
#[must_use]
pub fn is_batch(subject: &str) -> bool {
    subject == ACCEPTED_BATCH
}

/// Decodes a batch. Each element is an event or not, whatever the others are.
///
/// # Errors
/// If the body is no JSON array.
pub fn unpack(
    message: &Incoming<'_>,
    served: &ResourceTypes,
    kinds: IdKinds,
) -> Result<Vec<Result<BehaviorEvent, NoEvent>>, Undecodable> {
    let Incoming { body, sequence, .. } = *message;
    let typed: Option<Vec<EventJson<'_>>> = serde_json::from_slice(body).ok();
    let events = typed.and_then(|typed| {
        let events = typed.into_iter();
        let events = events.map(|json| Some(Ok(own(json, sequence, served, kinds).ok()?)));
        events.collect()
    });
    // Almost always each is valid. Otherwise each is parsed again, for its reason.
    if let Some(events) = events {
        return Ok(events);
    }
    let elements = elements(body)?.into_iter().map(|json| {
        own_from_value(json.clone(), sequence, served, kinds).map_err(|reason| NoEvent {
            body: json.to_string().into(),
            event_id: json["event_id"].as_str().and_then(|id| id.parse().ok()),
            reason,
        })
    });
    Ok(elements.collect())
}

/// Returns the body of a batch without some of its elements; `None` if nothing is left.
///
/// # Errors
/// If it is no JSON array.
pub(super) fn without(
    body: &[u8],
    is_removed: impl Fn(usize, &Value) -> bool,
) -> Result<Option<Bytes>, Undecodable> {
    let elements = elements(body)?.into_iter().enumerate();
    let rest: Vec<Value> = elements
        .filter(|(place, json)| !is_removed(*place, json))
        .map(|(_, json)| json)
        .collect();
    if rest.is_empty() {
        return Ok(None);
    }
    let mut body = Vec::new();
    write(&rest, &mut body);
    Ok(Some(body.into()))
}

fn elements(body: &[u8]) -> Result<Vec<Value>, Undecodable> {
    serde_json::from_slice(body).map_err(|error| Undecodable::NotABatch(error.to_string()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::json;

    use super::*;
    use crate::domain::{BehaviorType, Resource, ResourceType, Version};

    const NOW: i64 = 1_790_000_000_000_000;

    fn event(n: i64) -> BehaviorEvent {
        BehaviorEvent::accepted(
            Uuid::from_u128(n.unsigned_abs().into()),
            n.into(),
            Resource {
                resource_type: ResourceType::COMMENT,
                id: (n + 1).into(),
            },
            BehaviorType::ALL[n as usize % BehaviorType::ALL.len()],
            Version(NOW + n),
        )
    }

    fn opened(body: &[u8]) -> Result<Vec<Result<BehaviorEvent, NoEvent>>, Undecodable> {
        let message = Incoming {
            subject: ACCEPTED_BATCH,
            body,
            sequence: 42,
            trace: None,
        };
        unpack(&message, &ResourceTypes::default(), IdKinds::default())
    }

    fn arrived(event: &BehaviorEvent) -> BehaviorEvent {
        BehaviorEvent {
            stream_sequence: Some(42),
            ..event.clone()
        }
    }

    #[test]
    fn events_that_wait_share_a_message() {
        let mut events: Vec<_> = (1..=5).map(event).collect();
        // Its time is not the version's.
        events[3].occurred_at = Version(NOW).moment();
        let packed = pack(&events.iter().collect::<Vec<_>>(), 1_000);
        let [message] = packed.as_slice() else {
            panic!("{packed:?}");
        };
        assert_eq!(
            (message.events, &*message.subject, &message.message_id),
            (5, "likewise.accepted.batch", &None)
        );
        let text = std::str::from_utf8(&message.body).expect("text");
        assert_eq!(text.matches("occurred_at").count(), 1, "{text}");
        let expected: Vec<_> = events.iter().map(|event| Ok(arrived(event))).collect();
        assert_eq!(opened(&message.body), Ok(expected));
    }

    #[test]
    fn each_event_of_a_batch_keeps_its_trace() {
        let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let caller = TraceParent::parse(text);
        let traced = |n: i64| event(n).traced(caller);
        let events = [traced(1), event(2), traced(3)];
        assert_ne!(events[0].trace, events[2].trace);
        let packed = pack(&events.iter().collect::<Vec<_>>(), 1_000);
        let body = std::str::from_utf8(&packed[0].body).expect("text");
        assert_eq!(body.matches("traceparent").count(), 2, "{body}");
        let expected: Vec<_> = events.iter().map(|event| Ok(arrived(event))).collect();
        assert_eq!(opened(&packed[0].body), Ok(expected));
        // That of a lone event is in the header.
        let lone = pack(&[&events[0]], 1_000);
        assert_eq!(lone[0].trace, events[0].trace);
        let body = std::str::from_utf8(&lone[0].body).expect("text");
        assert!(!body.contains("traceparent"), "{body}");
    }

    #[test]
    fn lone_event_travels_as_a_single_event() {
        let event = event(1);
        let packed = pack(&[&event], 1_000);
        let expected = Packed::one(&event, event.event_id.to_string());
        assert_eq!(packed, [expected]);
        assert_eq!(pack(&[], 1_000), []);
    }

    #[test]
    fn message_stays_below_the_largest_body() {
        let events: Vec<_> = (1..=100).map(event).collect();
        let events: Vec<_> = events.iter().collect();
        for largest in [1, 200, 333, 1_000, 5_000, 100_000] {
            let packed = pack(&events, largest);
            let mut found = Vec::new();
            for message in &packed {
                if message.events > 1 {
                    assert!(message.body.len() <= largest, "{largest}: {message:?}");
                    found.extend(opened(&message.body).expect("a batch"));
                } else {
                    assert_eq!(message.subject.matches('.').count(), 3);
                    found.push(Ok(arrived(events[found.len()])));
                }
            }
            assert_eq!(packed.iter().map(|one| one.events).sum::<usize>(), 100);
            let expected: Vec<_> = events.iter().map(|event| Ok(arrived(event))).collect();
            assert_eq!(found, expected, "{largest}");
        }
    }

    #[test]
    fn foreign_event_stays_alone() {
        let mut events: Vec<_> = (1..=5).map(event).collect();
        for foreign in [0, 2] {
            events[foreign].source = Source::Foreign("feed".to_owned());
        }
        let packed = pack(&events.iter().collect::<Vec<_>>(), 10_000);
        let sizes: Vec<_> = packed
            .iter()
            .map(|one| (one.events, is_batch(&one.subject)))
            .collect();
        assert_eq!(sizes, [(1, false), (1, false), (1, false), (2, true)]);
        let foreign = packed
            .iter()
            .filter(|one| one.subject.contains("behaviors"));
        assert_eq!(foreign.count(), 2);
    }

    #[test]
    fn bad_element_does_not_hide_its_neighbours() {
        let (first, last) = (event(1), event(5));
        let good =
            |event: &BehaviorEvent| serde_json::to_value(EventJson::in_batch(event)).expect("JSON");
        let id = Uuid::from_u128(7).to_string();
        let with = |field: &str, value: Value| {
            let mut body = good(&event(2));
            body["event_id"] = json!(id);
            body[field] = value;
            body
        };
        for (bad, reason) in [
            (with("behavior", json!("liked")), "liked"),
            (with("user_id", json!(0)), "user_id must be a number"),
            (with("resource_type", json!("song")), "song"),
            (with("version", json!(null)), "version is missing"),
            (with("version", json!(i64::MAX)), "occurred_at is missing"),
            (with("version", json!(-1)), "before 1970"),
            (json!("an event"), "not a JSON object"),
            (json!([id, 7]), "not a JSON object"),
        ] {
            let body = json!([good(&first), bad, good(&last)]).to_string();
            let mut found = opened(body.as_bytes()).expect("a batch");
            assert_eq!(found.pop(), Some(Ok(arrived(&last))));
            let refused = found.pop().expect("three").expect_err("no event");
            assert!(refused.reason.to_string().contains(reason), "{refused:?}");
            assert_eq!(
                serde_json::from_slice::<Value>(&refused.body).ok(),
                Some(bad)
            );
            let has_id = bad_has_id(&refused);
            assert_eq!(
                refused.event_id.map(|id| id.to_string()),
                has_id.then(|| id.clone())
            );
            assert_eq!(found, [Ok(arrived(&first))]);
        }
        for whole in ["{}", "not json", "[{},"] {
            assert!(matches!(
                opened(whole.as_bytes()),
                Err(Undecodable::NotABatch(_))
            ));
        }
        assert_eq!(opened(b"[]"), Ok(Vec::new()));
    }

    fn bad_has_id(refused: &NoEvent) -> bool {
        refused.body.starts_with(b"{")
    }

    #[test]
    fn removed_events_leave_the_others() {
        let events: Vec<_> = (1..=4).map(event).collect();
        let body = &pack(&events.iter().collect::<Vec<_>>(), 10_000)[0].body;
        let rest = |removed: BTreeSet<usize>| {
            let rest = without(body, |place, _| removed.contains(&place)).expect("a batch");
            rest.map(|rest| opened(&rest).expect("a batch"))
        };
        let left = [0, 3].map(|place| Ok(arrived(&events[place])));
        assert_eq!(rest([1, 2].into()), Some(left.into()));
        assert_eq!(rest((0..4).collect()), None);
    }
}
