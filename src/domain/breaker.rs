//! The circuit breaker: after several failures in a row it refuses callers for a while, so that a dependency that is
//! down costs neither time nor connections. Then it admits one caller at a time, until one succeeds.

use std::time::{Duration, Instant};

/// The thresholds of a breaker.
#[derive(Debug, Clone, Copy)]
pub struct BreakerPolicy {
    /// The number of failures in a row that opens it.
    pub failures: u32,
    /// The first open interval; doubled each time an admitted caller fails.
    pub open_for: Duration,
    /// The longest open interval.
    pub open_for_at_most: Duration,
}

/// The state change that a failure or a success caused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    None,
    /// The breaker opened.
    Opened,
    /// The breaker closed after being open for this long.
    Closed(Duration),
}

/// A circuit breaker. The caller supplies the time.
#[derive(Debug)]
pub struct Breaker {
    policy: BreakerPolicy,
    failures: u32,
    open: Option<Open>,
}

#[derive(Debug, Clone, Copy)]
struct Open {
    since: Instant,
    next: Instant,
    wait: Duration,
}

impl Breaker {
    /// Creates a closed breaker.
    #[must_use]
    pub const fn new(policy: BreakerPolicy) -> Self {
        Self {
            policy,
            failures: 0,
            open: None,
        }
    }

    /// Returns whether a caller may try now. An open breaker admits one caller per open interval, whether or not that
    /// caller reports its outcome.
    pub fn admit(&mut self, now: Instant) -> bool {
        let Some(open) = &mut self.open else {
            return true;
        };
        if now < open.next {
            return false;
        }
        open.next = now + open.wait;
        true
    }

    /// Returns whether the breaker is open.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Records an answer that resets the failures but does not close an open breaker.
    pub const fn answered(&mut self) {
        if self.open.is_none() {
            self.failures = 0;
        }
    }

    /// Opens the breaker at once, after an unambiguous failure.
    pub fn trip(&mut self, now: Instant) -> Change {
        self.failures = self.policy.failures.saturating_sub(1);
        self.failed(now)
    }

    /// Records a success, which closes the breaker.
    pub fn succeeded(&mut self, now: Instant) -> Change {
        self.failures = 0;
        match self.open.take() {
            Some(open) => Change::Closed(now.saturating_duration_since(open.since)),
            None => Change::None,
        }
    }

    /// Records a failure.
    pub fn failed(&mut self, now: Instant) -> Change {
        self.failures = self.failures.saturating_add(1);
        if let Some(open) = &mut self.open {
            open.wait = (open.wait * 2).min(self.policy.open_for_at_most);
            open.next = now + open.wait;
            return Change::None;
        }
        if self.failures < self.policy.failures {
            return Change::None;
        }
        self.open = Some(Open {
            since: now,
            next: now + self.policy.open_for,
            wait: self.policy.open_for,
        });
        Change::Opened
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: BreakerPolicy = BreakerPolicy {
        failures: 3,
        open_for: Duration::from_secs(1),
        open_for_at_most: Duration::from_secs(3),
    };

    fn opened(now: Instant) -> Breaker {
        let mut breaker = Breaker::new(POLICY);
        assert_eq!(breaker.failed(now), Change::None);
        assert_eq!(breaker.failed(now), Change::None);
        assert_eq!(breaker.failed(now), Change::Opened);
        breaker
    }

    fn after(now: Instant, seconds: f64) -> Instant {
        now + Duration::from_secs_f64(seconds)
    }

    #[test]
    fn only_consecutive_failures_open_the_breaker() {
        let now = Instant::now();
        let mut breaker = Breaker::new(POLICY);
        for _ in 0..10 {
            breaker.failed(now);
            breaker.failed(now);
            assert_eq!(breaker.succeeded(now), Change::None);
        }
        assert!(breaker.admit(now));
        assert!(!opened(now).admit(now));
    }

    #[test]
    fn open_breaker_admits_one_probe_at_a_time() {
        let now = Instant::now();
        let mut breaker = opened(now);
        assert!(!breaker.admit(after(now, 0.9)));
        assert!(breaker.admit(after(now, 1.0)));
        assert!(!breaker.admit(after(now, 1.9)));
        // The first never came back.
        assert!(breaker.admit(after(now, 2.0)));
    }

    #[test]
    fn trip_opens_at_once_and_an_answer_does_not_close() {
        let now = Instant::now();
        let mut breaker = Breaker::new(POLICY);
        assert_eq!(breaker.trip(now), Change::Opened);
        breaker.answered();
        assert!(breaker.is_open());
        assert!(!breaker.admit(now));
        assert_eq!(breaker.succeeded(now), Change::Closed(Duration::ZERO));
    }

    #[test]
    fn open_interval_grows_to_a_bound_and_first_success_closes() {
        let now = Instant::now();
        let mut breaker = opened(now);
        for wait in [2.0, 3.0, 3.0] {
            assert_eq!(breaker.failed(now), Change::None);
            assert!(!breaker.admit(after(now, wait - 0.1)));
        }
        let later = after(now, 9.0);
        assert_eq!(
            breaker.succeeded(later),
            Change::Closed(Duration::from_secs(9))
        );
        assert!(breaker.admit(later));
        assert_eq!(breaker.failed(later), Change::None);
    }
}
