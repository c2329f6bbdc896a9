//! When each request of a load is due. `drive` takes one slot for every request it is about to send.

use std::num::NonZeroU32;
use std::time::Duration;

use tokio::time::Instant;

/// A fixed timetable: slot `i` is due at `start + i / rate`, whatever has become of the slots before it. A
/// server that stalls therefore meets the requests that it kept waiting, and their wait is counted.
#[derive(Debug)]
pub(super) struct Schedule {
    start: Instant,
    rate: NonZeroU32,
    taken: u64,
}

impl Schedule {
    pub(super) fn new(start: Instant, rate: NonZeroU32) -> Self {
        Self {
            start,
            rate,
            taken: 0,
        }
    }

    /// The moment of the next slot, which lies in the past when the load is behind.
    pub(super) fn next_due(&mut self) -> Instant {
        let rate = u64::from(self.rate.get());
        // Seconds and their fraction apart: exact, and no product that could overflow.
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
    fn slots_are_evenly_spaced_from_the_start() {
        let expected: Vec<_> = (0..9)
            .map(|slot| Duration::from_millis(slot * 250))
            .collect();
        assert_eq!(offsets(4, 9), expected);
    }

    #[test]
    fn a_rate_that_does_not_divide_a_second_does_not_drift() {
        let offsets = offsets(7_777, 7_777 * 3 + 1);
        assert_eq!(offsets.last(), Some(&Duration::from_secs(3)));
    }
}
