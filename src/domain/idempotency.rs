//! Requests that are done once: the same `Idempotency-Key` gives the same events and the same answer.

use std::time::Duration;

use chrono::{DateTime, Utc};
use uuid::{Builder, Uuid};

use super::version::Version;

/// For how long a key is known.
pub const KEPT_FOR: Duration = Duration::from_secs(24 * 60 * 60);

/// What the events of one request are made with: the id and the version of the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// The first event's id, a UUID v7.
    pub event_id: Uuid,
    /// The first event's version; those of the others follow it without a gap.
    pub version: Version,
    /// Whether somebody has worked on this request before, so that its events may be under way.
    pub resumed: bool,
}

impl Identity {
    /// What the event at this place of the request is made with. The same for the same request, whoever
    /// makes it, and again a UUID v7.
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

/// A request with a key, as it comes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyedRequest {
    /// Its place in the table: the hash of caller and key.
    pub id: String,
    /// Who sends it.
    pub caller: String,
    /// The key.
    pub key: String,
    /// The hash of what it asks for.
    pub fingerprint: String,
    /// What its events are made with if nobody has made them yet. The id also names this attempt.
    pub identity: Identity,
}

/// A request as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptRequest {
    /// The hash of what it asks for.
    pub fingerprint: String,
    /// The id of its first event.
    pub event_id: Uuid,
    /// The version of its first event.
    pub version: Version,
    /// The attempt that works on it, or was the last to do so.
    pub holder: Uuid,
    /// Until when that attempt is left alone.
    pub lease_until: DateTime<Utc>,
    /// What was answered, once it was.
    pub answer: Option<String>,
    /// When the key was first seen.
    pub created_at: DateTime<Utc>,
}

/// What a kept request means for one that comes with its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It is this very attempt's.
    Mine,
    /// Its day is over: the key is free.
    Expired,
    /// It asked for something else.
    Reused,
    /// It has been answered.
    Answered,
    /// Whoever worked on it has given up, or has not been heard of for too long.
    Lapsed,
    /// Somebody works on it.
    InProgress,
}

impl KeptRequest {
    /// What it means for this request.
    #[must_use]
    pub fn standing(&self, request: &KeyedRequest, now: DateTime<Utc>) -> Standing {
        if self.holder == request.identity.event_id {
            Standing::Mine
        } else if self.created_at + KEPT_FOR <= now {
            Standing::Expired
        } else if self.fingerprint != request.fingerprint {
            Standing::Reused
        } else if self.answer.is_some() {
            Standing::Answered
        } else if self.lease_until <= now {
            Standing::Lapsed
        } else {
            Standing::InProgress
        }
    }

    /// Lets this request have it until the lease ends, if it may; answers what becomes of the request, and
    /// whether this has changed.
    pub fn begin(
        &mut self,
        request: &KeyedRequest,
        now: DateTime<Utc>,
        lease_until: DateTime<Utc>,
    ) -> (Begun, bool) {
        let Identity {
            event_id, version, ..
        } = request.identity;
        let begun = match self.standing(request, now) {
            Standing::Mine => Begun::Yours(self.identity()),
            Standing::Expired => {
                *self = Self {
                    fingerprint: request.fingerprint.clone(),
                    event_id,
                    version,
                    holder: event_id,
                    lease_until,
                    answer: None,
                    created_at: now,
                };
                return (Begun::Yours(self.identity()), true);
            }
            Standing::Lapsed => {
                self.holder = event_id;
                self.lease_until = lease_until;
                return (Begun::Yours(self.identity()), true);
            }
            Standing::Reused => Begun::Reused,
            Standing::InProgress => Begun::InProgress,
            Standing::Answered => Begun::Answered(self.answer.clone().unwrap_or_default()),
        };
        (begun, false)
    }

    /// What its events are made with, by an attempt that has taken it.
    #[must_use]
    pub fn identity(&self) -> Identity {
        Identity {
            event_id: self.event_id,
            version: self.version,
            resumed: self.holder != self.event_id,
        }
    }
}

/// What becomes of a request with a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begun {
    /// It is to be done, with this.
    Yours(Identity),
    /// It was done: this was answered.
    Answered(String),
    /// Its key was used for something else.
    Reused,
    /// Somebody works on it.
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
    fn stored_request_decides_the_response() {
        let now = Utc::now();
        let second = Duration::from_secs(1);
        let mine = request("f");
        let kept = KeptRequest {
            fingerprint: "f".into(),
            event_id: mine.identity.event_id,
            version: Version(17),
            holder: mine.identity.event_id,
            lease_until: now + second,
            answer: None,
            created_at: now,
        };
        assert_eq!(kept.standing(&mine, now), Standing::Mine);
        assert!(!kept.identity().resumed);
        let other = request("f");
        assert_eq!(kept.standing(&other, now), Standing::InProgress);
        assert_eq!(kept.standing(&other, now + second), Standing::Lapsed);
        assert_eq!(kept.standing(&request("g"), now + second), Standing::Reused);
        assert_eq!(
            kept.standing(&request("g"), now + KEPT_FOR),
            Standing::Expired
        );
        let answered = KeptRequest {
            answer: Some("{}".into()),
            ..kept.clone()
        };
        assert_eq!(answered.standing(&other, now), Standing::Answered);
        assert_eq!(answered.standing(&request("g"), now), Standing::Reused);
        let taken = KeptRequest {
            holder: other.identity.event_id,
            ..kept
        };
        assert_eq!(taken.standing(&other, now), Standing::Mine);
        assert!(taken.identity().resumed);
        assert_eq!(taken.identity().event_id, mine.identity.event_id);
    }
}
