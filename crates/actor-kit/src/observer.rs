//! Where the kit reports what its user logs and counts.

use std::time::Duration;

/// Receives the supervisor's events, to log and count them.
pub trait Observer: Send + Sync + 'static {
    /// An actor, or work that it spawned, panicked.
    fn panicked(&self, actor: &'static str, message: &str);

    /// An actor runs again after a panic or an operator's restart, for the given number of times.
    fn restarted(&self, actor: &'static str, restarts: u64);

    /// An actor panicked so often within the window that it is not restarted.
    fn given_up(&self, actor: &'static str, panics: usize, window: Duration);
}
