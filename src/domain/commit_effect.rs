//! What a commit did to the pair of an event. It completes the answer of a cache that lacked the pair or the count.

use super::cached_entry::Applied;
use super::like_count::LikeCount;
use super::version::Version;
use super::versioned_state::VersionedState;

/// What the commit of a batch did to the pair of one of its events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommitEffect {
    /// The state of the pair before the commit.
    pub before: VersionedState,
    /// The like count of the resource after the commit.
    pub count: LikeCount,
}

impl CommitEffect {
    /// Completes the cache's answer to this event of the batch.
    #[must_use]
    pub fn complete(&self, applied: Applied, event: VersionedState) -> Applied {
        // A newer state does not tell what was before the event.
        let is_newer = event > self.before;
        let changed = is_newer.then_some(event.liked != self.before.liked);
        Applied {
            changed: applied.changed.or(changed),
            newer: applied.newer,
            like_count: applied.like_count.or(Some(self.count.like_count)),
        }
    }

    /// Returns the version of the state before the commit, if that is newer than this event of the batch.
    #[must_use]
    pub fn newer_than(&self, event: VersionedState) -> Option<Version> {
        (self.before > event).then_some(self.before.version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNANSWERED: Applied = Applied {
        changed: None,
        newer: None,
        like_count: None,
    };

    fn at(version: i64, liked: bool) -> VersionedState {
        VersionedState {
            version: Version(version),
            liked,
        }
    }

    fn effect(before: VersionedState) -> CommitEffect {
        CommitEffect {
            before,
            count: LikeCount {
                like_count: 3,
                revision: 8,
            },
        }
    }

    #[test]
    fn state_before_the_commit_tells_the_change() {
        for (before, liked, changed) in [
            (VersionedState::NEVER, true, true),
            (VersionedState::NEVER, false, false),
            (at(4, true), true, false),
            (at(4, true), false, true),
            (at(4, false), true, true),
        ] {
            let event = at(10, liked);
            let applied = effect(before).complete(UNANSWERED, event);
            let expected = Applied {
                changed: Some(changed),
                newer: None,
                like_count: Some(3),
            };
            assert_eq!(applied, expected, "{before:?}, {event:?}");
            assert_eq!(effect(before).newer_than(event), None);
        }
    }

    #[test]
    fn newer_state_before_the_commit_hides_the_change() {
        let event = at(10, true);
        // Between equal versions the unlike is newer.
        for before in [at(11, true), at(10, false)] {
            let applied = effect(before).complete(UNANSWERED, event);
            assert_eq!((applied.changed, applied.like_count), (None, Some(3)));
            assert_eq!(effect(before).newer_than(event), Some(before.version));
        }
    }

    #[test]
    fn what_the_cache_knows_stays() {
        // It also knows the events in flight.
        let known = Applied {
            changed: Some(true),
            newer: None,
            like_count: Some(5),
        };
        let applied = effect(VersionedState::NEVER).complete(known, at(10, false));
        assert_eq!(applied, known);
    }
}
