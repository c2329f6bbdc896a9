//! An ongoing outage: each cause is logged once, until the recovery.

use std::time::{Duration, Instant};

/// The number of causes that one outage remembers. Further causes are not reported.
const MOST_CAUSES: usize = 8;

/// An ongoing outage. The caller supplies the time.
#[derive(Debug, Default)]
pub struct Outage {
    since: Option<Instant>,
    failures: u64,
    causes: Vec<String>,
}

impl Outage {
    /// Counts a failure. Returns whether its cause is new in this outage, and should be logged.
    pub fn failed(&mut self, cause: &str, now: Instant) -> bool {
        self.since.get_or_insert(now);
        self.failures += 1;
        let is_new = self.causes.len() < MOST_CAUSES && !self.causes.iter().any(|one| one == cause);
        if is_new {
            self.causes.push(cause.to_owned());
        }
        is_new
    }

    /// Ends the outage. Returns how long it lasted and the number of failures; `None` if there was none.
    pub fn ended(&mut self, now: Instant) -> Option<(Duration, u64)> {
        let since = self.since?;
        let failures = self.failures;
        *self = Self::default();
        Some((now.duration_since(since), failures))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_is_logged_once_per_outage() {
        let start = Instant::now();
        let mut outage = Outage::default();
        assert_eq!(outage.ended(start), None);
        assert!(outage.failed("full", start));
        assert!(!outage.failed("full", start));
        assert!(outage.failed("timed out", start));
        assert!(!outage.failed("full", start));
        let later = start + Duration::from_secs(3);
        assert_eq!(outage.ended(later), Some((Duration::from_secs(3), 4)));
        assert_eq!(outage.ended(later), None);
        assert!(outage.failed("full", later), "a new outage is news again");
    }

    #[test]
    fn log_lines_of_an_outage_are_bounded() {
        let now = Instant::now();
        let mut outage = Outage::default();
        let news = (0..1_000).filter(|n| outage.failed(&n.to_string(), now));
        assert_eq!(news.count(), MOST_CAUSES);
    }
}
