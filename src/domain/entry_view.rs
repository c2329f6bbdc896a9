//! The content of the cache's entries and its differences from the database: the rule of the cache audit.
//!
//! The audit reads the database after the entry, and the database only advances. An entry that is ahead of it, or differs
//! under the same version, is certainly wrong. An entry that lags may await its settlement: it is wrong if it still lags a
//! while later.

use std::collections::BTreeMap;

use super::behavior::Resource;
use super::cached_entry::Coverage;
use super::cached_pair::{CachedPair, Join, Progress};
use super::id::UserId;
use super::like_count::LikeCount;
use super::versioned_state::VersionedState;

/// The content of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryView {
    /// Of a user entry.
    User(UserView),
    /// Of a count entry.
    Count(CountView),
}

/// The content of a user entry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UserView {
    /// Which pairs the entry claims to hold.
    pub coverage: Coverage,
    /// The pairs.
    pub pairs: BTreeMap<Resource, CachedPair>,
    /// A part that cannot be parsed.
    pub unreadable: Option<String>,
}

/// The content of a count entry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CountView {
    /// The database's count, if the entry knows it.
    pub count: Option<LikeCount>,
    /// The stored sum of the differences of the events in flight.
    pub sum: i64,
    /// The stored number of events in flight.
    pub size: usize,
    /// The newest event in flight of each user.
    pub in_flight: BTreeMap<UserId, Join>,
    /// A part that cannot be parsed.
    pub unreadable: Option<String>,
}

/// The database's state of a user, read after the entry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoredUser {
    /// The states of the user's pairs: all of them, or those of the entry's pairs.
    pub states: BTreeMap<Resource, VersionedState>,
    /// Whether these are all pairs of the user.
    pub is_complete: bool,
}

/// The database's state of a resource, read after the entry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoredCount {
    /// The count; `None` if there is none.
    pub count: Option<LikeCount>,
    /// The states of the pairs in flight that the database has.
    pub states: BTreeMap<UserId, VersionedState>,
}

/// A mismatch between an entry and the database, or within an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mismatch<I> {
    /// The entry is wrong.
    Wrong(Contradiction),
    /// The entry is wrong if the difference persists.
    Lags {
        /// The difference.
        contradiction: Contradiction,
        /// The resource or user of the pair whose event may be in flight, if the difference concerns one.
        pair: Option<I>,
    },
}

/// An expected and an actual value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contradiction {
    /// The expected value.
    pub expected: String,
    /// The actual value.
    pub found: String,
}

impl<I> Mismatch<I> {
    fn wrong(expected: impl Into<String>, found: impl Into<String>) -> Self {
        Self::Wrong(Contradiction {
            expected: expected.into(),
            found: found.into(),
        })
    }

    /// Returns the expected and the actual value.
    #[must_use]
    pub const fn contradiction(&self) -> &Contradiction {
        match self {
            Self::Wrong(contradiction) | Self::Lags { contradiction, .. } => contradiction,
        }
    }

    /// Names the pair by both of its sides.
    pub fn map<J>(self, name: impl FnOnce(I) -> J) -> Mismatch<J> {
        match self {
            Self::Wrong(contradiction) => Mismatch::Wrong(contradiction),
            Self::Lags {
                contradiction,
                pair,
            } => Mismatch::Lags {
                contradiction,
                pair: pair.map(name),
            },
        }
    }
}

impl UserView {
    /// Returns the mismatches with the database, certain ones first.
    #[must_use]
    pub fn mismatches(&self, stored: &StoredUser) -> Vec<Mismatch<Resource>> {
        let mut mismatches = Vec::new();
        if let Some(unreadable) = &self.unreadable {
            mismatches.push(Mismatch::wrong("an entry that can be read", unreadable));
        }
        for (resource, pair) in &self.pairs {
            compare_pair(resource, *pair, stored, &mut mismatches);
        }
        if self.coverage == Coverage::Complete && stored.is_complete {
            for (resource, state) in &stored.states {
                if !self.pairs.contains_key(resource) {
                    mismatches.push(Mismatch::Lags {
                        contradiction: Contradiction {
                            expected: describe(resource, *state),
                            found: format!("{resource}: no pair, and the entry is complete"),
                        },
                        pair: Some(resource.clone()),
                    });
                }
            }
        }
        mismatches.sort_by_key(|mismatch| matches!(mismatch, Mismatch::Lags { .. }));
        mismatches
    }
}

