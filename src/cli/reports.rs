//! What a service answers of its actors, as `likewise actors` and `likewise top` read it. Fields that an older version does
//! not send have their defaults.

use std::cmp::Reverse;

use chrono::{DateTime, TimeDelta, Utc};
use serde::Deserialize;
use serde_json::Value;

/// The state of an actor, worst first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum ActorState {
    Failed,
    Stuck,
    Restarting,
    Paused,
    Starting,
    Running,
    Stopped,
    Disabled,
    /// A state of another version.
    #[default]
    #[serde(other)]
    Unknown,
}

impl ActorState {
    /// Returns its name.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Stuck => "stuck",
            Self::Restarting => "restarting",
            Self::Paused => "paused",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Stopped => "stopped",
            Self::Disabled => "disabled",
            Self::Unknown => "unknown",
        }
    }
}

/// What is known of a process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum ProcessState {
    #[default]
    Running,
    Silent,
    Gone,
    Stopped,
}

impl ProcessState {
    /// Returns its name.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Silent => "silent",
            Self::Gone => "gone",
            Self::Stopped => "stopped",
        }
    }

    /// Returns whether its report is current, or was until some seconds ago.
    pub(super) const fn is_present(self) -> bool {
        matches!(self, Self::Running | Self::Silent)
    }
}

/// The last reports of all processes of the deployment.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct DeploymentReport {
    pub(super) captured_at: DateTime<Utc>,
    /// Why other processes cannot be seen.
    #[serde(default)]
    pub(super) note: Option<String>,
    pub(super) processes: Vec<ProcessReport>,
}

/// The last report of a process.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct ProcessReport {
    pub(super) id: String,
    pub(super) host: String,
    pub(super) role: String,
    pub(super) version: String,
    #[serde(default)]
    pub(super) is_this: bool,
    #[serde(default)]
    pub(super) state: ProcessState,
    /// The milliseconds since its last report.
    #[serde(default)]
    pub(super) age_ms: u64,
    pub(super) report: Snapshot,
}

impl ProcessReport {
    /// Returns its machine and role, and its state unless it is running.
    pub(super) fn title(&self) -> String {
        let Self {
            host, role, state, ..
        } = self;
        match state {
            ProcessState::Running => format!("{host} ({role})"),
            state => format!("{host} ({role}, {})", state.as_str()),
        }
    }
}

/// The actors of a process at one moment. Counters only grow.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Snapshot {
    /// The number of the report since the process started.
    #[serde(default)]
    pub(super) sequence: u64,
    #[serde(default)]
    pub(super) captured_at: DateTime<Utc>,
    #[serde(default)]
    pub(super) uptime_seconds: f64,
    #[serde(default)]
    pub(super) actors: Vec<ActorReport>,
}

impl Snapshot {
    /// Returns the report of the actor of this name.
    pub(super) fn actor(&self, name: &str) -> Option<&ActorReport> {
        self.actors.iter().find(|actor| actor.name == name)
    }
}

/// The state and the counters of one actor.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct ActorReport {
    pub(super) name: String,
    #[serde(default)]
    pub(super) state: ActorState,
    /// When it entered this state.
    #[serde(default)]
    pub(super) since: DateTime<Utc>,
    #[serde(default)]
    pub(super) reason: Option<String>,
    #[serde(default)]
    pub(super) supervision: SupervisionReport,
    #[serde(default)]
    pub(super) mailbox: MailboxReport,
    #[serde(default)]
    pub(super) tick_ms: Option<u64>,
    #[serde(default)]
    pub(super) messages: Vec<MessageReport>,
    #[serde(default)]
    pub(super) waits_for: Vec<WaitReport>,
    #[serde(default)]
    pub(super) processed: u64,
    #[serde(default)]
    pub(super) errors: u64,
    #[serde(default)]
    pub(super) panics: u64,
    #[serde(default)]
    pub(super) restarts: u64,
    #[serde(default)]
    pub(super) last_error: Option<String>,
    /// Facts that only this actor knows.
    #[serde(default)]
    pub(super) details: Value,
}

impl ActorReport {
    /// Returns how long it has been in its state, at the moment of its report.
    pub(super) fn in_state(&self, captured_at: DateTime<Utc>) -> TimeDelta {
        (captured_at - self.since).max(TimeDelta::zero())
    }

    /// Returns the greatest p99 of its messages, in milliseconds.
    pub(super) fn slowest_p99(&self) -> f64 {
        let p99 = self.messages.iter().map(|message| message.latency_ms.p99);
        p99.fold(0.0, f64::max)
    }

    /// Returns the messages that it has received of this type.
    pub(super) fn received(&self, of_type: &str) -> u64 {
        let of_type = self.messages.iter().filter(|one| one.name == of_type);
        of_type.map(|one| one.received).sum()
    }

    /// Returns the types of messages that it works on now, longest first.
    pub(super) fn running(&self) -> Vec<&MessageReport> {
        let running = self.messages.iter().filter(|one| one.running.batches > 0);
        let mut running: Vec<_> = running.collect();
        running.sort_by_key(|one| Reverse(one.running.oldest_ms));
        running
    }
}

/// How an actor is supervised.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct SupervisionReport {
    #[serde(default)]
    pub(super) max_restarts: u64,
    #[serde(default)]
    pub(super) window_seconds: u64,
    #[serde(default)]
    pub(super) panics_in_window: u64,
    #[serde(default)]
    pub(super) last_panic: Option<PanicReport>,
}

/// A panic.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct PanicReport {
    pub(super) message: String,
    #[serde(default)]
    pub(super) place: Option<String>,
    pub(super) at: DateTime<Utc>,
}

/// The fill level of a mailbox.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
pub(super) struct MailboxReport {
    pub(super) depth: u64,
    #[serde(default)]
    pub(super) reserved: u64,
    pub(super) capacity: u64,
    pub(super) oldest_ms: u64,
}

/// One type of message that an actor takes.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct MessageReport {
    #[serde(rename = "type")]
    pub(super) name: String,
    #[serde(default)]
    pub(super) received: u64,
    #[serde(default)]
    pub(super) failed: u64,
    #[serde(default)]
    pub(super) waiting: u64,
    #[serde(default)]
    pub(super) running: RunningReport,
    #[serde(default)]
    pub(super) batch_size: Percentiles,
    #[serde(default)]
    pub(super) latency_ms: Percentiles,
}

/// Batches that run now.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
pub(super) struct RunningReport {
    pub(super) batches: u64,
    pub(super) messages: u64,
    pub(super) oldest_ms: u64,
}

/// Percentiles; zero without values.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(super) struct Percentiles {
    pub(super) p50: f64,
    pub(super) p95: f64,
    pub(super) p99: f64,
    pub(super) max: f64,
}

/// Another actor whose answers an actor waits for.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct WaitReport {
    pub(super) actor: String,
    pub(super) messages: u64,
    pub(super) oldest_ms: u64,
}

/// The caller of `/admin`, and what it may do.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct Session {
    #[serde(default)]
    pub(super) scopes: Vec<String>,
}

impl Session {
    /// Returns whether it may pause, resume and restart actors.
    pub(super) fn may_operate(&self) -> bool {
        self.scopes.iter().any(|scope| scope == "admin:operate")
    }
}
