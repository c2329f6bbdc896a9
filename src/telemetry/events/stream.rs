//! NATS: the stream, published events and consumed messages.

use std::time::Duration;

use crate::domain::{Origin, TraceParent};
use crate::telemetry::logging::seconds;
use crate::telemetry::metrics::{METRICS, OriginLabels};

/// A check found the broker's stream in order.
pub struct BrokerReady;

impl BrokerReady {
    /// Logs it.
    pub fn emit(self) {
        log::info!(target: "likewise", "NATS is connected and its stream in order");
    }
}

/// A check compared the settings of the stream and its consumer with the configured ones.
pub struct StreamCompared<'a> {
    /// The stream.
    pub stream: &'a str,
    /// The differences, as text.
    pub differences: &'a [String],
    /// The number of differences that would lose acknowledged likes.
    pub errors: usize,
    /// Whether the differences changed since the last check.
    pub changed: bool,
}

impl StreamCompared<'_> {
    /// Sets the metric, and logs the differences when they change.
    pub fn emit(self) {
        METRICS.stream_compared(self.differences.len() - self.errors, self.errors);
        // The check logs the differences that prevent publishing.
        if !self.changed || self.errors > 0 {
            return;
        }
        if self.differences.is_empty() {
            log::info!(target: "likewise::nats", stream = self.stream; "stream is as configured");
        } else {
            log::warn!(
                target: "likewise::nats", stream = self.stream, differences = self.differences.join("; ");
                "stream differs from the configuration and was not changed; see `likewise stream show`, and \
                 `likewise stream apply` to change it"
            );
        }
    }
}

/// JetStream acknowledged a batch of events.
#[derive(Default)]
pub struct BatchPublished {
    /// How many.
    pub events: usize,
    /// The number of messages that held them.
    pub messages: usize,
}

impl BatchPublished {
    /// Counts it.
    pub fn emit(self) {
        METRICS.events_published.inc_by(self.events as u64);
        METRICS.messages_published.inc_by(self.messages as u64);
    }
}

/// Messages arrived from the stream.
pub struct MessagesTaken {
    /// How many.
    pub messages: usize,
    /// The number of them that were delivered before.
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
    /// The number of them that Likewise acknowledged as events.
    pub accepted: usize,
    /// The reason for the first.
    pub reason: &'a str,
    /// The trace of the first.
    pub trace: Option<TraceParent>,
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
        let trace_id = self.trace.map(|trace| trace.trace_id());
        if self.accepted > 0 {
            log::error!(
                target: "likewise::subscriber", events = self.accepted, reason = self.reason, trace_id;
                "acknowledged events put into quarantine, so their likes have no effect; see \
                 `likewise events quarantine --open`"
            );
        } else {
            log::warn!(
                target: "likewise::subscriber", messages = self.events, reason = self.reason, trace_id;
                "messages put into quarantine; see `likewise events quarantine`"
            );
        }
    }
}

/// Acknowledged events went back to the stream, because this process does not serve their resource type. Said once for each
/// type.
pub struct EventsUnserved<'a> {
    /// The resource type.
    pub resource_type: &'a str,
}

impl EventsUnserved<'_> {
    /// Logs it.
    pub fn emit(self) {
        log::warn!(
            target: "likewise::subscriber", resource_type = self.resource_type;
            "acknowledged events wait for another worker: this one does not serve their resource type; set the same \
             LIKEWISE_RESOURCE_TYPES for all processes"
        );
    }
}

/// A silent pull from the stream was restarted.
pub struct PullStalled {
    /// The duration of the silence.
    pub silent: Duration,
}

impl PullStalled {
    /// Counts and logs it.
    pub fn emit(self) {
        METRICS.pulls_stalled.inc();
        log::warn!(
            target: "likewise::subscriber", seconds = seconds(self.silent);
            "a silent pull is restarted"
        );
    }
}

/// Why a consumer starts where it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// No deployment has used the stream before.
    First,
    /// The deployment started a new generation: its events are delivered again.
    AfterRestore,
    /// Another deployment uses the stream: its events are not delivered.
    OnSharedStream,
}

/// A process created the consumer of its deployment.
pub struct ConsumerStarted<'a> {
    /// The stream.
    pub stream: &'a str,
    /// The first sequence that the consumer delivers.
    pub from: u64,
    /// Why there.
    pub start: Start,
}

impl ConsumerStarted<'_> {
    /// Logs it, unless it is the first.
    pub fn emit(self) {
        let Self {
            stream,
            from,
            start,
        } = self;
        match start {
            Start::First => {}
            Start::AfterRestore => log::warn!(
                target: "likewise::nats", stream, sequence = from;
                "a new generation of the deployment takes the stream's events again from this message; events that the \
                 database has already count once"
            ),
            Start::OnSharedStream => log::warn!(
                target: "likewise::nats", stream, sequence = from;
                "the stream belongs to another database as well: only its messages from this one on are taken, and events \
                 of other services reach both databases"
            ),
        }
    }
}

/// A pull delivered events that another deployment on the same stream accepted. They are acknowledged and not recorded.
pub struct OtherDeployment {
    /// How many.
    pub messages: usize,
}

impl OtherDeployment {
    /// Counts them.
    pub fn emit(self) {
        METRICS
            .messages_of_other_deployments
            .inc_by(self.messages as u64);
    }
}
