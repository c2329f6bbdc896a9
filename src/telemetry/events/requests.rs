//! Requests and their answers.

use std::time::Duration;

use crate::domain::{Durability, TraceParent};
use crate::telemetry::metrics::{METRICS, ProblemLabels};

/// A like or unlike was answered with 2xx.
pub struct LikeAccepted {
    /// Whether it is a like, no unlike.
    pub is_like: bool,
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
            .count(self.is_like, self.durability, self.cached);
        METRICS.accept_seconds.observe(self.took);
    }
}

/// A read asked the cache for items.
pub struct CacheRead {
    /// The number of items that it knew.
    pub hits: usize,
    /// The number of items that it did not know, or could not tell.
    pub misses: usize,
}

impl CacheRead {
    /// Counts the items.
    pub fn emit(self) {
        METRICS.cache_reads.hits.inc_by(self.hits as u64);
        if self.misses > 0 {
            METRICS.cache_reads.misses.inc_by(self.misses as u64);
        }
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
    /// The trace of the request.
    pub trace: Option<TraceParent>,
}

impl ProblemAnswered<'_> {
    /// Counts the problem. Logs it as an error if the service is at fault.
    pub fn emit(self) {
        METRICS
            .problems
            .get_or_create(&ProblemLabels { code: self.code })
            .inc();
        let level = match self.status {
            503 | ..500 => log::Level::Debug,
            _ => log::Level::Error,
        };
        log::log!(
            target: "likewise::web", level,
            status = self.status, code = self.code, detail = self.detail,
            trace_id = self.trace.map(|trace| trace.trace_id());
            "request answered with a problem"
        );
    }
}
