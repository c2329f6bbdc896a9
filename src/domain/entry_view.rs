//! The content of a cache entry and its differences from the database: the rule of the cache audit.
//!
//! The audit reads the database after the entry, and the database only advances. An entry that is ahead of it, or differs
//! under the same version, is certainly wrong. An entry that lags may await its settlement: it is wrong if it still lags a
//! while later.

use std::collections::BTreeMap;

use super::cached_pair::CachedPair;
use super::id::UserId;
use super::like_count::LikeCount;
use super::versioned_state::VersionedState;

/// The content of an entry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EntryView {
    /// The database's count, if the entry knows it.
    pub count: Option<LikeCount>,
    /// Whether the entry claims to contain every pair.
    pub complete: bool,
    /// The stored number of likes minus unlikes in flight.
    pub in_flight: i64,
    /// The stored number of pairs without a settled state.
    pub unknown: i64,
    /// The pairs.
    pub pairs: BTreeMap<UserId, CachedPair>,
    /// A part that cannot be parsed.
    pub unreadable: Option<String>,
}

/// The database's state of the same resource, read after the entry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DatabaseState {
    /// The count; `None` if there is none.
    pub count: Option<LikeCount>,
    /// The states of the entry's pairs that the database has.
    pub states: BTreeMap<UserId, VersionedState>,
}

/// A mismatch between an entry and the database, or within an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mismatch {
    /// The entry is wrong.
    Wrong(Contradiction),
    /// The entry is wrong if the difference persists.
    Lags {
        /// The difference.
        contradiction: Contradiction,
        /// The pair whose event may be in flight, if the difference concerns one.
        user_id: Option<UserId>,
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

impl Mismatch {
    /// Returns the expected and the actual value.
    #[must_use]
    pub const fn contradiction(&self) -> &Contradiction {
        match self {
            Self::Wrong(contradiction) | Self::Lags { contradiction, .. } => contradiction,
        }
    }
}

impl EntryView {
    /// Returns the mismatches with the database, certain ones first.
    #[must_use]
    pub fn mismatches(&self, database: &DatabaseState) -> Vec<Mismatch> {
        let mut mismatches = self.own_mismatches();
        self.compare_count(database, &mut mismatches);
        for (user_id, pair) in &self.pairs {
            self.compare_pair(user_id, *pair, database, &mut mismatches);
        }
        mismatches.sort_by_key(|mismatch| matches!(mismatch, Mismatch::Lags { .. }));
        mismatches
    }

    fn own_mismatches(&self) -> Vec<Mismatch> {
        let mut mismatches = Vec::new();
        let mut wrong = |expected: String, found: String| {
            mismatches.push(Mismatch::Wrong(Contradiction { expected, found }));
        };
        if let Some(unreadable) = &self.unreadable {
            wrong("an entry that can be read".to_owned(), unreadable.clone());
        }
        let unknown = self.pairs.values().filter(|pair| pair.settled.is_none());
        let unknown = i64::try_from(unknown.count()).unwrap_or(i64::MAX);
        if unknown != self.unknown {
            wrong(
                format!("{unknown} pairs without a settled state"),
                format!("the entry counts {}", self.unknown),
            );
        }
        let in_flight: i64 = self.pairs.values().map(|pair| pair.in_flight()).sum();
        if in_flight != self.in_flight {
            wrong(
                format!("{in_flight} likes in flight"),
                format!("the entry counts {}", self.in_flight),
            );
        }
        for (user_id, pair) in &self.pairs {
            if pair.settled.is_some_and(|settled| settled > pair.current) {
                wrong(
                    format!("user {user_id}'s current state no older than the settled one"),
                    format!("{:?} before {:?}", pair.current, pair.settled),
                );
            }
        }
        mismatches
    }

    fn compare_count(&self, database: &DatabaseState, mismatches: &mut Vec<Mismatch>) {
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
                user_id: None,
            });
        } else if self.complete {
            let liked: i64 = self
                .pairs
                .values()
                .filter_map(|pair| pair.settled)
                .map(VersionedState::weight)
                .sum();
            // Liked pairs that an operator voided do not count.
            if liked < count.like_count && self.unknown == 0 {
                mismatches.push(Mismatch::Lags {
                    contradiction: Contradiction {
                        expected: format!(
                            "at least {} liked pairs, because the entry is complete",
                            count.like_count
                        ),
                        found: format!("{liked} liked pairs"),
                    },
                    user_id: None,
                });
            }
        }
    }

    fn compare_pair(
        &self,
        user_id: &UserId,
        pair: CachedPair,
        database: &DatabaseState,
        mismatches: &mut Vec<Mismatch>,
    ) {
        let stored = database
            .states
            .get(user_id)
            .copied()
            .unwrap_or(VersionedState::NEVER);
        let lags = |found: VersionedState| Mismatch::Lags {
            contradiction: Contradiction {
                expected: describe(user_id, stored),
                found: describe(user_id, found),
            },
            user_id: Some(user_id.clone()),
        };
        if let Some(settled) = pair.settled
            && settled != stored
        {
            // States with equal versions are ordered too, so one of the two is later.
            mismatches.push(if settled > stored {
                Mismatch::Wrong(Contradiction {
                    expected: describe(user_id, stored),
                    found: describe(user_id, settled),
                })
            } else {
                lags(settled)
            });
        } else if pair.current != stored {
            mismatches.push(lags(pair.current));
        }
    }
}

