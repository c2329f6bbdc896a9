//! Accepting behaviors: durable before the answer, and likes in the cache at the same time.

use std::collections::HashSet;
use std::time::Instant;

use actor_kit::{Answer, Refused, Slot};
use chrono::{DateTime, Utc};
use futures_util::future::join_all;
use uuid::Uuid;

use super::Likes;
use crate::actors::{BehaviorRecorder, CacheWriter, EventPublisher};
use crate::domain::{
    BehaviorEvent, BehaviorType, Durability, Flight, Identity, InvalidBehavior, Pair, Resource,
    UserId, Version, VersionedState,
};
use crate::messages::{Apply, ApplyOutcome, Forget, NotRecorded, Publish, Record};
use crate::telemetry::{Dependency, LikeAccepted};

/// An accepted behavior.
#[derive(Debug, Clone, Copy)]
pub struct Accepted {
    /// The event's id.
    pub event_id: Uuid,
    /// Whether this changed the pair's like; `None` if that cannot be told now, or it is about none.
    pub changed: Option<bool>,
    /// The like count with it; `None` if that cannot be told now.
    pub like_count: Option<i64>,
    /// What the event has reached.
    pub durability: Durability,
    /// Whether the cache has it too.
    pub cached: bool,
}

/// Why a like was not accepted. The cache is as before. If the answer of what makes it durable was lost,
/// the event may still arrive; to send the like again is safe, for the newest wins.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAccepted {
    /// The request asks for something that cannot be.
    #[error(transparent)]
    Invalid(#[from] InvalidBehavior),
    /// More is waiting than may wait.
    #[error("{0}")]
    Overloaded(Refused),
    /// Nothing that makes it durable can be reached; whoever tried has logged why.
    #[error("neither the broker nor the database can take this now")]
    Unavailable,
    /// Other events of the same user and resource were newer each time; the newest is dated then.
    #[error(
        "other events of this user and resource were newer {DRAWS} times; the newest is dated {0}"
    )]
    Overtaken(DateTime<Utc>),
    /// Two of the parts that it goes through are gone.
    #[error("{} and {} cannot be reached; nothing was changed", .0.as_str(), .1.as_str())]
    DependenciesUnavailable(Dependency, Dependency),
    /// The database refuses it, which no valid like should meet.
    #[error("{0}")]
    Internal(String),
}

/// How often a version may lose to a newer one of the same pair before the request is given up.
const DRAWS: usize = 5;

/// A behavior that somebody asks to be taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LikeRequest {
    /// Who does it.
    pub user_id: UserId,
    /// To what.
    pub resource: Resource,
    /// What.
    pub behavior: BehaviorType,
}

impl LikeRequest {
    /// The pair that it is about, if it is a like or unlike.
    fn pair(&self) -> Option<Pair> {
        let pair = Pair {
            resource: self.resource.clone(),
            user_id: self.user_id.clone(),
        };
        self.behavior.action().map(|_| pair)
    }
}

impl Likes {
    /// Accepts a behavior. The work goes on to its end even if the caller goes away.
    ///
    /// # Errors
    /// If it is not valid, or cannot be made durable now; then the cache is as before.
    pub async fn accept(
        &self,
        asked: LikeRequest,
        identity: Option<Identity>,
    ) -> Result<Accepted, NotAccepted> {
        let accepted = self.accept_all(vec![asked], identity).await.pop();
        accepted.unwrap_or_else(|| Err(NotAccepted::Internal("there is no answer".into())))
    }

