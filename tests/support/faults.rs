//! Faults of actors that a service injects into itself, if `LIKEWISE_FAULT_INJECTION` is set.

use std::time::{Duration, Instant};

use super::http::Client;

/// Longer than an injected block, which lasts five seconds.
const BLOCK_HAS_ENDED: Duration = Duration::from_secs(8);

impl Client {
    /// Makes an actor panic.
    #[track_caller]
    pub fn provoke(&self, actor: &str) {
        let path = format!("/admin/faults/panic/{actor}");
        self.post(&path, "").has_status(202);
    }

    /// Returns a function that blocks the thread of an actor at its first call, and again whenever a block has ended. A test
    /// calls it until it sees the block, because a busy machine may miss one.
    pub fn keep_blocked(&self, actor: &str) -> impl FnMut() + use<> {
        let client = self.clone();
        let path = format!("/admin/faults/block/{actor}");
        let mut latest: Option<Instant> = None;
        move || {
            if latest.is_none_or(|latest| latest.elapsed() > BLOCK_HAS_ENDED) {
                client.post(&path, "").has_status(202);
                latest = Some(Instant::now());
            }
        }
    }
}