fn compare_pair(
    resource: &Resource,
    pair: CachedPair,
    database: &StoredUser,
    mismatches: &mut Vec<Mismatch<Resource>>,
) {
    let stored = database.states.get(resource).copied();
    let stored = stored.unwrap_or(VersionedState::NEVER);
    let contradiction = Contradiction {
        expected: describe(resource, stored),
        found: describe(resource, pair.state),
    };
    match pair.progress {
        Progress::Unknown => {}
        Progress::Reverted if pair.state.liked == stored.liked => {}
        // States with equal versions are ordered too, so one of the two is later.
        Progress::Settled if pair.state > stored => {
            mismatches.push(Mismatch::Wrong(contradiction));
        }
        Progress::Settled if pair.state == stored => {}
        Progress::Settled | Progress::Reverted | Progress::InFlight { .. } => {
            mismatches.push(Mismatch::Lags {
                contradiction,
                pair: Some(resource.clone()),
            });
        }
    }
}

impl CountView {
    /// Returns the mismatches with the database, certain ones first.
    #[must_use]
    pub fn mismatches(&self, stored: &StoredCount) -> Vec<Mismatch<UserId>> {
        let mut mismatches = self.own_mismatches();
        self.compare_count(stored, &mut mismatches);
        for (user_id, event) in &self.in_flight {
            let found = stored.states.get(user_id).copied();
            let found = found.unwrap_or(VersionedState::NEVER);
            mismatches.push(Mismatch::Lags {
                contradiction: Contradiction {
                    expected: format!(
                        "user {user_id}: version {} in the database",
                        found.version.0
                    ),
                    found: format!(
                        "user {user_id}: version {} in flight",
                        event.state.version.0
                    ),
                },
                pair: Some(user_id.clone()),
            });
        }
        mismatches.sort_by_key(|mismatch| matches!(mismatch, Mismatch::Lags { .. }));
        mismatches
    }

    fn own_mismatches(&self) -> Vec<Mismatch<UserId>> {
        let mut mismatches = Vec::new();
        if let Some(unreadable) = &self.unreadable {
            mismatches.push(Mismatch::wrong("an entry that can be read", unreadable));
        }
        if self.in_flight.len() != self.size {
            mismatches.push(Mismatch::wrong(
                format!("{} events in flight", self.in_flight.len()),
                format!("the entry counts {}", self.size),
            ));
        }
        let sum: i64 = self
            .in_flight
            .values()
            .map(|event| event.difference())
            .sum();
        if sum != self.sum {
            mismatches.push(Mismatch::wrong(
                format!("{sum} likes in flight"),
                format!("the entry counts {}", self.sum),
            ));
        }
        mismatches
    }

    fn compare_count(&self, database: &StoredCount, mismatches: &mut Vec<Mismatch<UserId>>) {
        let Some(count) = self.count else {
            return;
        };
        let stored = database.count.unwrap_or(LikeCount::NEVER);
        let contradiction = Contradiction {
            expected: describe_count(stored),
            found: describe_count(count),
        };
        if count.revision > stored.revision
            || (count.revision == stored.revision && count.like_count != stored.like_count)
        {
            mismatches.push(Mismatch::Wrong(contradiction));
        } else if count.revision < stored.revision {
            mismatches.push(Mismatch::Lags {
                contradiction,
                pair: None,
            });
        }
    }
}

fn describe(resource: &Resource, state: VersionedState) -> String {
    let liked = if state.liked { "liked" } else { "not liked" };
    format!("{resource}: {liked}, version {}", state.version.0)
}

