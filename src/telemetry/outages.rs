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

/// The interval between log lines during an outage. An outage without a failure for this long is over.
const REMIND_EVERY: Duration = Duration::from_secs(60);

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
            worked_at: None,
            said_at: now,
            is_said: true,
            causes: vec![cause.to_owned()],
        }
    }

    /// Records a failure.
    fn failed(&mut self, now: Instant, rows: u64, cause: &str) -> Say {
        let quiet = now.saturating_duration_since(self.worked_at.unwrap_or(self.failed_at));
        let over_after = self.worked_at.map_or(REMIND_EVERY, |_| SETTLED_AFTER);
        if quiet > over_after {
            *self = Self::begin(now, rows, cause);
            return Say::Begun;
        }
        self.calls += 1;
        self.rows += rows;
        self.failed_at = now;
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
}

type Key = (Dependency, &'static str);

static OUTAGES: Mutex<BTreeMap<Key, Outage>> = Mutex::new(BTreeMap::new());

/// The number of current outages. While it is zero, recording a success costs nothing.
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
    gauge(dependency, doing, 1);
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
    gauge(dependency, doing, 0);
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
    let current = outages
        .iter()
        .filter(|(_, outage)| !outage.is_over() && outage.failed_at.elapsed() < REMIND_EVERY);
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

fn lock() -> MutexGuard<'static, BTreeMap<Key, Outage>> {
    OUTAGES.lock().unwrap_or_else(PoisonError::into_inner)
}

fn note(outages: &BTreeMap<Key, Outage>) {
    let open = outages.values().filter(|outage| !outage.is_over()).count();
    OPEN.store(open, Ordering::Relaxed);
}

fn gauge(dependency: Dependency, doing: &'static str, failing: i64) {
    let dependency = dependency.as_str();
    let gauge = METRICS.failing.get_or_create(&OutageLabels {
        part: dependency,
        doing,
    });
    gauge.set(failing);
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
    fn new_cause_is_named_until_there_are_many() {
        let now = Instant::now();
        let mut outage = Outage::begin(now, 0, "locked");
        assert_eq!(outage.failed(now, 0, "disk full"), Say::Still);
        assert_eq!(outage.failed(now, 0, "disk full"), Say::Nothing);
        let said = (0..100).filter(|n| outage.failed(now, 0, &n.to_string()) == Say::Still);
        assert_eq!(said.count(), 3);
    }
}
