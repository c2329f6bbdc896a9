//! What this process has done, as numbers that only grow: the history of the deployment stores their increases.

use super::metrics::{COMPLETED_BOUNDS, METRICS};

/// What this process has done since it started.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Figures {
    /// Likes and unlikes accepted.
    pub accepted: u64,
    /// Ledger rows completed.
    pub completed: u64,
    /// Failed attempts on ledger rows.
    pub failed: u64,
    /// Completed likes by the bucket of their time from acceptance to completion.
    pub latencies: Vec<u64>,
}

impl Figures {
    /// Returns the figures of this process now.
    #[must_use]
    pub fn now() -> Self {
        Self {
            accepted: METRICS.likes_accepted.total(),
            completed: METRICS.ledger_rows_completed.get(),
            failed: METRICS.total_failed(),
            latencies: METRICS.accepted_to_completed_seconds.counts(),
        }
    }

    /// Returns the increases since an earlier moment.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let before = earlier.latencies.iter().copied();
        let before = before.chain(std::iter::repeat(0));
        Self {
            accepted: self.accepted.saturating_sub(earlier.accepted),
            completed: self.completed.saturating_sub(earlier.completed),
            failed: self.failed.saturating_sub(earlier.failed),
            latencies: self
                .latencies
                .iter()
                .zip(before)
                .map(|(now, before)| now.saturating_sub(before))
                .collect(),
        }
    }
}

/// Returns the time, in seconds, within which this share of likes was completed, from the counts of
/// [`Figures::latencies`]; `None` without likes. Within a bucket, it assumes equal distances. Beyond the last bound, it
/// returns that bound.
#[must_use]
pub fn percentile(latencies: &[u64], share: f64) -> Option<f64> {
    let total: u64 = latencies.iter().sum();
    if total == 0 {
        return None;
    }
    let wanted = share * total as f64;
    let mut below = 0.0;
    let mut lower = 0.0;
    for (count, upper) in latencies.iter().zip(COMPLETED_BOUNDS) {
        let count = *count as f64;
        if count > 0.0 && below + count >= wanted {
            return Some(lower + (upper - lower) * ((wanted - below) / count));
        }
        below += count;
        lower = upper;
    }
    Some(lower)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentile_lies_within_its_bucket() {
        let mut latencies = vec![0; COMPLETED_BOUNDS.len() + 1];
        assert_eq!(percentile(&latencies, 0.5), None);
        // From 5 to 7.5 ms, and from 10 to 15 ms.
        latencies[4] = 90;
        latencies[6] = 10;
        let at = |share| percentile(&latencies, share).expect("a time");
        assert!((at(0.45) - 0.006_25).abs() < 1e-9, "{}", at(0.45));
        assert!((at(0.9) - 0.007_5).abs() < 1e-9, "{}", at(0.9));
        assert!((0.01..=0.015).contains(&at(0.99)), "{}", at(0.99));
        let mut beyond = vec![0; COMPLETED_BOUNDS.len() + 1];
        beyond[COMPLETED_BOUNDS.len()] = 1;
        assert_eq!(percentile(&beyond, 0.5), COMPLETED_BOUNDS.last().copied());
    }

    #[test]
    fn increases_are_those_since_the_earlier_moment() {
        let earlier = Figures {
            accepted: 1,
            completed: 1,
            failed: 0,
            latencies: vec![1, 0],
        };
        let later = Figures {
            accepted: 5,
            completed: 3,
            failed: 2,
            latencies: vec![2, 1],
        };
        let expected = Figures {
            accepted: 4,
            completed: 2,
            failed: 2,
            latencies: vec![1, 1],
        };
        assert_eq!(later.since(&earlier), expected);
        assert_eq!(later.since(&Figures::default()), later);
    }
}
