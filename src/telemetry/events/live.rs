//! Live counts: announcements and open streams.

use crate::telemetry::metrics::{METRICS, StreamLabels};

/// A stream of events was opened.
pub struct StreamOpened {
    /// What it tells: `counts` or `operators`.
    pub kind: &'static str,
}

impl StreamOpened {
    /// Counts it among the open ones.
    pub fn emit(self) {
        let labels = StreamLabels { kind: self.kind };
        METRICS.live_streams.get_or_create(&labels).inc();
    }
}

/// A stream of events has ended.
pub struct StreamEnded {
    /// What it told.
    pub kind: &'static str,
}

impl StreamEnded {
    /// Counts it no more.
    pub fn emit(self) {
        let labels = StreamLabels { kind: self.kind };
        METRICS.live_streams.get_or_create(&labels).dec();
    }
}

/// Changed counts were announced on NATS.
pub struct CountsAnnounced {
    /// Their number.
    pub counts: usize,
}

impl CountsAnnounced {
    /// Counts them.
    pub fn emit(self) {
        METRICS.counts_announced.inc_by(self.counts as u64);
    }
}
