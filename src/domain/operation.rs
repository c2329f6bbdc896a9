//! What operators do: the words of `likewise_operations`.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::words::words;

/// What an operator did: `likewise_operations.action`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum OperatorAction {
    /// Paused an actor.
    Pause,
    /// Resumed an actor.
    Resume,
    /// Restarted an actor.
    Restart,
    /// Created a job.
    Create,
    /// Cancelled a job.
    Cancel,
    /// Retried an event or dead letters.
    Retry,
    /// Discarded an event, a message in quarantine or dead letters.
    Discard,
    /// Published a message in quarantine again.
    Republish,
}

/// What it was done to: `likewise_operations.target_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = OperationTarget)]
pub enum OperationTarget {
    /// An actor, by its name.
    Actor,
    /// A job, by its id.
    Job,
    /// An event in the ledger, by its id.
    Event,
    /// A message in quarantine, by its id.
    QuarantinedMessage,
    /// Dead letters of webhooks, by their receiver or ids.
    DeadLetters,
}

/// What came of it: `likewise_operations.result`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum OperationResult {
    /// It was done.
    Done,
    /// There was nothing to change, such as a pause of a paused actor.
    Unchanged,
    /// It failed, or its result is unknown: `detail` says why.
    Failed,
}

words!(
    OperatorAction,
    "action of an operator",
    [
        Pause = "pause",
        Resume = "resume",
        Restart = "restart",
        Create = "create",
        Cancel = "cancel",
        Retry = "retry",
        Discard = "discard",
        Republish = "republish",
    ]
);

words!(
    OperationTarget,
    "target of an operation",
    [
        Actor = "actor",
        Job = "job",
        Event = "event",
        QuarantinedMessage = "quarantined_message",
        DeadLetters = "dead_letters",
    ]
);

words!(
    OperationResult,
    "result of an operation",
    [Done = "done", Unchanged = "unchanged", Failed = "failed",]
);
