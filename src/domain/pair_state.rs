//! The state of a pair in its read model: the newest event, and the time since which the pair is liked. The fold
//! computes it, and the store keeps it.

use super::version::Version;
use super::versioned_state::VersionedState;

/// What the read model holds of a pair.
///
/// A like of a liked pair is a repeat: it advances `newest`, and `since` stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PairState {
    /// The state at the newest event.
    pub newest: VersionedState,
    /// The version of the oldest like after the newest unlike. Its moment is the time of the like. If the pair is not
    /// liked, the version of the newest event.
    pub since: Version,
    /// The version of the decision that the pair does not count, if an operator voided it. Events do not change it.
    pub voided: Option<Version>,
}

/// A [`PairState`] after more events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Advanced {
    /// The state. Its newest event is exact.
    pub state: PairState,
    /// Whether `since` is exact. If not, it depends on events before the newest one, which only the log has.
    pub is_exact: bool,
}

impl PairState {
    /// The state of a pair without events.
    pub const NEVER: Self = Self::begun_by(VersionedState::NEVER);

    /// Returns the state whose newest event is the first of its run.
    #[must_use]
    pub const fn begun_by(newest: VersionedState) -> Self {
        Self {
            newest,
            since: newest.version,
            voided: None,
        }
    }

    /// Returns the pair's contribution to the like count: 1 if it is liked and not voided, otherwise 0.
    #[must_use]
    pub const fn weight(self) -> i64 {
        if self.voided.is_some() {
            return 0;
        }
        self.newest.weight()
    }

    /// Returns whether the newest event is the like since which the pair is liked.
    #[must_use]
    pub fn begins_its_run(self) -> bool {
        self.newest.liked && self.since == self.newest.version
    }

    /// Adds events, sorted from old to new. They may be older than this state, and part of it already.
    #[must_use]
    pub fn advanced(self, events: &[VersionedState]) -> Advanced {
        let newest = events
            .last()
            .map_or(self.newest, |last| self.newest.max(*last));
        let state = |since| Self {
            newest,
            since,
            voided: self.voided,
        };
        let exactly = |since| Advanced {
            state: state(since),
            is_exact: true,
        };
        if !newest.liked {
            return exactly(newest.version);
        }
        // The likes that no unlike among the events supersedes.
        let unlike = events.iter().rposition(|event| !event.liked);
        let likes = &events[unlike.map_or(0, |place| place + 1)..];
        let first_after = |version| {
            let after = likes.iter().find(|like| like.version > version);
            after.map_or(newest.version, |like| like.version)
        };
        if !self.newest.liked {
            // Every like after the stored unlike is among the events.
            return exactly(first_after(self.newest.version));
        }
        match unlike.map(|place| events[place].version) {
            Some(unlike) if unlike >= self.newest.version => exactly(first_after(unlike)),
            // Likes between this unlike and the newest like may be stored: the oldest of them is not known.
            Some(unlike) if unlike >= self.since => Advanced {
                state: state(first_after(unlike)),
                is_exact: false,
            },
            _ => match likes.first() {
                // Whether an unlike came between this like and the stored run is not known.
                Some(like) if like.version < self.since => Advanced {
                    state: state(self.since),
                    is_exact: false,
                },
                _ => exactly(self.since),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn event(version: i64, liked: bool) -> VersionedState {
        VersionedState {
            version: Version(version),
            liked,
        }
    }

    fn advanced(state: PairState, events: &[(i64, bool)]) -> (i64, bool) {
        let events: Vec<_> = events
            .iter()
            .map(|(version, liked)| event(*version, *liked))
            .collect();
        let Advanced { state, is_exact } = state.advanced(&events);
        (state.since.0, is_exact)
    }

    #[test]
    fn repeated_like_keeps_its_moment() {
        let liked = PairState::begun_by(event(3, true));
        assert_eq!(advanced(liked, &[(5, true), (7, true)]), (3, true));
        assert_eq!(advanced(liked, &[(5, false), (7, true)]), (7, true));
        assert_eq!(advanced(liked, &[(2, false), (7, true)]), (3, true));
    }

    #[test]
    fn only_the_oldest_like_of_a_run_begins_it() {
        let first = PairState::begun_by(event(3, true));
        let repeated = first.advanced(&[event(5, true)]).state;
        let unliked = first.advanced(&[event(5, false)]).state;
        let states = [first, repeated, unliked].map(PairState::begins_its_run);
        assert_eq!(states, [true, false, false]);
    }

    #[test]
    fn first_like_after_the_unlike_begins_the_run() {
        let unliked = PairState::begun_by(event(4, false));
        assert_eq!(
            advanced(unliked, &[(3, true), (5, true), (6, true)]),
            (5, true)
        );
        // Between equal versions the unlike is newer.
        assert_eq!(advanced(unliked, &[(4, true), (6, true)]), (6, true));
        assert_eq!(advanced(unliked, &[(3, true)]), (4, true));
    }

    #[test]
    fn late_events_of_a_run_need_the_log() {
        let run = PairState {
            since: Version(5),
            ..PairState::begun_by(event(9, true))
        };
        assert!(!advanced(run, &[(4, true)]).1);
        assert!(!advanced(run, &[(7, false)]).1);
        assert!(!advanced(run, &[(5, false), (8, true)]).1);
        // These change nothing, whatever the log has.
        assert_eq!(advanced(run, &[(3, true), (4, false)]), (5, true));
        assert_eq!(advanced(run, &[(6, true), (12, true)]), (5, true));
        // These begin a run of their own.
        assert_eq!(
            advanced(run, &[(4, true), (9, false), (10, true)]),
            (10, true)
        );
    }

    #[test]
    fn voided_pair_weighs_nothing_whatever_its_user_does() {
        let liked = PairState {
            voided: Some(Version(4)),
            ..PairState::begun_by(event(3, true))
        };
        assert_eq!(liked.weight(), 0);
        for events in [[(5, false), (6, true)], [(5, true), (6, false)]] {
            let events = events.map(|(version, liked)| event(version, liked));
            let Advanced { state, .. } = liked.advanced(&events);
            assert_eq!((state.weight(), state.voided), (0, Some(Version(4))));
        }
    }
}
