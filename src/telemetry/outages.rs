//! Outages: successive failures of one kind of call. The log reports the beginning, the state once a minute, and the end,
//! whatever the number of failures.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;
use utoipa::ToSchema;

use super::dependency::Dependency;
use super::logging::seconds;
use super::metrics::{METRICS, OutageLabels};

/// The interval between log lines during an outage, and the shortest time without a failure after which an outage is over.
const REMIND_EVERY: Duration = Duration::from_secs(60);

/// The longest time without a failure after which an outage is over: twice the longest pause of a back-off.
const LONGEST_SILENCE: Duration = Duration::from_secs(600);

/// Failures this soon after a success belong to the previous outage, so that alternating failures and successes do not
/// fill the log.
const SETTLED_AFTER: Duration = Duration::from_secs(10);

/// A current outage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Failing {
    /// The dependency.
    #[schema(value_type = Dependency)]
    pub dependency: &'static str,
    /// The failing operation.
    pub doing: &'static str,
    /// The duration of the outage in seconds.
    pub seconds: u64,
    /// The number of failed calls.
    pub calls: u64,
    /// The number of times that a ledger row was put back to wait.
    pub rows: u64,
}

/// Calls of one kind.
#[derive(Debug)]
struct Outage {
    since: Instant,
    calls: u64,
    rows: u64,
    /// The time of the last failure.
    failed_at: Instant,
    /// The longest time from one failure to the next.
    longest_pause: Duration,
    /// The time of the first success after it.
    worked_at: Option<Instant>,
    /// The time of the last log line.
    said_at: Instant,
    /// Whether the log has reported the beginning but not the end.
    is_said: bool,
    /// The causes logged within the last minute.
    causes: Vec<String>,
}

/// The number of causes of one outage that are logged within a minute.
const CAUSES: usize = 5;

/// A log line about an outage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Say {
    Nothing,
    Begun,
    Still,
    Ended,
}

impl Outage {
    fn begin(now: Instant, rows: u64, cause: &str) -> Self {
        Self {
            since: now,
            calls: 1,
            rows,
            failed_at: now,
            longest_pause: Duration::ZERO,
            worked_at: None,
            said_at: now,
            is_said: true,
            causes: vec![cause.to_owned()],
        }
    }

    /// Records a failure.
    fn failed(&mut self, now: Instant, rows: u64, cause: &str) -> Say {
        let over_after = self.worked_at.map_or(self.silence(), |_| SETTLED_AFTER);
        let quiet = now.saturating_duration_since(self.worked_at.unwrap_or(self.failed_at));
        self.still_fails(now);
        if quiet > over_after {
            let longest_pause = self.longest_pause;
            *self = Self {
                longest_pause,
                ..Self::begin(now, rows, cause)
            };
            return Say::Begun;
        }
        self.calls += 1;
        self.rows += rows;
        self.worked_at = None;
        let is_reminder = now.saturating_duration_since(self.said_at) >= REMIND_EVERY;
        if is_reminder {
            self.causes.clear();
        }
        let is_new = !self.causes.iter().any(|named| named == cause);
        if !is_reminder && (!is_new || self.causes.len() >= CAUSES) {
            return Say::Nothing;
        }
        self.causes.push(cause.to_owned());
        self.is_said = true;
        if is_reminder {
            self.said_at = now;
        }
        Say::Still
    }

    /// Records the time of a failure, and the pause before it.
    fn still_fails(&mut self, now: Instant) {
        let pause = now.saturating_duration_since(self.failed_at);
        self.failed_at = now;
        // After a success, and between calls that are far apart, the pause is no back-off.
        self.longest_pause = if self.is_over() || pause > LONGEST_SILENCE {
            Duration::ZERO
        } else {
            self.longest_pause.max(pause)
        };
    }

    /// Returns how long the outage lasts without a failure: twice the longest pause so far, so that a back-off does not end
    /// it.
    fn silence(&self) -> Duration {
        (self.longest_pause * 2).clamp(REMIND_EVERY, LONGEST_SILENCE)
    }

    /// Records a success.
    fn worked(&mut self, now: Instant) -> Say {
        if self.worked_at.is_some() {
            return Say::Nothing;
        }
        self.worked_at = Some(now);
        if !std::mem::take(&mut self.is_said) {
            return Say::Nothing;
        }
        Say::Ended
    }

    const fn is_over(&self) -> bool {
        self.worked_at.is_some()
    }

