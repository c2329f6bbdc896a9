//! Accepts behaviors: makes each durable before it answers, and applies likes to the cache at the same time.
//! `web/likes/` and `web/legacy/` call it.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use actor_kit::{Answer, Refused, Slot};
use chrono::{DateTime, Utc};
use futures_util::future::join_all;
use uuid::Uuid;

use super::Likes;
use crate::actors::{BehaviorRecorder, CacheWriter, EventPublisher};
use crate::domain::{
    Action, BehaviorEvent, BehaviorType, Durability, ErasedKind, Flight, Identity, InvalidBehavior,
    Pair, Resource, TraceParent, UserId, Version, VersionedState,
};
use crate::messages::{Apply, ApplyOutcome, Forget, NotRecorded, Publish, Record};
use crate::telemetry::{Dependency, LikeAccepted};

/// An accepted behavior.
#[derive(Debug, Clone, Copy)]
pub struct Accepted {
    /// The event's id.
    pub event_id: Uuid,
    /// Whether the event changed the pair's like; `None` if that is unknown, or the event is no like event.
    pub changed: Option<bool>,
    /// The like count after the event; `None` if that is unknown.
    pub like_count: Option<i64>,
    /// Where the event is durable.
    pub durability: Durability,
    /// Whether the cache holds the event too.
    pub cached: bool,
}

/// Why a behavior was not accepted. The cache is as before. If the broker's or the database's answer was lost, the
/// event may still take effect. Sending the request again is safe, because the newest version wins.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAccepted {
    /// The request is invalid.
    #[error(transparent)]
    Invalid(#[from] InvalidBehavior),
    /// A mailbox is full, or its actor is paused.
    #[error("{0}")]
    Overloaded(Refused),
    /// Neither the broker nor the database stored the event. Publisher and recorder have logged why.
    #[error("neither the broker nor the database can store this now")]
    Unavailable,
    /// Each of [`DRAWS`] attempts met a newer event of the same user and resource. Holds the time of the newest.
    #[error(
        "other events of this user and resource were newer {DRAWS} times; the newest is dated {0}"
    )]
    Overtaken(DateTime<Utc>),
    /// Two dependencies of the pipeline are unavailable.
    #[error("{} and {} are unavailable; nothing was changed", .0.as_str(), .1.as_str())]
    DependenciesUnavailable(Dependency, Dependency),
    /// The user or the resource is erased.
    #[error("the {0} was erased")]
    Erased(ErasedKind),
    /// The database refused a valid event, or the pipeline failed.
    #[error("{0}")]
    Internal(String),
}

/// The number of versions drawn for one request. After as many newer events of the pair, the request fails.
const DRAWS: usize = 5;

/// A request to accept a behavior.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LikeRequest {
    /// The user.
    pub user_id: UserId,
    /// The resource.
    pub resource: Resource,
    /// The type of the behavior.
    pub behavior: BehaviorType,
    /// The trace that the caller sent.
    pub trace: Option<TraceParent>,
}

impl LikeRequest {
    /// The pair, if the behavior is a like or unlike.
    fn pair(&self) -> Option<Pair> {
        let pair = Pair {
            resource: self.resource.clone(),
            user_id: self.user_id.clone(),
        };
        self.behavior.action().map(|_| pair)
    }
}

impl Likes {
    /// Accepts a behavior. Dropping the future does not cancel the work.
    ///
    /// # Errors
    /// If the request is invalid, or its event cannot be made durable now. The cache is then as before.
    pub async fn accept(
        self: &Arc<Self>,
        asked: LikeRequest,
        identity: Option<Identity>,
    ) -> Result<Accepted, NotAccepted> {
        let likes = Arc::clone(self);
        let work = async move {
            let draft = Draft::new(asked, identity, true);
            likes
                .settle(likes.send(&draft, Version::NEVER), draft)
                .await
        };
        actix::spawn(work)
            .await
            .unwrap_or_else(|error| Err(NotAccepted::Internal(error.to_string())))
    }

