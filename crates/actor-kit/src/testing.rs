//! What the unit tests share.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use crate::observer::Observer;
use crate::registry::Registry;
use crate::report::StuckAfter;
use crate::supervisor::{Starter, SupervisorPolicy};

struct Silent;

impl Observer for Silent {
    fn panicked(&self, _: &'static str, _: &str) {}

    fn restarted(&self, _: &'static str, _: u64) {}

    fn given_up(&self, _: &'static str, _: usize, _: Duration) {}
}

/// Restarts an actor at once, twice.
pub(crate) fn starter(capacity: usize) -> Starter {
    let stuck_after = StuckAfter {
        no_progress: Duration::from_secs(10),
        blocked_thread: Duration::from_secs(1),
    };
    Starter {
        registry: Registry::new(stuck_after, Silent),
        policy: SupervisorPolicy {
            wait: |_| Duration::from_millis(1),
            max_restarts: 2,
            window: Duration::from_secs(60),
        },
        capacity,
        given_up: Arc::new(Notify::new()),
    }
}

/// Waits until the condition holds, two minutes at the most, for busy machines.
pub(crate) async fn until(condition: impl Fn() -> bool) {
    let holds = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let held = tokio::time::timeout(Duration::from_secs(120), holds).await;
    assert!(held.is_ok(), "the condition does not hold");
}