fn describe_count(count: LikeCount) -> String {
    format!("{} likes, revision {}", count.like_count, count.revision)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Version;

    const ONE: Resource = Resource::video(1);
    const TWO: Resource = Resource::video(2);

    fn state(version: i64, liked: bool) -> VersionedState {
        VersionedState {
            version: Version(version),
            liked,
        }
    }

    fn in_flight(version: i64, liked: bool, base: bool) -> CachedPair {
        CachedPair {
            state: state(version, liked),
            progress: Progress::InFlight { base: Some(base) },
        }
    }

    fn count(like_count: i64, revision: i64) -> LikeCount {
        LikeCount {
            like_count,
            revision,
        }
    }

    fn is_wrong<I>(mismatches: &[Mismatch<I>]) -> Vec<bool> {
        mismatches
            .iter()
            .map(|mismatch| matches!(mismatch, Mismatch::Wrong(_)))
            .collect()
    }

    fn judge_user(change: impl FnOnce(&mut UserView)) -> Vec<bool> {
        let states = BTreeMap::from([(ONE, state(10, true)), (TWO, state(12, false))]);
        let pairs = states.iter();
        let mut view = UserView {
            coverage: Coverage::Complete,
            pairs: pairs
                .map(|(resource, state)| (resource.clone(), CachedPair::settled(*state)))
                .collect(),
            unreadable: None,
        };
        change(&mut view);
        let stored = StoredUser {
            states,
            is_complete: true,
        };
        is_wrong(&view.mismatches(&stored))
    }

    fn judge_count(change: impl FnOnce(&mut CountView)) -> Vec<bool> {
        let mut view = CountView {
            count: Some(count(1, 4)),
            ..CountView::default()
        };
        change(&mut view);
        let stored = StoredCount {
            count: Some(count(1, 4)),
            states: BTreeMap::from([(1.into(), state(10, true))]),
        };
        is_wrong(&view.mismatches(&stored))
    }

    #[test]
    fn consistent_entry_is_accepted() {
        assert!(judge_user(|_| {}).is_empty());
        assert!(judge_count(|_| {}).is_empty());
        assert!(judge_count(|view| view.count = None).is_empty());
    }

    #[test]
    fn entry_ahead_of_or_contradicting_the_database_is_wrong() {
        assert_eq!(judge_count(|view| view.count = Some(count(9, 4))), [true]);
        assert_eq!(judge_count(|view| view.count = Some(count(1, 5))), [true]);
        let put = |resource, state| {
            judge_user(move |view| {
                view.pairs.insert(resource, CachedPair::settled(state));
            })
        };
        assert_eq!(put(ONE, state(11, true)), [true]);
        assert_eq!(put(Resource::video(9), state(3, true)), [true]);
    }

    #[test]
    fn self_contradicting_entry_is_wrong() {
        assert_eq!(judge_count(|view| view.sum = 1), [true]);
        assert_eq!(judge_count(|view| view.size = 1), [true]);
        let unreadable = || Some("?".to_owned());
        assert_eq!(judge_count(|view| view.unreadable = unreadable()), [true]);
        assert_eq!(judge_user(|view| view.unreadable = unreadable()), [true]);
    }

    #[test]
    fn lagging_entry_is_wrong_only_after_a_delay() {
        assert_eq!(judge_count(|view| view.count = Some(count(0, 3))), [false]);
        let joined = |view: &mut CountView| {
            let event = Join {
                state: state(13, true),
                base: false,
            };
            view.in_flight.insert(1.into(), event);
            (view.sum, view.size) = (1, 1);
        };
        assert_eq!(judge_count(joined), [false]);
        let put = |pair| {
            judge_user(move |view| {
                view.pairs.insert(ONE, pair);
            })
        };
        assert_eq!(put(CachedPair::settled(state(9, false))), [false]);
        assert_eq!(put(in_flight(13, false, true)), [false]);
        assert!(put(CachedPair::UNKNOWN).is_empty());
    }

    #[test]
    fn complete_entry_must_hold_all_pairs() {
        let remove = |coverage| {
            judge_user(move |view| {
                view.coverage = coverage;
                view.pairs.remove(&ONE);
            })
        };
        assert_eq!(remove(Coverage::Complete), [false]);
        assert!(remove(Coverage::Partial).is_empty());
    }
}
