//! Counts the requests of each user or address, and bounds the memory for it.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::config::Quota;
use governor::clock::{Clock, DefaultClock};
use governor::middleware::StateInformationMiddleware;
use governor::state::keyed::DashMapStateStore;
use governor::{Quota as Cells, RateLimiter};

/// The most keys with a count of their own, of about 60 bytes each. While there are more, all keys share
/// [`SHARED`] counts, so that a flood of addresses cannot fill the memory.
const MOST_KEYS: usize = 200_000;
const SHARED: u64 = 1_024;

/// After how many requests the number of keys is checked.
const CHECK_EVERY: u32 = 256;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Bucket<K> {
    Own(K),
    Shared(u64),
}

/// The usage of a limit by one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Usage {
    /// The number of requests that may follow at once.
    pub(super) remaining: u32,
    /// How long until the whole quota is available again.
    pub(super) reset_after: Duration,
    /// How long to wait, if this request exceeds the limit.
    pub(super) retry_after: Option<Duration>,
}

/// Counts by key. Keys whose whole quota is available are forgotten.
pub(super) struct Limiter<K: Hash + Eq + Clone> {
    quota: Quota,
    counts: RateLimiter<
        Bucket<K>,
        DashMapStateStore<Bucket<K>>,
        DefaultClock,
        StateInformationMiddleware,
    >,
    checks: AtomicU32,
    is_full: AtomicBool,
    started: Instant,
    sweep_at: AtomicU64,
}

impl<K: Hash + Eq + Clone> Limiter<K> {
    pub(super) fn new(quota: Quota) -> Self {
        // A share is never zero, since both numbers of a quota have bounds.
        let cells = Cells::with_period(quota.share())
            .unwrap_or(Cells::per_second(quota.count()))
            .allow_burst(quota.count());
        Self {
            quota,
            counts: RateLimiter::dashmap(cells).with_middleware(),
            checks: AtomicU32::new(0),
            is_full: AtomicBool::new(false),
            started: Instant::now(),
            sweep_at: AtomicU64::new(0),
        }
    }

    pub(super) const fn quota(&self) -> Quota {
        self.quota
    }

    /// Counts one request.
    pub(super) fn check(&self, key: K) -> Usage {
        self.tidy();
        let key = if self.is_full.load(Ordering::Relaxed) {
            let mut hasher = DefaultHasher::new();
            key.hash(&mut hasher);
            Bucket::Shared(hasher.finish() % SHARED)
        } else {
            Bucket::Own(key)
        };
        let used = |remaining: u32| self.quota.count().get().saturating_sub(remaining);
        match self.counts.check_key(&key) {
            Ok(state) => {
                let remaining = state.remaining_burst_capacity();
                Usage {
                    remaining,
                    reset_after: self.quota.share() * used(remaining),
                    retry_after: None,
                }
            }
            Err(state) => Usage {
                remaining: 0,
                reset_after: self.quota.share() * used(0),
                retry_after: Some(state.wait_time_from(DefaultClock::default().now())),
            },
        }
    }

    /// From time to time, forgets keys whose whole quota is available, and checks whether there are too many.
    fn tidy(&self) {
        let checks = self.checks.fetch_add(1, Ordering::Relaxed);
        if !checks.is_multiple_of(CHECK_EVERY) {
            return;
        }
        let now = self.started.elapsed().as_secs();
        let due = self.sweep_at.load(Ordering::Relaxed);
        let next = now + u64::from(self.quota.seconds().get().min(10));
        let taken = || {
            let relaxed = Ordering::Relaxed;
            let sweep_at = &self.sweep_at;
            sweep_at.compare_exchange(due, next, relaxed, relaxed)
        };
        if now >= due && taken().is_ok() {
            self.counts.retain_recent();
            self.counts.shrink_to_fit();
        }
        self.is_full
            .store(self.counts.len() > MOST_KEYS, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_has_its_own_quota() {
        let limiter = Limiter::new("3/3000".parse().expect("a quota"));
        let remaining: Vec<_> = (0..3).map(|_| limiter.check(1).remaining).collect();
        assert_eq!(remaining, [2, 1, 0]);
        let refused = limiter.check(1);
        let wait = refused.retry_after.expect("one too many");
        assert!(Duration::from_secs(990) < wait && wait <= Duration::from_secs(1_000));
        assert_eq!(refused.reset_after, Duration::from_secs(3_000));
        assert_eq!(limiter.check(2).retry_after, None);
    }

    #[test]
    fn memory_is_bounded_for_any_number_of_keys() {
        let limiter = Limiter::new("1/1000000".parse().expect("a quota"));
        for key in 0..2 * MOST_KEYS {
            limiter.check(key);
        }
        let bound = MOST_KEYS + SHARED as usize + CHECK_EVERY as usize;
        assert!(limiter.counts.len() <= bound, "{}", limiter.counts.len());
    }
}
