//! Idempotent requests: the same `Idempotency-Key` gives the same events and the same response.

use std::time::Duration;

use chrono::{DateTime, Utc};
use uuid::{Builder, Uuid};

use super::version::Version;

/// How long a key is kept.
pub const KEPT_FOR: Duration = Duration::from_secs(24 * 60 * 60);

/// The id and version of a request's first event, from which those of the others follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// The first event's id, a UUID v7.
    pub event_id: Uuid,
    /// The first event's version; the versions of the others follow without a gap.
    pub version: Version,
    /// Whether an earlier attempt worked on this request, so its events may be in flight.
    pub resumed: bool,
}

impl Identity {
    /// Returns the identity of the event at this position of the request. It is the same in every attempt, and its id is a
    /// UUID v7.
    #[must_use]
    pub fn nth(&self, place: usize) -> Self {
        if place == 0 {
            return *self;
        }
        let derived = Uuid::new_v5(&self.event_id, &place.to_be_bytes());
        let mut random = [0; 10];
        random.copy_from_slice(&derived.as_bytes()[..10]);
        let millis = self.event_id.as_u64_pair().0 >> 16;
        Self {
            event_id: Builder::from_unix_timestamp_millis(millis, &random).into_uuid(),
            version: Version(self.version.0 + i64::try_from(place).unwrap_or_default()),
            resumed: self.resumed,
        }
    }
}

/// A request with a key, as received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyedRequest {
    /// Its primary key: the hash of caller and key.
    pub id: String,
    /// The caller.
    pub caller: String,
    /// The key.
    pub key: String,
    /// The hash of the request's content.
    pub fingerprint: String,
    /// The identity of its events if no attempt stored one. The id also names this attempt.
    pub identity: Identity,
}

/// A stored request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRequest {
    /// The hash of the request's content.
    pub fingerprint: String,
    /// The id of its first event.
    pub event_id: Uuid,
    /// The version of its first event.
    pub version: Version,
    /// The current or last attempt.
    pub holder: Uuid,
    /// The end of that attempt's lease.
    pub lease_until: DateTime<Utc>,
    /// The response, once it is stored.
    pub answer: Option<String>,
    /// When the key was first seen.
    pub created_at: DateTime<Utc>,
}

impl StoredRequest {
    /// Lets an attempt take the request until `lease_until`, if the key is free for it. Returns how the
    /// attempt starts, and whether this changed the stored request.
    pub fn start(
        &mut self,
        request: &KeyedRequest,
        now: DateTime<Utc>,
        lease_until: DateTime<Utc>,
    ) -> (Started, bool) {
        let attempt = request.identity.event_id;
        if self.holder == attempt {
            return (Started::Yours(self.identity()), false);
        }
        if self.created_at + KEPT_FOR <= now {
            *self = Self {
                fingerprint: request.fingerprint.clone(),
                event_id: attempt,
                version: request.identity.version,
                holder: attempt,
                lease_until,
                answer: None,
                created_at: now,
            };
        } else if self.fingerprint != request.fingerprint {
            return (Started::Reused, false);
        } else if let Some(answer) = &self.answer {
            return (Started::Answered(answer.clone()), false);
        } else if now < self.lease_until {
            return (Started::InProgress, false);
        } else {
            (self.holder, self.lease_until) = (attempt, lease_until);
        }
        (Started::Yours(self.identity()), true)
    }

    /// Returns the identity of its events for the attempt that took it.
    #[must_use]
    pub fn identity(&self) -> Identity {
        Identity {
            event_id: self.event_id,
            version: self.version,
            resumed: self.holder != self.event_id,
        }
    }
}

/// How an attempt at a request with a key starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Started {
    /// The attempt does the request, with this identity.
    Yours(Identity),
    /// The request was done before, with this response.
    Answered(String),
    /// The key belongs to a different request.
    Reused,
    /// Another attempt holds the request.
    InProgress,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        Identity {
            event_id: Uuid::now_v7(),
            version: Version(17),
            resumed: false,
        }
    }

    fn request(fingerprint: &str) -> KeyedRequest {
        KeyedRequest {
            id: "id".into(),
            caller: "user 1".into(),
            key: "key".into(),
            fingerprint: fingerprint.into(),
            identity: identity(),
        }
    }

    #[test]
    fn event_ids_of_a_request_are_stable_and_distinct() {
        let first = identity();
        assert_eq!(first.nth(0), first);
        let all: Vec<_> = (0..1_000).map(|place| first.nth(place)).collect();
        let again: Vec<_> = (0..1_000).map(|place| first.nth(place)).collect();
        assert_eq!(all, again);
        let mut ids: Vec<_> = all.iter().map(|identity| identity.event_id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 1_000);
        for (place, one) in all.iter().enumerate() {
            assert_eq!(one.event_id.get_version_num(), 7);
            assert_eq!(one.event_id.get_timestamp(), first.event_id.get_timestamp());
            assert_eq!(one.version, Version(17 + place as i64));
        }
        assert_ne!(identity().nth(1).event_id, first.nth(1).event_id);
    }

    #[test]
    fn started_follows_from_the_stored_request() {
        let now = Utc::now();
        let second = Duration::from_secs(1);
        let mine = request("f");
        let stored = StoredRequest {
            fingerprint: "f".into(),
            event_id: mine.identity.event_id,
            version: Version(17),
            holder: mine.identity.event_id,
            lease_until: now + second,
            answer: None,
            created_at: now,
        };
        let start = |stored: &StoredRequest, request: &KeyedRequest, now: DateTime<Utc>| {
            let mut stored = stored.clone();
            let (started, changed) = stored.start(request, now, now + 9 * second);
            assert_eq!(changed, stored.lease_until == now + 9 * second);
            (started, stored)
        };
        assert_eq!(start(&stored, &mine, now).0, Started::Yours(mine.identity));
        let other = request("f");
        assert_eq!(start(&stored, &other, now).0, Started::InProgress);
        let different = request("g");
        let lapsed = now + second;
        assert_eq!(start(&stored, &different, lapsed).0, Started::Reused);
        let (started, taken) = start(&stored, &different, now + KEPT_FOR);
        assert_eq!(started, Started::Yours(different.identity));
        assert_eq!(taken.holder, taken.event_id);
        let answered = StoredRequest {
            answer: Some("{}".into()),
            ..stored.clone()
        };
        let answer = Started::Answered("{}".into());
        assert_eq!(start(&answered, &other, lapsed).0, answer);
        assert_eq!(start(&answered, &different, now).0, Started::Reused);
        let resumed = Identity {
            resumed: true,
            ..mine.identity
        };
        let (started, taken) = start(&stored, &other, lapsed);
        assert_eq!(started, Started::Yours(resumed));
        assert_eq!(taken.holder, other.identity.event_id);
        assert_eq!(start(&taken, &other, now).0, Started::Yours(resumed));
    }
}
