//! What the cache lacks, and what a read of the database has found of it.

use std::collections::{BTreeMap, BTreeSet};

use actor_kit::{Envelope, Weigh};

use crate::cache::{CountFilling, Filling, Incarnation, OpenedPair, RefusedEntries, UserFilling};
use crate::domain::{Applied, Coverage, LikeCount, Pair, Resource, UserId, VersionedState};
use crate::messages::{Apply, Lookup};

/// What the cache lacks.
pub enum Missing {
    /// The rest of the answer to an applied event.
    Applied(Envelope<Apply>, Partly),
    /// A reader's look-up.
    Lookup(Envelope<Lookup>),
}

/// What the cache has answered to an event so far.
#[derive(Debug, Clone, Copy, Default)]
pub struct Partly {
    /// The answer before a fill; `None` if the cache could not be written.
    pub applied: Option<Applied>,
    /// The entries, if they were opened with that answer, and no fill was refused since.
    pub opened: Option<OpenedPair>,
    /// The answer after a fill; `None` if the event was not applied again.
    pub again: Option<Applied>,
}

impl Missing {
    pub(super) fn resources(&self) -> &[Resource] {
        match self {
            Self::Applied(envelope, _) => std::slice::from_ref(&envelope.body.pair.resource),
            Self::Lookup(envelope) => &envelope.body.resources,
        }
    }

    pub(super) const fn user_id(&self) -> Option<&UserId> {
        match self {
            Self::Applied(envelope, _) => Some(&envelope.body.pair.user_id),
            Self::Lookup(envelope) => envelope.body.user_id.as_ref(),
        }
    }

    pub(super) fn pairs(&self) -> impl Iterator<Item = Pair> {
        let user_id = self.user_id();
        self.resources().iter().filter_map(move |resource| {
            Some(Pair {
                resource: resource.clone(),
                user_id: user_id?.clone(),
            })
        })
    }

    /// Returns the event, and what the cache has answered, if it is in the cache and not in the database. The filled entries
    /// tell what it changes, so it is counted as in flight only after the fill.
    pub(super) fn in_flight(&mut self, round: &Round) -> Option<(&Apply, &mut Partly)> {
        match self {
            Self::Applied(envelope, partly)
                if partly.applied.is_some() && round.lacks(&envelope.body) =>
            {
                Some((&envelope.body, partly))
            }
            Self::Applied(..) | Self::Lookup(_) => None,
        }
    }

    pub(super) fn is_refused(&self, refused: &RefusedEntries<'_>) -> bool {
        self.user_id()
            .is_some_and(|user_id| refused.has_user(user_id))
            || self
                .resources()
                .iter()
                .any(|resource| refused.has_count(resource))
    }

    /// Returns whether the database has the event, and the cache keeps an earlier count, which lacks it: its settlement is on
    /// its way.
    pub(super) fn is_uncounted(&self, kept: &BTreeSet<&Resource>, round: &Round) -> bool {
        match self {
            Self::Applied(envelope, _) => {
                kept.contains(&envelope.body.pair.resource) && !round.lacks(&envelope.body)
            }
            Self::Lookup(_) => false,
        }
    }
}

impl From<Envelope<Lookup>> for Missing {
    fn from(envelope: Envelope<Lookup>) -> Self {
        Self::Lookup(envelope)
    }
}

impl Weigh for Missing {
    fn weight(&self) -> usize {
        self.resources().len()
    }
}

/// The entries to fill, opened before the database is read.
#[derive(Default)]
pub(super) struct ToFill {
    pub(super) users: BTreeMap<UserId, (Incarnation, Coverage)>,
    /// The incarnation of each count; `None` for a known one.
    pub(super) counts: BTreeMap<Resource, Option<Incarnation>>,
}

/// What one read of the database found.
pub(super) struct Round {
    /// All rows of users, if they are not too many.
    pub(super) users: BTreeMap<UserId, Vec<(Resource, VersionedState)>>,
    /// The states of the batch's pairs.
    pub(super) states: BTreeMap<Pair, VersionedState>,
    pub(super) counts: BTreeMap<Resource, LikeCount>,
}

impl Round {
    /// Returns the stored state of a pair.
    pub(super) fn state(&self, pair: &Pair) -> VersionedState {
        let state = self.states.get(pair).copied();
        state.unwrap_or(VersionedState::NEVER)
    }

    /// Returns the stored count of a resource.
    pub(super) fn count(&self, resource: &Resource) -> LikeCount {
        let count = self.counts.get(resource).copied();
        count.unwrap_or(LikeCount::NEVER)
    }

    /// Returns whether the database holds neither this event nor a newer one of its pair.
    pub(super) fn lacks(&self, event: &Apply) -> bool {
        event.state > self.state(&event.pair)
    }

    /// Returns the fillings of opened entries. `pairs` are those of the batch.
    pub(super) fn filling(&mut self, to_fill: ToFill, pairs: &BTreeSet<Pair>) -> Filling {
        let mut filling = Filling::default();
        for (user_id, (incarnation, _)) in to_fill.users {
            let (coverage, rows) = match self.users.remove(&user_id) {
                Some(rows) => (Coverage::Complete, rows),
                None => {
                    let own = pairs.iter().filter(|pair| pair.user_id == user_id);
                    let rows = own.map(|pair| (pair.resource.clone(), self.state(pair)));
                    (Coverage::Partial, rows.collect())
                }
            };
            filling.users.push(UserFilling {
                user_id,
                incarnation,
                coverage,
                rows,
            });
        }
        let counts = to_fill.counts.into_iter();
        let counts = counts.map(|(resource, incarnation)| CountFilling {
            count: self.count(&resource),
            resource,
            incarnation: incarnation.unwrap_or_default(),
        });
        filling.counts.extend(counts);
        filling
    }
}
