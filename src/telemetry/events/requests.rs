//! Requests and their answers.

use std::time::Duration;

use crate::domain::Durability;
use crate::telemetry::metrics::{AcceptedLabels, METRICS, ProblemLabels};

/// A like or unlike was answered with 2xx.
pub struct LikeAccepted {
    /// `like` or `unlike`.
    pub action: &'static str,
    /// Where the event is durable.
    pub durability: Durability,
    /// Whether the cache holds the event too.
    pub cached: bool,
    /// The time from request to answer.
    pub took: Duration,
}

impl LikeAccepted {
    /// Counts the like.
    pub fn emit(self) {
        METRICS
            .likes_accepted
            .get_or_create(&AcceptedLabels {
                action: self.action,
                durability: self.durability.as_str(),
                cached: if self.cached { "true" } else { "false" },
            })
            .inc();
        METRICS.accept_seconds.observe(self.took.as_secs_f64());
    }
}

/// A request was answered with the stored response of its `Idempotency-Key`.
pub struct RequestReplayed;

impl RequestReplayed {
    /// Counts the request.
    pub fn emit(self) {
        METRICS.requests_replayed.inc();
    }
}

/// A request was answered with a problem.
pub struct ProblemAnswered<'a> {
    /// Its stable code.
    pub code: &'static str,
    /// Its HTTP status.
    pub status: u16,
    /// The detail of the answer, or the cause that the answer hides.
    pub detail: &'a str,
}

impl ProblemAnswered<'_> {
    /// Counts the problem. Logs it as an error if the service is at fault.
    pub fn emit(self) {
        METRICS
            .problems
            .get_or_create(&ProblemLabels { code: self.code })
            .inc();
        if self.status >= 500 && self.status != 503 {
            log::error!(target: "likewise::web", "{} {}: {}", self.status, self.code, self.detail);
        } else {
            log::debug!(target: "likewise::web", "{} {}: {}", self.status, self.code, self.detail);
        }
    }
}
