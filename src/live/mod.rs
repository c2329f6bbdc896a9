//! Live counts: sends changed counts to the watchers of this process and to other services. The pipeline and the jobs call
//! [`Announcer`] and [`announce`] after a commit, `web/` opens streams ([`Streams`]) and watches counts ([`Hub`]), and `app/`
//! runs [`Announcer::run`] and [`Feed`].
//!
//! A commit reaches a watcher of the same process through the hub directly, and watchers of other processes through one
//! message on NATS for all counts that changed at about the same time. Messages may be lost, so the feed also reads watched
//! counts from the database: each after ten seconds (at most a thousand a second), and all of them after a reconnect.

mod announcer;
mod feed;
mod hub;
mod streams;
#[cfg(test)]
mod testing;
mod watch;

use std::sync::Arc;
use std::time::Duration;

pub use announcer::Announcer;
pub(crate) use announcer::announce;
pub use feed::Feed;
pub use hub::Hub;
pub use streams::{OpenStream, Streams};
pub use watch::Watch;

/// What the streams of a process share.
#[derive(Debug)]
pub struct Live {
    /// The counts that this process watches.
    pub hub: Arc<Hub>,
    /// The streams of counts.
    pub counts: Streams,
    /// The streams for operators.
    pub operators: Streams,
    /// How long a new watcher waits for the database.
    pub read_timeout: Duration,
}

impl Live {
    /// The most streams for operators.
    const MOST_OPERATORS: usize = 100;

    /// Returns a process that accepts this many streams of counts.
    #[must_use]
    pub fn new(hub: Arc<Hub>, most: usize, read_timeout: Duration) -> Self {
        Self {
            hub,
            counts: Streams::new("counts", most),
            operators: Streams::new("operators", Self::MOST_OPERATORS),
            read_timeout,
        }
    }

    /// Ends all streams.
    pub fn close(&self) {
        self.counts.close();
        self.operators.close();
    }
}