    /// Accepts several behaviors, each as [`accept`](Self::accept) does, and returns a result for each. The last
    /// behavior of a pair wins. `identity` holds the first event id and version of a request with an
    /// `Idempotency-Key`.
    pub async fn accept_all(
        self: &Arc<Self>,
        asked: Vec<LikeRequest>,
        identity: Option<Identity>,
    ) -> Vec<Result<Accepted, NotAccepted>> {
        let likes = Arc::clone(self);
        let count = asked.len();
        let work = async move {
            let mut later = HashSet::new();
            let mut drafts: Vec<_> = asked
                .into_iter()
                .enumerate()
                .rev()
                .map(|(place, asked)| {
                    let is_last = asked.pair().is_none_or(|pair| later.insert(pair));
                    let identity = identity.map(|identity| identity.nth(place));
                    Draft::new(asked, identity, is_last)
                })
                .collect();
            drafts.reverse();
            // All are sent before the first is awaited, so versions ascend in the order of the request.
            let sent: Vec<_> = drafts
                .into_iter()
                .map(|draft| (likes.send(&draft, Version::NEVER), draft))
                .collect();
            join_all(
                sent.into_iter()
                    .map(|(sent, draft)| likes.settle(sent, draft)),
            )
            .await
        };
        actix::spawn(work).await.unwrap_or_else(|error| {
            let failed = NotAccepted::Internal(error.to_string());
            vec![Err(failed); count]
        })
    }

    /// Waits until a behavior is durable. If the cache or the database holds a newer event of its pair that a
    /// later request of this process did not make, sends the behavior again under a version above that one.
    async fn settle(
        &self,
        mut sent: Result<Sent, NotAccepted>,
        mut draft: Draft,
    ) -> Result<Accepted, NotAccepted> {
        let started = Instant::now();
        let mut newer = Version::NEVER;
        for _ in 0..DRAWS {
            let Sent {
                event,
                flight,
                applied,
                publish,
                record,
            } = sent?;
            let event_id = event.event_id;
            // Both requests are in flight. The cache usually answers first; awaiting it last saves a wake-up.
            let durable = self.make_durable(event, publish, record).await;
            let outcome = match applied {
                Some(applied) => applied.await.unwrap_or_default(),
                None => ApplyOutcome::default(),
            };
            let durability = match durable {
                Ok(durability) => durability,
                Err(failure) => {
                    self.revert(flight.as_ref()).await;
                    return Err(failure);
                }
            };
            // The user acts now, so the request must win over an event from a clock that runs ahead.
            if let (Some(version), Some(flight)) = (outcome.newer(), &flight) {
                self.clock.observe_at(version, self.now());
                if draft.must_win && !flight.is_followed_by(version) {
                    newer = newer.max(version);
                    draft.identity = None;
                    sent = self.send(&draft, newer);
                    continue;
                }
            }
            let applied = outcome.applied;
            let accepted = Accepted {
                event_id,
                changed: applied.and_then(|applied| applied.changed),
                like_count: applied.and_then(|applied| applied.like_count),
                durability,
                cached: applied.is_some(),
            };
            if let Some(action) = draft.asked.behavior.action() {
                LikeAccepted {
                    is_like: action == Action::Like,
                    durability,
                    cached: accepted.cached,
                    took: started.elapsed(),
                }
                .emit();
            }
            return Ok(accepted);
        }
        Err(NotAccepted::Overtaken(newer.moment()))
    }

    /// Draws a version above `newer`, and sends a like event to the cache. [`settle`](Self::settle) makes the event
    /// durable. Permits are reserved first, so an overload changes nothing.
    fn send(&self, draft: &Draft, newer: Version) -> Result<Sent, NotAccepted> {
        // With two dependencies down, a like could be stored but not completed.
        if let Some((one, other)) = self.gone.two() {
            return Err(NotAccepted::DependenciesUnavailable(one, other));
        }
        let asked = &draft.asked;
        if let Some(kind) = self.reader.erasures().of(&asked.user_id, &asked.resource) {
            return Err(NotAccepted::Erased(kind));
        }
        let Slots {
            publish,
            record,
            apply,
        } = self.reserve()?;
        let draw = |newest: Version| match draft.identity {
            Some(identity) => identity.version,
            None => self.clock.above_at(newest.max(newer), self.now()),
        };
        let flight = asked.pair().map(|pair| self.in_flight.begin(pair, draw));
        let version = match &flight {
            Some(flight) => flight.version(),
            None => draw(Version::NEVER),
        };
        let event = BehaviorEvent::accepted(
            draft
                .identity
                .map_or_else(Uuid::now_v7, |identity| identity.event_id),
            asked.user_id.clone(),
            asked.resource.clone(),
            asked.behavior,
            version,
        )
        .traced(asked.trace);
        let applied = event.action().zip(asked.pair()).map(|(action, pair)| {
            apply.ask(Apply {
                pair,
                state: VersionedState::new(version, action),
            })
        });
        Ok(Sent {
            event,
            flight,
            applied,
            publish,
            record,
        })
    }

