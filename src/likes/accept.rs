//! Accepting behaviors: durable before the answer, and likes in the cache at the same time.

use std::collections::HashSet;
use std::time::Instant;

use chrono::{DateTime, Utc};
use futures_util::future::join_all;
use uuid::Uuid;

use super::Likes;
use crate::actors::kit::{Refused, Slot};
use crate::actors::{BehaviorRecorder, CacheWriter, EventPublisher};
use crate::domain::{
    Applied, BehaviorEvent, BehaviorType, Identity, InvalidBehavior, Mark, Pair, Resource, UserId,
    Version,
};
use crate::messages::{Apply, Durability, Forget, NotRecorded, Publish, Record};
use crate::telemetry::{LikeAccepted, Part};

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
    /// An event of the same user and resource, dated then, stays the newer one.
    #[error("an event of the same user and resource is dated {0}, ahead of this server's clock")]
    Overtaken(DateTime<Utc>),
    /// Two of the parts that it goes through are gone.
    #[error("{} and {} cannot be reached; nothing was changed", .0.as_str(), .1.as_str())]
    PartsGone(Part, Part),
    /// The database refuses it, which no valid like should meet.
    #[error("{0}")]
    Internal(String),
}

/// How often a version may lose to a newer one of the same pair before the request is given up.
const DRAWS: usize = 5;

/// A behavior that somebody asks to be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    /// Who does it.
    pub user_id: UserId,
    /// To what.
    pub resource: Resource,
    /// What.
    pub behavior: BehaviorType,
}

impl Asked {
    /// The pair that it is about, if it is a like or unlike.
    fn pair(&self) -> Option<Pair> {
        let pair = Pair {
            resource: self.resource,
            user_id: self.user_id,
        };
        self.behavior.action().map(|_| pair)
    }
}

impl Likes {
    /// What the events of a new request are made with.
    #[must_use]
    pub fn identity(&self, events: usize) -> Identity {
        Identity {
            event_id: Uuid::now_v7(),
            version: self.clock.next_of(events.max(1)),
            resumed: false,
        }
    }

    /// Accepts a behavior. The work goes on to its end even if the caller goes away.
    ///
    /// # Errors
    /// If it is not valid, or cannot be made durable now; then the cache is as before.
    pub async fn accept(&self, asked: Asked, identity: Identity) -> Result<Accepted, NotAccepted> {
        let accepted = self.accept_all(vec![asked], identity).await.pop();
        accepted.unwrap_or_else(|| Err(NotAccepted::Internal("there is no answer".into())))
    }

    /// As [`accept`](Self::accept), for several, each with an answer of its own; of those of one pair,
    /// the last one wins.
    pub async fn accept_all(
        &self,
        asked: Vec<Asked>,
        identity: Identity,
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
                        identity: identity.nth(place),
                        must_win: is_last && !identity.resumed,
                    }
                })
                .collect();
            drafts.reverse();
            join_all(drafts.into_iter().map(|draft| likes.accept_draft(draft))).await
        };
        actix::spawn(work).await.unwrap_or_else(|error| {
            let failed = NotAccepted::Internal(error.to_string());
            vec![Err(failed); count]
        })
    }

    async fn accept_draft(&self, draft: Draft) -> Result<Accepted, NotAccepted> {
        let started = Instant::now();
        // With two parts gone a like might be kept, but not come to its end: nothing is half done.
        if let Some((one, other)) = self.gone.two() {
            return Err(NotAccepted::PartsGone(one, other));
        }
        let Draft {
            asked,
            mut identity,
            must_win,
        } = draft;
        let mut newer = Version::NEVER;
        for _ in 0..DRAWS {
            let Identity {
                event_id, version, ..
            } = identity;
            let event = BehaviorEvent::accepted(
                event_id,
                asked.user_id,
                asked.resource,
                asked.behavior,
                version,
            )?;
            let (durability, applied) = self.send(event).await?;
            // The cache holds a newer event of this pair, made where a clock runs ahead of ours. The
            // user acts now, so this request must win: it is sent again under a version that does.
            if let Some(version) = applied.and_then(|applied| applied.newer) {
                self.clock.observe(version);
                if must_win {
                    newer = version;
                    identity = self.identity(1);
                    continue;
                }
            }
            let accepted = Accepted {
                event_id,
                changed: applied.and_then(|applied| applied.changed),
                like_count: applied.and_then(|applied| applied.like_count),
                durability,
                cached: applied.is_some(),
            };
            if let Some(action) = asked.behavior.action() {
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

    /// Sends an event to the cache, if it likes or unlikes, and to where it becomes durable, side by side.
    /// Room is taken first, so that an overload changes neither.
    async fn send(
        &self,
        event: BehaviorEvent,
    ) -> Result<(Durability, Option<Applied>), NotAccepted> {
        let room = self.room()?;
        let Some(action) = event.action() else {
            let durability = self.make_durable(event, room.publish, room.record).await?;
            return Ok((durability, None));
        };
        let pair = Pair {
            resource: event.resource,
            user_id: event.user_id,
        };
        let version = event.version;
        let applied = room.apply.ask(Apply {
            pair,
            mark: Mark::new(version, action),
        });
        // Both are under way. The cache, mostly the faster of the two, is asked for its answer last, when
        // it is there and wakes nobody.
        let durable = self.make_durable(event, room.publish, room.record).await;
        let applied = applied.await.ok().flatten();
        match durable {
            Ok(durability) => Ok((durability, applied)),
            Err(failure) => {
                let put_back = Forget { pair, version };
                if let Ok(answer) = self.cache_writer.ask_or_wait(put_back).await {
                    // Answered or not, the cache writer has it; there is no more to do about it here.
                    let _ = answer.await;
                }
                Err(failure)
            }
        }
    }

    fn room(&self) -> Result<Room, NotAccepted> {
        let publish = self
            .publisher
            .as_ref()
            .map(|publisher| publisher.reserve(1));
        Ok(Room {
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
        match recorded.await {
            Ok(Ok(())) => Ok(Durability::Database),
            Ok(Err(NotRecorded::Refused(reason))) => Err(NotAccepted::Internal(reason)),
            Ok(Err(NotRecorded::Unavailable(_))) | Err(_) => Err(NotAccepted::Unavailable),
        }
    }
}

/// A behavior on its way.
struct Draft {
    asked: Asked,
    identity: Identity,
    /// Whether it is sent again under a newer version if another event of its pair is newer: not if that is
    /// a later one of the same request, and not if it was sent before and may have been overtaken since.
    must_win: bool,
}

/// Room in every mailbox that one event may need.
struct Room {
    publish: Option<Slot<EventPublisher>>,
    record: Slot<BehaviorRecorder>,
    apply: Slot<CacheWriter>,
}