fn describe(user_id: &UserId, state: VersionedState) -> String {
    let liked = if state.liked { "liked" } else { "not liked" };
    format!("user {user_id}: {liked}, version {}", state.version.0)
}

fn describe_count(count: LikeCount) -> String {
    format!("{} likes, revision {}", count.like_count, count.revision)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Version;

    fn state(version: i64, liked: bool) -> VersionedState {
        VersionedState {
            version: Version(version),
            liked,
        }
    }

    fn count(like_count: i64, revision: i64) -> LikeCount {
        LikeCount {
            like_count,
            revision,
        }
    }

    fn database() -> DatabaseState {
        DatabaseState {
            count: Some(count(1, 4)),
            states: BTreeMap::from([(1.into(), state(10, true)), (2.into(), state(12, false))]),
        }
    }

    fn entry() -> EntryView {
        let settled = CachedPair::settled;
        EntryView {
            count: Some(count(1, 4)),
            pairs: BTreeMap::from([
                (1.into(), settled(state(10, true))),
                (2.into(), settled(state(12, false))),
            ]),
            ..EntryView::default()
        }
    }

    fn judge(change: impl FnOnce(&mut EntryView)) -> Vec<bool> {
        let mut view = entry();
        change(&mut view);
        let mismatches = view.mismatches(&database());
        mismatches
            .iter()
            .map(|mismatch| matches!(mismatch, Mismatch::Wrong(_)))
            .collect()
    }

    fn set(
        view: &mut EntryView,
        user_id: UserId,
        current: VersionedState,
        settled: Option<VersionedState>,
    ) {
        view.pairs.insert(user_id, CachedPair { current, settled });
    }

    #[test]
    fn consistent_entry_is_accepted() {
        assert_eq!(entry().mismatches(&database()), []);
        assert_eq!(EntryView::default().mismatches(&database()), []);
    }

    #[test]
    fn entry_ahead_of_or_contradicting_the_database_is_wrong() {
        assert_eq!(judge(|view| view.count = Some(count(9, 4))), [true]);
        assert_eq!(judge(|view| view.count = Some(count(1, 5))), [true]);
        let ahead = state(11, true);
        assert_eq!(
            judge(|view| set(view, 1.into(), ahead, Some(ahead))),
            [true]
        );
        let stranger = state(3, true);
        assert_eq!(
            judge(|view| set(view, 9.into(), stranger, Some(stranger))),
            [true]
        );
    }

    #[test]
    fn self_contradicting_entry_is_wrong() {
        assert_eq!(judge(|view| view.in_flight = 1), [true]);
        assert_eq!(judge(|view| view.unknown = 1), [true]);
        assert_eq!(judge(|view| view.unreadable = Some("?".to_owned())), [true]);
    }

    #[test]
    fn lagging_entry_is_wrong_only_after_a_delay() {
        assert_eq!(judge(|view| view.count = Some(count(0, 3))), [false]);
        let old = state(9, false);
        assert_eq!(judge(|view| set(view, 1.into(), old, Some(old))), [false]);
        assert_eq!(
            judge(|view| {
                set(view, 1.into(), state(13, false), Some(state(10, true)));
                view.in_flight = -1;
            }),
            [false]
        );
        assert_eq!(
            judge(|view| {
                set(view, 1.into(), state(13, false), None);
                view.unknown = 1;
            }),
            [false]
        );
    }

    #[test]
    fn complete_entry_must_hold_all_pairs() {
        assert!(judge(|view| view.complete = true).is_empty());
        assert_eq!(
            judge(|view| {
                view.complete = true;
                view.pairs.remove(&1.into());
            }),
            [false]
        );
    }
}