    /// Returns whether the last call failed, not too long ago. Some calls are never repeated, so no success ends their outage.
    fn is_current(&self) -> bool {
        !self.is_over() && self.failed_at.elapsed() < self.silence()
    }
}

type Key = (Dependency, &'static str);

static OUTAGES: Mutex<BTreeMap<Key, Outage>> = Mutex::new(BTreeMap::new());

/// The number of outages that no success has ended. While it is zero, recording a success costs nothing.
static OPEN: AtomicUsize = AtomicUsize::new(0);

/// Records a failed call, and the number of ledger rows that it puts back to wait.
pub(super) fn failed(
    dependency: Dependency,
    doing: &'static str,
    rows: usize,
    error: &dyn Display,
) {
    let now = Instant::now();
    let cause = error.to_string();
    let rows = rows as u64;
    let mut outages = lock();
    let (say, told) = match outages.get_mut(&(dependency, doing)) {
        Some(outage) => (
            outage.failed(now, rows, &cause),
            (outage.calls, outage.rows),
        ),
        None => {
            outages.insert((dependency, doing), Outage::begin(now, rows, &cause));
            (Say::Begun, (1, rows))
        }
    };
    note(&outages);
    drop(outages);
    let dependency = dependency.as_str();
    match say {
        Say::Begun => {
            log::warn!(target: "likewise", dependency, doing, error = cause; "{doing} failed");
        }
        Say::Still => log::warn!(
            target: "likewise", dependency, doing, calls = told.0, rows = told.1, error = cause;
            "{doing} still fails"
        ),
        Say::Nothing | Say::Ended => {
            log::debug!(target: "likewise", dependency, doing, error = cause; "{doing} failed");
        }
    }
}

/// Records a call that was not made because its dependency is known to be down. The log has reported that. A call that
/// failed before still fails.
pub(super) fn not_made(dependency: Dependency, doing: &'static str) {
    let mut outages = lock();
    let outage = outages.get_mut(&(dependency, doing));
    if let Some(outage) = outage.filter(|outage| !outage.is_over()) {
        outage.still_fails(Instant::now());
    }
}

/// Records a successful call.
pub(super) fn worked(dependency: Dependency, doing: &'static str) {
    if OPEN.load(Ordering::Relaxed) == 0 {
        return;
    }
    let mut outages = lock();
    let Some(outage) = outages.get_mut(&(dependency, doing)) else {
        return;
    };
    let said = outage.worked(Instant::now());
    let (since, calls, rows) = (outage.since, outage.calls, outage.rows);
    note(&outages);
    drop(outages);
    if said == Say::Ended {
        log::info!(
            target: "likewise",
            dependency = dependency.as_str(), doing, calls, rows, seconds = seconds(since.elapsed());
            "{doing} succeeds again"
        );
    }
}

/// Returns the current outages of this process.
#[must_use]
pub fn failing() -> Vec<Failing> {
    let outages = lock();
    let current = outages.iter().filter(|(_, outage)| outage.is_current());
    current
        .map(|((dependency, doing), outage)| Failing {
            dependency: dependency.as_str(),
            doing,
            seconds: outage.since.elapsed().as_secs(),
            calls: outage.calls,
            rows: outage.rows,
        })
        .collect()
}

/// Sets the metric of each kind of call that has failed: 1 during an outage, otherwise 0.
pub(super) fn set_gauges() {
    let outages = lock();
    for (&(dependency, doing), outage) in &*outages {
        let labels = OutageLabels {
            part: dependency.as_str(),
            doing,
        };
        let gauge = METRICS.failing.get_or_create(&labels);
        gauge.set(i64::from(outage.is_current()));
    }
}

fn lock() -> MutexGuard<'static, BTreeMap<Key, Outage>> {
    OUTAGES.lock().unwrap_or_else(PoisonError::into_inner)
}

