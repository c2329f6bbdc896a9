//! NATS: the stream, and what is published and consumed.

use std::time::Duration;

use crate::domain::Origin;
use crate::telemetry::metrics::{METRICS, OriginLabels};

/// The broker's stream was found in order.
pub struct BrokerReady;

impl BrokerReady {
    /// Logs it.
    pub fn emit(self) {
        log::info!(target: "likewise", "NATS is connected and its stream in order");
    }
}

/// The settings of the stream and its consumer were compared with the configured ones.
pub struct StreamCompared<'a> {
    /// The stream.
    pub stream: &'a str,
    /// What differs, in words.
    pub differences: &'a [String],
    /// How many of the differences would lose acknowledged likes.
    pub errors: usize,
    /// Whether the differences are others than before.
    pub changed: bool,
}

impl StreamCompared<'_> {
    /// Notes how many settings differ, and logs the differences when they change.
    pub fn emit(self) {
        METRICS.stream_compared(self.differences.len() - self.errors, self.errors);
        // The check itself logs errors, as the reason why nothing is published.
        if !self.changed || self.errors > 0 {
            return;
        }
        if self.differences.is_empty() {
            log::info!(target: "likewise::nats", "stream {} is as configured", self.stream);
        } else {
            log::warn!(
                target: "likewise::nats",
                "stream {} differs from the configuration and was not changed: {}; see \
                 `likewise stream show`, and `likewise stream apply` to change it",
                self.stream, self.differences.join("; ")
            );
        }
    }
}

/// A batch of events was acknowledged by JetStream.
pub struct BatchPublished {
    /// How many.
    pub events: usize,
}

impl BatchPublished {
    /// Counts it.
    pub fn emit(self) {
        METRICS.events_published.inc_by(self.events as u64);
    }
}

/// Messages were taken from the stream.
pub struct MessagesTaken {
    /// How many.
    pub messages: usize,
    /// How many of them were delivered before.
    pub redelivered: usize,
}

impl MessagesTaken {
    /// Counts it.
    pub fn emit(self) {
        METRICS.messages_taken.inc_by(self.messages as u64);
        METRICS.messages_redelivered.inc_by(self.redelivered as u64);
    }
}

/// Messages were put into quarantine.
pub struct EventsQuarantined<'a> {
    /// How many.
    pub events: usize,
    /// How many of them are events that Likewise acknowledged.
    pub accepted: usize,
    /// The reason of the first.
    pub reason: &'a str,
}

impl EventsQuarantined<'_> {
    /// Counts and logs it.
    pub fn emit(self) {
        for (origin, events) in [
            (Origin::Accepted, self.accepted),
            (Origin::Foreign, self.events - self.accepted),
        ] {
            METRICS
                .events_quarantined
                .get_or_create(&OriginLabels {
                    origin: origin.as_str(),
                })
                .inc_by(events as u64);
        }
        if self.accepted > 0 {
            log::error!(
                target: "likewise::subscriber",
                "{} acknowledged events put into quarantine, so their likes have no effect; the first \
                 reason is: {}; see `likewise events quarantine --open`",
                self.accepted, self.reason
            );
        } else {
            log::warn!(
                target: "likewise::subscriber",
                "{} messages put into quarantine, the first because {}; see `likewise events quarantine`",
                self.events, self.reason
            );
        }
    }
}

/// A pull from the stream gave no sign of life and was begun anew.
pub struct PullStalled {
    /// How long it was silent.
    pub silent: Duration,
}

impl PullStalled {
    /// Counts and logs it.
    pub fn emit(self) {
        METRICS.pulls_stalled.inc();
        log::warn!(
            target: "likewise::subscriber",
            "a pull was silent for {:?} and is begun anew", self.silent
        );
    }
}
