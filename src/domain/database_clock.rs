//! The database's time, which determines versions, leases and due times.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};

/// This process's estimate of the database's clock.
///
/// One process writes leases and due times and another reads them, and their wall clocks may differ by hours. All
/// processes therefore use the database's time. Between two measurements this process's monotonic clock advances it, so
/// a step of the wall clock has no effect. A measurement is wrong by half a round trip at the most, so the estimate does not
/// go back by less than a second: what this process dates stays in order.
#[derive(Debug, Default)]
pub struct DatabaseClock(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    measured: Option<Measured>,
    /// The latest time that was told.
    told: Option<DateTime<Utc>>,
}

/// A difference of this size between two measurements is a step of the database's clock.
const LARGEST_ERROR: TimeDelta = TimeDelta::seconds(1);

#[derive(Debug, Clone, Copy)]
struct Measured {
    /// Returns the database's time at `at`.
    time: DateTime<Utc>,
    at: Instant,
    skew: TimeDelta,
}

impl DatabaseClock {
    /// The longest round trip of a usable measurement.
    pub const LONGEST_ROUND_TRIP: Duration = Duration::from_secs(1);

    /// Returns the database's time, or this process's wall clock if the database's was never measured.
    #[must_use]
    pub fn now(&self) -> DateTime<Utc> {
        let mut state = self.lock();
        let Some(measured) = state.measured else {
            return Utc::now();
        };
        let now = measured.time + measured.at.elapsed();
        let now = match state.told {
            Some(told) if now < told && told - now < LARGEST_ERROR => told,
            _ => now,
        };
        state.told = Some(now);
        now
    }

    /// Returns how far this process's wall clock was ahead of the database's at the last measurement;
    /// negative if behind, `None` if it was never measured.
    #[must_use]
    pub fn skew(&self) -> Option<TimeDelta> {
        self.lock().measured.map(|measured| measured.skew)
    }

    /// Records a measurement: a query sent at `asked`, when the wall clock showed `wall`, returned the time `database` at
    /// `answered`. The time applies to the middle of the round trip.
    pub fn note(
        &self,
        database: DateTime<Utc>,
        wall: DateTime<Utc>,
        asked: Instant,
        answered: Instant,
    ) {
        let round_trip = answered.duration_since(asked);
        if round_trip > Self::LONGEST_ROUND_TRIP {
            return;
        }
        let half = round_trip / 2;
        self.lock().measured = Some(Measured {
            time: database,
            at: asked + half,
            skew: wall + half - database,
        });
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Decides when to report a clock's skew: once when it becomes large, and once when it is small again.
#[derive(Debug, Default)]
pub struct ClockWatch {
    is_off: bool,
}

/// A reportable change of a clock's skew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClockNews {
    /// The skew became large.
    Off,
    /// The skew became small again.
    Right,
}

impl ClockWatch {
    /// A larger skew is reported.
    pub const LARGE: TimeDelta = TimeDelta::seconds(1);

    /// Records a skew. Returns a change to report, if there is one.
    pub fn note(&mut self, skew: TimeDelta) -> Option<ClockNews> {
        // The lower second limit prevents repeated reports of a skew near the limit.
        let limit = if self.is_off {
            Self::LARGE / 2
        } else {
            Self::LARGE
        };
        let is_off = skew.abs() > limit;
        if std::mem::replace(&mut self.is_off, is_off) == is_off {
            return None;
        }
        Some(if is_off {
            ClockNews::Off
        } else {
            ClockNews::Right
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noted(round_trip: Duration) -> (DatabaseClock, DateTime<Utc>) {
        let clock = DatabaseClock::default();
        let database = Utc::now() - TimeDelta::hours(1);
        let answered = Instant::now();
        let asked = answered
            .checked_sub(round_trip)
            .expect("a machine that has run");
        clock.note(database, database + TimeDelta::hours(2), asked, answered);
        (clock, database)
    }

    #[test]
    fn answer_is_dated_to_the_middle_of_the_round_trip() {
        let (clock, database) = noted(Duration::from_millis(200));
        let skew = TimeDelta::hours(2) + TimeDelta::milliseconds(100);
        assert_eq!(clock.skew(), Some(skew));
        let since = clock.now() - database;
        assert!(since >= TimeDelta::milliseconds(100), "{since}");
        assert!(since < TimeDelta::minutes(30), "{since}");
    }

    #[test]
    fn time_goes_back_only_if_the_clock_of_the_database_does() {
        let (clock, database) = noted(Duration::ZERO);
        let measure = |time| {
            let at = Instant::now();
            clock.note(time, time, at, at);
        };
        let before = clock.now();
        measure(database - TimeDelta::milliseconds(500));
        assert!(clock.now() >= before);
        measure(database - TimeDelta::minutes(1));
        assert!(clock.now() < before);
    }

    #[test]
    fn skew_is_reported_once_and_its_end_once() {
        let mut watch = ClockWatch::default();
        let mut noted = Vec::new();
        for milliseconds in [0, 999, -1_001, -9_000, 1_001, 990, 1_001, 499, 1, 1_001] {
            noted.extend(watch.note(TimeDelta::milliseconds(milliseconds)));
        }
        assert_eq!(noted, [ClockNews::Off, ClockNews::Right, ClockNews::Off]);
    }

    #[test]
    fn slow_answers_are_ignored() {
        let (clock, database) = noted(Duration::from_secs(2));
        assert_eq!(clock.skew(), None);
        assert!(
            clock.now() - database >= TimeDelta::hours(1),
            "the wall clock"
        );
    }
}