fn note(outages: &BTreeMap<Key, Outage>) {
    let open = outages.values().filter(|outage| !outage.is_over()).count();
    OPEN.store(open, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(now: Instant, seconds: u64) -> Instant {
        now + Duration::from_secs(seconds)
    }

    #[test]
    fn outage_logs_once_a_minute_and_at_its_end() {
        let now = Instant::now();
        let mut outage = Outage::begin(now, 5, "locked");
        let said: Vec<_> = (1..=130)
            .map(|second| outage.failed(after(now, second), 1, "locked"))
            .filter(|say| *say != Say::Nothing)
            .collect();
        assert_eq!(said, [Say::Still; 2]);
        assert_eq!((outage.calls, outage.rows), (131, 135));
        assert_eq!(outage.worked(after(now, 131)), Say::Ended);
        assert_eq!(outage.worked(after(now, 132)), Say::Nothing);
    }

    #[test]
    fn alternating_failures_are_one_outage() {
        let now = Instant::now();
        let mut outage = Outage::begin(now, 0, "locked");
        assert_eq!(outage.worked(after(now, 1)), Say::Ended);
        for second in (2..50).step_by(2) {
            assert_eq!(outage.failed(after(now, second), 0, "locked"), Say::Nothing);
            assert_eq!(outage.worked(after(now, second + 1)), Say::Nothing);
        }
        assert_eq!(outage.failed(after(now, 100), 0, "locked"), Say::Begun);
    }

    #[test]
    fn outage_ends_after_a_minute_without_failure() {
        let now = Instant::now();
        let mut outage = Outage::begin(now, 0, "locked");
        assert_eq!(outage.failed(after(now, 61), 0, "locked"), Say::Begun);
    }

    #[test]
    fn long_pauses_between_failures_do_not_end_an_outage() {
        let now = Instant::now();
        let mut outage = Outage::begin(now, 0, "no answer");
        assert_eq!(outage.failed(after(now, 50), 0, "no answer"), Say::Nothing);
        assert_eq!(outage.failed(after(now, 150), 0, "no answer"), Say::Still);
        assert_eq!(outage.silence(), Duration::from_secs(200));
        assert_eq!(outage.failed(after(now, 450), 0, "no answer"), Say::Begun);
        // Both pauses are known to the outage that begins anew.
        assert_eq!(outage.silence(), LONGEST_SILENCE);
        assert_eq!(outage.failed(after(now, 750), 0, "no answer"), Say::Still);
        // Nothing is known of the time after a success, or of calls that are far apart.
        assert_eq!(outage.worked(after(now, 751)), Say::Ended);
        assert_eq!(outage.failed(after(now, 800), 0, "no answer"), Say::Begun);
        assert_eq!(outage.silence(), REMIND_EVERY);
        assert_eq!(outage.failed(after(now, 4_400), 0, "no answer"), Say::Begun);
        assert_eq!(outage.silence(), REMIND_EVERY);
    }

    /// Dates the last failure of the database at this a minute ago.
    fn age(doing: &'static str) {
        let a_minute_ago = Instant::now().checked_sub(REMIND_EVERY);
        let mut outages = lock();
        let outage = outages.get_mut(&(Dependency::Database, doing));
        outage.expect("an outage").failed_at = a_minute_ago.expect("a minute since the boot");
    }

    #[test]
    fn calls_that_are_not_made_keep_their_outage() {
        const DOING: &str = "a call behind an open breaker";
        let key = (Dependency::Database, DOING);
        let is_current = || lock().get(&key).map(Outage::is_current);
        not_made(Dependency::Database, DOING);
        assert_eq!(is_current(), None, "no failure was reported");
        failed(Dependency::Database, DOING, 0, &"refused");
        age(DOING);
        assert_eq!(is_current(), Some(false));
        not_made(Dependency::Database, DOING);
        assert_eq!(is_current(), Some(true));
        worked(Dependency::Database, DOING);
        not_made(Dependency::Database, DOING);
        assert_eq!(is_current(), Some(false));
    }

    #[test]
    fn metric_falls_a_minute_after_the_last_failure() {
        const DOING: &str = "a call that is not repeated";
        let shown = || {
            set_gauges();
            let labels = OutageLabels {
                part: Dependency::Database.as_str(),
                doing: DOING,
            };
            METRICS.failing.get_or_create(&labels).get()
        };
        failed(Dependency::Database, DOING, 0, &"locked");
        assert_eq!(shown(), 1);
        age(DOING);
        assert_eq!(shown(), 0);
    }

    #[test]
    fn new_cause_is_named_until_there_are_many() {
        let now = Instant::now();
        let mut outage = Outage::begin(now, 0, "locked");
        assert_eq!(outage.failed(now, 0, "disk full"), Say::Still);
        assert_eq!(outage.failed(now, 0, "disk full"), Say::Nothing);
        let said = (0..100).filter(|n| outage.failed(now, 0, &n.to_string()) == Say::Still);
        assert_eq!(said.count(), 3);
    }
}
