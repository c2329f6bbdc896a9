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
use super::draft::{Draft, LikeRequest};
use super::uncancelled::Uncancelled;
use crate::actors::{BehaviorRecorder, CacheWriter, EventPublisher};
use crate::domain::{
    Action, BehaviorEvent, Durability, ErasedKind, Flight, Identity, InvalidBehavior, Pair,
    Version, VersionedState,
};
use crate::messages::{Apply, ApplyOutcome, Forget, NotRecorded, Publish, Record, RecordOutcome};
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

/// The detail of an internal error caused by a panic, which the log reports.
const PANICKED: &str = "accepting the behavior panicked";

impl Likes {
    /// Accepts a behavior. Dropping the future does not cancel the work.
    ///
    /// # Errors
    /// If the request is invalid, or its event cannot be made durable now. The cache is then as before.
    pub async fn accept(
        self: Arc<Self>,
        asked: LikeRequest,
        identity: Option<Identity>,
    ) -> Result<Accepted, NotAccepted> {
        let work = async move {
            let draft = Draft::new(asked, identity, true);
            self.settle(self.send(&draft, Version::NEVER), draft).await
        };
        Uncancelled::new(work)
            .await
            .unwrap_or_else(|_| Err(NotAccepted::Internal(PANICKED.into())))
    }

    /// Accepts several behaviors, each as [`accept`](Self::accept) does, and returns a result for each. The last
    /// behavior of a pair wins. `identity` holds the first event id and version of a request with an
    /// `Idempotency-Key`.
    pub async fn accept_all(
        self: Arc<Self>,
        asked: Vec<LikeRequest>,
        identity: Option<Identity>,
    ) -> Vec<Result<Accepted, NotAccepted>> {
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
                .map(|draft| (self.send(&draft, Version::NEVER), draft))
                .collect();
            join_all(
                sent.into_iter()
                    .map(|(sent, draft)| self.settle(sent, draft)),
            )
            .await
        };
        Uncancelled::new(work)
            .await
            .unwrap_or_else(|_| vec![Err(NotAccepted::Internal(PANICKED.into())); count])
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
                asks_commit,
            } = sent?;
            let event_id = event.event_id;
            let asks_effect = asks_commit.is_some();
            // Both requests are in flight. The cache usually answers first; awaiting it last saves a wake-up.
            let durable = self.make_durable(event, asks_effect, publish, record).await;
            let mut outcome = match applied {
                Some(applied) => applied.await.unwrap_or_default(),
                None => ApplyOutcome::default(),
            };
            let (durability, recorded) = match durable {
                Ok(durable) => durable,
                Err(failure) => {
                    self.revert(flight.as_ref()).await;
                    return Err(failure);
                }
            };
            if let (Some(flight), Some(state)) = (&flight, asks_commit)
                && outcome.is_incomplete()
            {
                let pair = flight.pair();
                outcome = self.complete(outcome, pair, state, &recorded).await;
            }
            // The user acts now, so the request must win over an event from a clock that runs ahead.
            if let (Some(version), Some(flight)) = (outcome.newer(), &flight) {
                let now = self.now();
                self.clock.observe_at(version, now);
                if draft.must_win(version, now) && !flight.is_followed_by(version) {
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
        // The commit knows what the cache lacks, and this process settles a cache of its own at once.
        let commit_completes = publish.is_none() && !self.cache.is_shared();
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
        let action = event.action();
        let state = action.map(|action| VersionedState::new(version, action));
        let applied = asked.pair().zip(state).map(|(pair, state)| {
            apply.ask(Apply {
                pair,
                state,
                loads_missing: !commit_completes,
            })
        });
        Ok(Sent {
            event,
            flight,
            applied,
            publish,
            record,
            asks_commit: state.filter(|_| commit_completes),
        })
    }

    /// Completes the cache's answer to a recorded event by the effect of its commit. If the cache is not settled by that, the
    /// cache writer applies the event again first, and loads what is missing.
    async fn complete(
        &self,
        mut outcome: ApplyOutcome,
        pair: &Pair,
        state: VersionedState,
        recorded: &RecordOutcome,
    ) -> ApplyOutcome {
        if !recorded.is_settled {
            outcome = outcome.completed_again(self.apply_again(pair, state).await);
        }
        match &recorded.effect {
            Some(effect) => outcome.completed_by(effect, state),
            None => outcome,
        }
    }

    /// Applies an event again, unless the cache writer is paused or has no room: the cache may then show less than the database
    /// has.
    async fn apply_again(&self, pair: &Pair, state: VersionedState) -> ApplyOutcome {
        let again = self.cache_writer.ask(Apply {
            pair: pair.clone(),
            state,
            loads_missing: true,
        });
        match again {
            Ok(answer) => answer.await.unwrap_or_default(),
            Err(_) => ApplyOutcome::default(),
        }
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
    /// paths. It has one id, so it counts once. Returns what the recorder answered too.
    async fn make_durable(
        &self,
        event: BehaviorEvent,
        asks_effect: bool,
        publish: Option<Slot<EventPublisher>>,
        record: Slot<BehaviorRecorder>,
    ) -> Result<(Durability, RecordOutcome), NotAccepted> {
        if let Some(publish) = publish {
            let published = publish.ask(Publish {
                event: event.clone(),
            });
            if let Ok(Ok(())) = published.await {
                return Ok((Durability::Broker, RecordOutcome::default()));
            }
        }
        let recorded = record.ask(Record {
            events: vec![event],
            redelivered: false,
            asks_effect,
        });
        let Ok(mut recorded) = recorded.await else {
            return Err(NotAccepted::Unavailable);
        };
        match recorded.failures.pop() {
            None => Ok((Durability::Database, recorded)),
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

/// An event in flight: sent to the cache writer, and not durable yet.
struct Sent {
    event: BehaviorEvent,
    /// The event's place among the requests of its pair; `None` if it is no like event.
    flight: Option<Flight>,
    applied: Option<Answer<ApplyOutcome>>,
    publish: Option<Slot<EventPublisher>>,
    record: Slot<BehaviorRecorder>,
    /// The state that the event sets, if the event's commit completes the cache's answer.
    asks_commit: Option<VersionedState>,
}

/// Reserved permits in every mailbox that one event may need.
struct Slots {
    publish: Option<Slot<EventPublisher>>,
    record: Slot<BehaviorRecorder>,
    apply: Slot<CacheWriter>,
}