    /// As [`accept`](Self::accept), for several, each with an answer of its own; of those of one pair,
    /// the last one wins. `identity` is what the events of a request with a key are made with.
    pub async fn accept_all(
        &self,
        asked: Vec<LikeRequest>,
        identity: Option<Identity>,
    ) -> Vec<Result<Accepted, NotAccepted>> {
        let likes = self.clone();
        let count = asked.len();
        let work = async move {
            let mut later = HashSet::new();
            let mut drafts: Vec<_> = asked
                .into_iter()
                .enumerate()
                .rev()
                .map(|(place, asked)| {
                    let is_last = asked.pair().is_none_or(|pair| later.insert(pair));
                    Draft {
                        asked,
                        identity: identity.map(|identity| identity.nth(place)),
                        must_win: is_last && !identity.is_some_and(|identity| identity.resumed),
                    }
                })
                .collect();
            drafts.reverse();
            // All are sent before any is waited for, so that their versions are in the order of the request.
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
            // Both are under way. The cache, mostly the faster of the two, is asked for its answer last, when
            // it is there and wakes nobody.
            let durable = self.make_durable(event, publish, record).await;
            let outcome = match applied {
                Some(applied) => applied.await.unwrap_or_default(),
                None => ApplyOutcome::default(),
            };
            let durability = match durable {
                Ok(durability) => durability,
                Err(failure) => {
                    self.put_back(flight.as_ref()).await;
                    return Err(failure);
                }
            };
            // The user acts now, so this request must win over what a clock that runs ahead has dated.
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
                    action: action.as_str(),
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

    /// Draws a version above `newer`, and sends an event to the cache if it likes or unlikes. What makes it
    /// durable follows in [`settle`](Self::settle). Room is taken first, so that an overload changes neither.
    fn send(&self, draft: &Draft, newer: Version) -> Result<Sent, NotAccepted> {
        // With two parts gone a like might be kept, but not come to its end: nothing is half done.
        if let Some((one, other)) = self.gone.two() {
            return Err(NotAccepted::DependenciesUnavailable(one, other));
        }
        let asked = &draft.asked;
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
        );
        let applied = event.action().zip(asked.pair()).map(|(action, pair)| {
            apply.ask(Apply {
                pair,
                mark: VersionedState::new(version, action),
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

    /// Takes an event that could not be made durable back out of the cache.
    async fn put_back(&self, flight: Option<&Flight>) {
        let Some(flight) = flight else {
            return;
        };
        let put_back = Forget {
            pair: flight.pair().clone(),
            version: flight.version(),
        };
        if let Ok(answer) = self.cache_writer.ask_or_wait(put_back).await {
            // Answered or not, the cache writer has it; there is no more to do about it here.
            let _ = answer.await;
        }
    }

    fn reserve(&self) -> Result<Slots, NotAccepted> {
        let publish = self
            .publisher
            .as_ref()
            .map(|publisher| publisher.reserve(1));
        Ok(Slots {
            publish: publish.transpose().map_err(NotAccepted::Overloaded)?,
            record: self.recorder.reserve(1).map_err(NotAccepted::Overloaded)?,
            apply: self
                .cache_writer
                .reserve(1)
                .map_err(NotAccepted::Overloaded)?,
        })
    }

    /// Publishes the event or, where that cannot be done, records it. An event whose acknowledgement
    /// was lost may take both ways; it has one id, so that it counts once.
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
        });
        let Ok(failures) = recorded.await else {
            return Err(NotAccepted::Unavailable);
        };
        match failures.into_iter().next() {
            None => Ok(Durability::Database),
            Some((_, NotRecorded::Conflict)) => Err(NotAccepted::Internal(
                "the event's id belongs to another event".into(),
            )),
            Some((_, NotRecorded::Refused(reason))) => Err(NotAccepted::Internal(reason)),
            Some((_, NotRecorded::Unavailable(_) | NotRecorded::Rejected(_))) => {
                Err(NotAccepted::Unavailable)
            }
        }
    }
}

/// A behavior to be sent.
struct Draft {
    asked: LikeRequest,
    /// What the event of a request with a key is made with. Without it, the event gets a new id and a version
    /// when it is sent.
    identity: Option<Identity>,
    /// Whether it is sent again under a newer version if another event of its pair is newer: not if that is
    /// a later one of the same request, and not if it was sent before and may have been overtaken since.
    must_win: bool,
}

/// A behavior on its way: in the cache writer's mailbox, and not durable yet.
struct Sent {
    event: BehaviorEvent,
    /// Its place among the requests of its pair; `None` if it neither likes nor unlikes.
    flight: Option<Flight>,
    applied: Option<Answer<ApplyOutcome>>,
    publish: Option<Slot<EventPublisher>>,
    record: Slot<BehaviorRecorder>,
}

/// Reserved room in every mailbox that one event may need.
struct Slots {
    publish: Option<Slot<EventPublisher>>,
    record: Slot<BehaviorRecorder>,
    apply: Slot<CacheWriter>,
}
