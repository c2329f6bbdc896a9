//! Facts for other services: their delivery to the stream and to webhooks.

use std::fmt::Display;

use crate::domain::Fact;

use crate::telemetry::metrics::{METRICS, ReceiverLabels};

fn labels(receiver: &str) -> ReceiverLabels {
    ReceiverLabels {
        receiver: receiver.to_owned(),
    }
}

/// A receiver took facts.
pub struct FactsDelivered<'a> {
    /// The receiver.
    pub receiver: &'a str,
    /// The number of facts.
    pub facts: usize,
}

impl FactsDelivered<'_> {
    /// Counts them.
    pub fn emit(self) {
        METRICS
            .facts_delivered
            .get_or_create(&labels(self.receiver))
            .inc_by(self.facts as u64);
        log::debug!(target: "likewise::facts", receiver = self.receiver, facts = self.facts; "facts delivered");
    }
}

/// A receiver did not take facts.
pub struct FactsNotDelivered<'a> {
    /// The receiver.
    pub receiver: &'a str,
    /// The first fact.
    pub first: &'a Fact,
    /// The number of facts.
    pub facts: usize,
    /// The number of those that are dead letters now.
    pub dead: usize,
    /// Why.
    pub error: &'a str,
}

impl FactsNotDelivered<'_> {
    /// Counts them, and logs dead letters.
    pub fn emit(self) {
        METRICS
            .fact_attempts_failed
            .get_or_create(&labels(self.receiver))
            .inc_by(self.facts as u64);
        let Self {
            receiver,
            first,
            facts,
            dead,
            error,
        } = self;
        let event_id = first.event_id.to_string();
        let trace_id = first.trace.map(|trace| trace.trace_id());
        if dead == 0 {
            log::debug!(
                target: "likewise::facts", receiver, facts, event_id, trace_id, error;
                "facts not delivered"
            );
        } else {
            log::error!(
                target: "likewise::facts", receiver, facts = dead, event_id, trace_id, error;
                "facts are dead letters; see `likewise webhooks dead`, and `likewise webhooks retry` once the receiver \
                 takes them"
            );
        }
    }
}

/// The facts that wait for a receiver were counted.
pub struct FactsCounted<'a> {
    /// The receiver.
    pub receiver: &'a str,
    /// The waiting facts, the dead letters, and the age of the oldest waiting fact in seconds; `None` if this process does
    /// not deliver to the receiver.
    pub counted: Option<(i64, i64, f64)>,
}

impl FactsCounted<'_> {
    /// Sets the metrics.
    pub fn emit(self) {
        METRICS.facts_counted(self.receiver, self.counted);
    }
}

/// The settings of the stream of facts differ from the configured ones.
pub struct FactStreamDiffers<'a> {
    /// The stream.
    pub stream: &'a str,
    /// The differences.
    pub differences: &'a [String],
}

impl FactStreamDiffers<'_> {
    /// Logs it.
    pub fn emit(self) {
        log::warn!(
            target: "likewise::nats", stream = self.stream, differences = self.differences.join("; ");
            "stream differs from the configuration and was not changed"
        );
    }
}

/// The secret of webhooks was read again, and another is in force.
pub struct WebhookSecretRead;

impl WebhookSecretRead {
    /// Logs it.
    pub fn emit(self) {
        log::info!(target: "likewise::facts", "the secret of webhooks was read again: the new one is in force");
    }
}

/// A changed secret of webhooks cannot be used. Said once for each error.
pub struct WebhookSecretKept<'a> {
    /// Why.
    pub error: &'a dyn Display,
}

impl WebhookSecretKept<'_> {
    /// Logs it.
    pub fn emit(self) {
        log::error!(
            target: "likewise::facts", error:% = self.error;
            "the changed secret of webhooks is not used, and the old one stays in force"
        );
    }
}
