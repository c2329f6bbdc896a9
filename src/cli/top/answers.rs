//! What the service answers beside the reports of its actors: readiness, ledger and completion times.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::Deserialize;

/// Whether the process that answers can make a like durable now. From `/readyz`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Readiness {
    pub(super) ready: bool,
    pub(super) draining: bool,
    /// How far the clock of the process is ahead of the database's; negative if it is behind.
    pub(super) clock_skew_ms: Option<i64>,
    /// What the process waits for to start.
    pub(super) waiting_for: Option<String>,
    /// The dependencies by name.
    pub(super) parts: BTreeMap<String, Part>,
    /// The calls that fail now.
    pub(super) failing: Vec<Failing>,
    pub(super) warnings: Vec<String>,
}

/// A dependency.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Part {
    pub(super) kind: String,
    pub(super) state: PartState,
    pub(super) error: Option<String>,
    pub(super) warnings: Vec<String>,
    /// The masters of a Redis Cluster.
    pub(super) masters: Vec<Master>,
}

/// A master of a Redis Cluster.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Master {
    pub(super) slots: String,
    pub(super) state: PartState,
}

/// Whether a dependency answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum PartState {
    #[default]
    Up,
    Down,
}

/// Calls of one kind that fail now.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Failing {
    pub(super) dependency: String,
    pub(super) doing: String,
    pub(super) seconds: u64,
    pub(super) calls: u64,
}

/// The ledger at a glance. From `/admin/ledger`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Ledger {
    /// The rows of each status.
    pub(super) rows: BTreeMap<String, u64>,
    pub(super) completed_is_estimate: bool,
    pub(super) oldest_open_at: Option<DateTime<Utc>>,
}

/// The last points of `/admin/history`.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct History {
    #[serde(default)]
    pub(super) points: Vec<HistoryPoint>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct HistoryPoint {
    #[serde(default)]
    pub(super) accepted_to_completed_ms: Option<CompletionTimes>,
}

/// Times from the acceptance of a like to the commit of its effect, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
pub(super) struct CompletionTimes {
    pub(super) p50: f64,
    pub(super) p95: f64,
    pub(super) p99: f64,
}

impl History {
    /// Returns the newest completion times.
    pub(super) fn newest(&self) -> Option<CompletionTimes> {
        let points = self.points.iter().rev();
        points
            .filter_map(|point| point.accepted_to_completed_ms)
            .next()
    }
}
