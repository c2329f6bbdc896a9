//! When each request of a load is due. `drive` takes one slot for every request it is about to send.

use std::num::NonZeroU32;
use std::time::Duration;

use tokio::time::Instant;

/// A fixed schedule: slot `i` is due at `start + i / rate`, independent of the outcomes before it. When the server
/// stalls, the delayed requests count their wait as latency (no coordinated omission).
#[derive(Debug)]
pub(crate) struct Schedule {
    start: Instant,
    rate: NonZeroU32,
    taken: u64,
}

impl Schedule {
    pub(crate) fn new(start: Instant, rate: NonZeroU32) -> Self {
        Self {
            start,
            rate,
            taken: 0,
        }
    }

    /// Takes the next slot and returns its time, which is in the past when the load is behind.
    pub(crate) fn next_due(&mut self) -> Instant {
        let rate = u64::from(self.rate.get());
        // Seconds and their fraction apart: exact and free of overflow.
        let seconds = self.taken / rate;
        let nanoseconds = (self.taken % rate) * 1_000_000_000 / rate;
        self.taken += 1;
        self.start + Duration::from_secs(seconds) + Duration::from_nanos(nanoseconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offsets(rate: u32, slots: usize) -> Vec<Duration> {
        let start = Instant::now();
        let mut schedule = Schedule::new(start, NonZeroU32::new(rate).expect("above 0"));
        (0..slots).map(|_| schedule.next_due() - start).collect()
    }

    #[test]
    fn slots_are_evenly_spaced() {
        let expected: Vec<_> = (0..9)
            .map(|slot| Duration::from_millis(slot * 250))
            .collect();
        assert_eq!(offsets(4, 9), expected);
    }

    #[test]
    fn schedule_does_not_drift_at_odd_rates() {
        let offsets = offsets(7_777, 7_777 * 3 + 1);
        assert_eq!(offsets.last(), Some(&Duration::from_secs(3)));
    }
}
