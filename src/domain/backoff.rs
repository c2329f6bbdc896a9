//! The back-off between attempts. Called by the ledger's rules and by everything that reconnects.

use std::time::Duration;

/// Exponential back-off with full jitter and a cap: a random wait between zero and `base * 2^(attempt - 1)`, at most
/// `cap`. Full jitter prevents many workers from retrying at the same moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The longest wait after the first failed attempt.
    pub base: Duration,
    /// The longest wait after any attempt.
    pub cap: Duration,
}

impl Backoff {
    /// Returns the longest wait after this many failed attempts.
    #[must_use]
    pub fn ceiling(&self, attempts: u32) -> Duration {
        let doublings = attempts.saturating_sub(1).min(31);
        self.base.saturating_mul(1 << doublings).min(self.cap)
    }

    /// Returns the wait after this many failed attempts, for a `draw` in `0.0..1.0`.
    #[must_use]
    pub fn wait(&self, attempts: u32, draw: f64) -> Duration {
        self.ceiling(attempts).mul_f64(draw.clamp(0.0, 1.0))
    }

    /// Returns a random wait after this many failed attempts.
    #[must_use]
    pub fn draw(&self, attempts: u32) -> Duration {
        self.wait(attempts, rand::random())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BACKOFF: Backoff = Backoff {
        base: Duration::from_millis(500),
        cap: Duration::from_secs(60),
    };

    #[test]
    fn backoff_ceiling_doubles_up_to_the_cap() {
        let ceilings: Vec<_> = (1..=9).map(|n| BACKOFF.ceiling(n).as_millis()).collect();
        assert_eq!(
            ceilings,
            [
                500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000
            ]
        );
    }

    proptest! {
        #[test]
        fn delay_never_exceeds_its_ceiling(attempts in 0u32..u32::MAX, draw in 0.0f64..1.0) {
            let wait = BACKOFF.wait(attempts, draw);
            prop_assert!(wait <= BACKOFF.ceiling(attempts));
            prop_assert!(wait <= BACKOFF.cap);
        }
    }
}
