//! What a report says of an actor.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::messages::MessageReport;
use crate::waits::WaitReport;

/// The state of an actor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum ActorState {
    /// Has not begun yet.
    Starting,
    /// Takes messages.
    Running,
    /// Is paused by an operator: messages queue, and no ticks start.
    Paused,
    /// Has work and has made no progress for a while, or has blocked its thread for a while.
    Stuck,
    /// Has panicked and waits out its back-off; messages queue.
    Restarting,
    /// Has panicked too often and is not restarted.
    Failed,
    /// Has been stopped in order.
    Stopped,
    /// Does not run in this process, because of its role or its settings.
    Disabled,
}

impl ActorState {
    /// Returns the word of the state, as in reports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stuck => "stuck",
            Self::Restarting => "restarting",
            Self::Failed => "failed",
            Self::Stopped => "stopped",
            Self::Disabled => "disabled",
        }
    }
}

/// How long an actor may stand still before it is [`Stuck`](ActorState::Stuck).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StuckAfter {
    /// The limit of the time without progress, for an actor that has work.
    pub no_progress: Duration,
    /// The limit of the time for which an actor keeps its thread. All actors of the thread wait meanwhile.
    pub blocked_thread: Duration,
}

/// The actors of a process at one moment. Counters only grow, so a reader computes rates from two reports of one process.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct Snapshot {
    /// The number of this report since the process started. A smaller one than before means that it started anew.
    pub sequence: u64,
    /// When the report was made.
    pub captured_at: DateTime<Utc>,
    /// The seconds since the process started.
    pub uptime_seconds: f64,
    /// Every actor, in the order of their start.
    pub actors: Vec<ActorReport>,
}

/// The state and the counters of one actor.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct ActorReport {
    /// Its name.
    pub name: &'static str,
    /// Its state.
    pub state: ActorState,
    /// When it entered this state.
    pub since: DateTime<Utc>,
    /// Why it is stuck, paused, failed or disabled; null in other states.
    pub reason: Option<String>,
    /// How it is supervised.
    pub supervision: SupervisionReport,
    /// The fill level of its mailbox.
    pub mailbox: MailboxReport,
    /// How long its running tick has lasted, in milliseconds; null if none runs.
    pub tick_ms: Option<u64>,
    /// The types of messages that it has taken.
    pub messages: Vec<MessageReport>,
    /// The actors whose answers it waits for.
    pub waits_for: Vec<WaitReport>,
    /// Events done since the process started.
    pub processed: u64,
    /// Attempts that failed since then.
    pub errors: u64,
    /// Panics since then.
    pub panics: u64,
    /// Restarts since then.
    pub restarts: u64,
    /// The message of the last failure or panic.
    pub last_error: Option<String>,
    /// Facts that only this actor knows.
    pub details: serde_json::Value,
}

/// How an actor is supervised.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct SupervisionReport {
    /// What follows a panic.
    pub policy: SupervisionPolicy,
    /// The number of panics within the window that the actor survives.
    pub max_restarts: usize,
    /// The window, in seconds.
    pub window_seconds: u64,
    /// The panics within the window that ends now.
    pub panics_in_window: usize,
    /// The last panic; null if there was none.
    pub last_panic: Option<PanicReport>,
}

/// What follows a panic of an actor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum SupervisionPolicy {
    /// The actor restarts after a back-off, with its messages. After too many panics, the process stops.
    RestartThenStop,
}

/// A panic.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct PanicReport {
    /// Its message.
    pub message: String,
    /// The file, line and column; null if they are unknown.
    pub place: Option<String>,
    /// When it happened.
    pub at: DateTime<Utc>,
}

/// The fill level of a mailbox.
#[derive(Debug, Clone, Copy, Serialize)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct MailboxReport {
    /// The events that wait or are in work.
    pub depth: usize,
    /// The room that is reserved for events that have not arrived.
    pub reserved: usize,
    /// The most of both together.
    pub capacity: usize,
    /// The age of the oldest event, in milliseconds.
    pub oldest_ms: u64,
}
