//! The pace of a runner's jobs: full speed or with rests, and whether to stop.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The pace of a runner's jobs. Its runner sets it, and its jobs follow it.
pub(super) struct Pace {
    /// Whether jobs run at full speed, without leaving time for likes.
    is_hurried: bool,
    stopped: AtomicBool,
}

impl Pace {
    pub(super) const fn new(is_hurried: bool) -> Self {
        Self {
            is_hurried,
            stopped: AtomicBool::new(false),
        }
    }

    /// Stops the jobs after their current step.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// Returns whether the jobs run at full speed.
    pub(super) const fn is_hurried(&self) -> bool {
        self.is_hurried
    }

    /// Leaves this time for likes, unless the jobs run at full speed.
    pub(super) async fn leave_time(&self, time: Duration) {
        if !self.is_hurried {
            self.rest(time).await;
        }
    }

    /// Rests, at most until the jobs are stopped.
    pub(super) async fn rest(&self, time: Duration) {
        let until = Instant::now() + time;
        while !self.is_stopped() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left.min(Duration::from_millis(200))).await;
        }
    }
}
