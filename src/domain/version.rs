//! Versions order the events of one user and resource. A hybrid logical clock draws them.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// The order of events of one user and resource, in microseconds since the Unix epoch.
///
/// Every version stays below 2^53 until the year 2255, so Lua, JSON and JavaScript represent it exactly. Zero is older than
/// every event.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Version(pub i64);

impl Version {
    /// Older than every event: the version of a pair without events.
    pub const NEVER: Self = Self(0);

    /// The version of the last moment that every database can store, 9999-12-31 23:59:59.999999.
    pub const LAST: Self = Self(253_402_300_799_999_999);

    /// Returns the version of this time.
    #[must_use]
    pub fn at(moment: DateTime<Utc>) -> Self {
        Self(moment.timestamp_micros())
    }

    /// Returns the time of this version; the epoch if it is out of range.
    #[must_use]
    pub fn moment(self) -> DateTime<Utc> {
        DateTime::from_timestamp_micros(self.0).unwrap_or_default()
    }
}

/// A hybrid logical clock. It follows a wall clock. It neither repeats a version nor draws one below an observed version,
/// unless the wall clock steps back by more than [`MAX_LEAD`](Self::MAX_LEAD). The caller supplies the wall clock: the
/// database's time, if it has one, so that all processes follow the same clock.
#[derive(Debug, Default)]
pub struct HybridClock {
    last: AtomicI64,
}

impl HybridClock {
    /// The longest lead of drawn versions over the wall clock. If the wall clock steps back by more, drawing returns to the
    /// wall clock, because versions from the future would lock their pairs until then. Versions of different requests may then
    /// repeat, and the order of states decides.
    pub const MAX_LEAD: Duration = Duration::from_secs(2);

    /// The longest lead of a foreign event's time over the wall clock.
    pub const MAX_AHEAD: Duration = Duration::from_secs(5 * 60);

    /// Draws the next version: `max(wall, last + 1)`, or `wall` if `last` is further ahead of it than
    /// [`MAX_LEAD`](Self::MAX_LEAD).
    pub fn next_at(&self, wall: Version) -> Version {
        self.next_of_at(1, wall)
    }

    /// Draws `count` consecutive versions and returns the first.
    pub fn next_of_at(&self, count: usize, wall: Version) -> Version {
        let further = i64::try_from(count).unwrap_or(i64::MAX) - 1;
        let first = |last: i64| {
            if Self::leads(Version(last), wall, Self::MAX_LEAD) {
                wall.0
            } else {
                wall.0.max(last + 1)
            }
        };
        let previous = self
            .last
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| {
                Some(first(last).saturating_add(further))
            })
            .unwrap_or_else(|last| last);
        Version(first(previous))
    }

    /// Draws a version above the newer version of a request's pair, however far ahead that one is. The clock does not advance,
    /// so other pairs do not follow into the future.
    pub fn above_at(&self, newer: Version, wall: Version) -> Version {
        self.next_at(wall).max(Version(newer.0.saturating_add(1)))
    }

    /// Observes a version drawn elsewhere, so that the next one drawn here is newer. A version beyond
    /// [`MAX_LEAD`](Self::MAX_LEAD) does not advance the clock.
    pub fn observe_at(&self, seen: Version, wall: Version) {
        if !Self::is_from_the_future(seen, wall) {
            self.last.fetch_max(seen.0, Ordering::Relaxed);
        }
    }

    /// Returns whether a version is further in the future than this clock draws by itself. Another clock that runs ahead drew
    /// it, or a request that had to win over such a version.
    #[must_use]
    pub fn is_from_the_future(seen: Version, wall: Version) -> bool {
        Self::leads(seen, wall, Self::MAX_LEAD)
    }

    fn leads(version: Version, wall: Version, by: Duration) -> bool {
        version.0.saturating_sub(wall.0) > by.as_micros() as i64
    }

    /// Returns whether a version is further in the future than [`MAX_AHEAD`](Self::MAX_AHEAD).
    #[must_use]
    pub fn is_too_far_ahead(seen: Version, wall: Version) -> bool {
        Self::leads(seen, wall, Self::MAX_AHEAD)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn versions_are_monotonic_under_any_wall_clock(walls in prop::collection::vec(0i64..1_000, 1..50)) {
            let clock = HybridClock::default();
            let mut last = Version::NEVER;
            for wall in walls {
                let drawn = clock.next_at(Version(wall));
                prop_assert!(drawn > last);
                prop_assert!(drawn >= Version(wall));
                last = drawn;
            }
        }

        #[test]
        fn version_is_newer_than_every_observed_one(seen in 1i64..1_000_000, wall in 0i64..1_000_000) {
            let clock = HybridClock::default();
            clock.observe_at(Version(seen), Version(wall));
            prop_assert!(clock.next_at(Version(wall)) > Version(seen));
        }
    }

    #[test]
    fn versions_drawn_in_a_block_are_exclusive() {
        let clock = HybridClock::default();
        assert_eq!(clock.next_of_at(3, Version(10)), Version(10));
        assert_eq!(clock.next_at(Version(10)), Version(13));
        assert_eq!(clock.next_of_at(2, Version(5)), Version(14));
        assert_eq!(clock.next_at(Version(20)), Version(20));
    }

    const LEAD: i64 = HybridClock::MAX_LEAD.as_micros() as i64;

    #[test]
    fn versions_return_to_a_clock_set_back() {
        const HOUR: i64 = 3_600_000_000;
        let clock = HybridClock::default();
        assert_eq!(clock.next_at(Version(2 * HOUR)), Version(2 * HOUR));
        assert_eq!(clock.next_at(Version(HOUR)), Version(HOUR));
        assert_eq!(clock.next_of_at(1_000, Version(HOUR)), Version(HOUR + 1));
        assert_eq!(clock.next_at(Version(HOUR)), Version(HOUR + 1_001));
    }

    #[test]
    fn observed_versions_lead_the_clock_by_a_bound() {
        let clock = HybridClock::default();
        let wall = Version(1_000_000);
        clock.observe_at(Version(wall.0 + LEAD + 1), wall);
        assert_eq!(clock.next_at(wall), wall);
        clock.observe_at(Version(wall.0 + LEAD), wall);
        assert_eq!(clock.next_at(wall), Version(wall.0 + LEAD + 1));
        // That is the most: the next one is drawn from the wall clock again.
        assert_eq!(clock.next_at(wall), wall);
    }

    #[test]
    fn version_beyond_the_bound_does_not_move_the_clock() {
        let clock = HybridClock::default();
        let (wall, future) = (Version(1_000), Version(9_000_000_000));
        assert_eq!(clock.above_at(future, wall), Version(future.0 + 1));
        assert_eq!(clock.above_at(Version(5), wall), Version(1_001));
        assert_eq!(clock.next_at(wall), Version(1_002));
    }

    #[test]
    fn concurrent_draws_never_repeat_a_version() {
        let clock = HybridClock::default();
        let mut drawn: Vec<Version> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        (0..5_000)
                            .map(|_| clock.next_at(Version(1_000_000)))
                            .collect::<Vec<_>>()
                    })
                })
                .collect();
            threads
                .into_iter()
                .flat_map(|thread| thread.join().expect("no draw panics"))
                .collect()
        });
        let all = drawn.len();
        drawn.sort_unstable();
        drawn.dedup();
        assert_eq!(drawn.len(), all);
    }
}