    /// Reverts an event in the cache that could not be made durable.
    async fn revert(&self, flight: Option<&Flight>) {
        let Some(flight) = flight else {
            return;
        };
        let forget = Forget {
            pair: flight.pair().clone(),
            version: flight.version(),
        };
        if let Ok(answer) = self.cache_writer.ask_or_wait(forget).await {
            // The cache writer handles and logs its own failures.
            let _ = answer.await;
        }
    }

    fn reserve(&self) -> Result<Slots, NotAccepted> {
        let publish = match self
            .publisher
            .as_ref()
            .map(|publisher| publisher.reserve(1))
        {
            // Without the broker, likes go to the database.
            None | Some(Err(Refused::Paused(_))) => None,
            Some(slot) => Some(slot.map_err(NotAccepted::Overloaded)?),
        };
        Ok(Slots {
            publish,
            record: self.recorder.reserve(1).map_err(NotAccepted::Overloaded)?,
            apply: self
                .cache_writer
                .reserve(1)
                .map_err(NotAccepted::Overloaded)?,
        })
    }

    /// Publishes the event, or records it if publishing fails. An event whose acknowledgement was lost may take both
    /// paths. It has one id, so it counts once.
    async fn make_durable(
        &self,
        event: BehaviorEvent,
        publish: Option<Slot<EventPublisher>>,
        record: Slot<BehaviorRecorder>,
    ) -> Result<Durability, NotAccepted> {
        if let Some(publish) = publish {
            let published = publish.ask(Publish {
                event: event.clone(),
            });
            if let Ok(Ok(())) = published.await {
                return Ok(Durability::Broker);
            }
        }
        let recorded = record.ask(Record {
            events: vec![event],
            redelivered: false,
        });
        let Ok(failures) = recorded.await else {
            return Err(NotAccepted::Unavailable);
        };
        match failures.into_iter().next() {
            None => Ok(Durability::Database),
            Some((_, NotRecorded::Conflict)) => Err(NotAccepted::Internal(
                "the event's id belongs to another event".into(),
            )),
            Some((_, NotRecorded::Erased(kind))) => Err(NotAccepted::Erased(kind)),
            Some((_, NotRecorded::Refused(reason))) => Err(NotAccepted::Internal(reason)),
            Some((_, NotRecorded::Unavailable(_) | NotRecorded::Rejected(_))) => {
                Err(NotAccepted::Unavailable)
            }
        }
    }
}

/// A behavior that has no event yet.
struct Draft {
    asked: LikeRequest,
    /// The event id and version of a request with an `Idempotency-Key`. Without it, `send` draws both.
    identity: Option<Identity>,
    /// Whether the request draws a newer version when it meets a newer event of its pair. False if a later behavior
    /// of the same request has the same pair, and for a resumed request, which a newer event may have superseded.
    must_win: bool,
}

impl Draft {
    /// Returns the draft of a behavior. `is_last` tells whether no later behavior of the request has its pair.
    fn new(asked: LikeRequest, identity: Option<Identity>, is_last: bool) -> Self {
        Self {
            asked,
            identity,
            must_win: is_last && !identity.is_some_and(|identity| identity.resumed),
        }
    }
}

/// An event in flight: sent to the cache writer, and not durable yet.
struct Sent {
    event: BehaviorEvent,
    /// The event's place among the requests of its pair; `None` if it is no like event.
    flight: Option<Flight>,
    applied: Option<Answer<ApplyOutcome>>,
    publish: Option<Slot<EventPublisher>>,
    record: Slot<BehaviorRecorder>,
}

/// Reserved permits in every mailbox that one event may need.
struct Slots {
    publish: Option<Slot<EventPublisher>>,
    record: Slot<BehaviorRecorder>,
    apply: Slot<CacheWriter>,
}
