//! Operators' commands to actors, to those of this process and over NATS to those of others.

use actor_kit::{Registry, Unheeded};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::telemetry::ActorOperated;

/// The longest name of an operator that is kept, in characters.
const LONGEST_NAME: usize = 200;

/// What an operator does to an actor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ActorAction {
    /// Its messages stay queued, and no tick starts.
    Pause,
    /// Ends a pause.
    Resume,
    /// Restarts it, as after a panic.
    Restart,
}

impl ActorAction {
    /// Returns what was done, in the past tense.
    const fn past(self) -> &'static str {
        match self {
            Self::Pause => "paused",
            Self::Resume => "resumed",
            Self::Restart => "restarted",
        }
    }
}

/// A command.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Command {
    pub(super) actor: String,
    pub(super) action: ActorAction,
    pub(super) operator: String,
}

/// The answer of the process that has the actor.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "snake_case")]
pub(super) enum CommandAnswer {
    /// It was carried out.
    Done { changed: bool, report: Value },
    /// No actor has this name.
    UnknownActor,
    /// The actor does not run there.
    NotRunning,
}

/// What a command did.
#[derive(Debug, Clone)]
pub struct Operated {
    /// Whether it changed anything.
    pub changed: bool,
    /// The actor's report after it.
    pub report: Value,
}

/// Why a command had no effect, as far as is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandFailed {
    /// No process that has reported has this id.
    UnknownProcess,
    /// No actor has this name.
    UnknownActor,
    /// The actor does not run in the process.
    NotRunning,
    /// The process did not answer, for this reason. It may have carried out the command.
    NoAnswer(String),
}

impl Command {
    /// Reads a message; `None` if it is no command.
    pub(super) fn read(body: &[u8]) -> Option<Self> {
        serde_json::from_slice(body).ok()
    }

    pub(super) fn bytes(&self) -> Bytes {
        json!(self).to_string().into()
    }

    /// Carries it out on an actor of this process.
    pub(super) fn run(&self, registry: &Registry) -> CommandAnswer {
        let (actor, operator) = (self.actor.as_str(), limited(&self.operator));
        let changed = match self.action {
            ActorAction::Pause => registry.pause(actor, format!("paused by {operator}")),
            ActorAction::Resume => registry.resume(actor),
            ActorAction::Restart => registry.restart(actor).map(|()| true),
        };
        let changed = match changed {
            Ok(changed) => changed,
            Err(Unheeded::Unknown) => return CommandAnswer::UnknownActor,
            Err(Unheeded::NotRunning) => return CommandAnswer::NotRunning,
        };
        if changed {
            ActorOperated {
                actor,
                action: self.action.past(),
                operator: &operator,
            }
            .emit();
        }
        match registry.report_of(actor) {
            Some(report) => CommandAnswer::Done {
                changed,
                report: json!(report),
            },
            None => CommandAnswer::UnknownActor,
        }
    }
}

impl CommandAnswer {
    /// Reads a message; `None` if it is no answer.
    pub(super) fn read(body: &[u8]) -> Option<Self> {
        serde_json::from_slice(body).ok()
    }

    pub(super) fn bytes(&self) -> Bytes {
        json!(self).to_string().into()
    }

    pub(super) fn outcome(self) -> Result<Operated, CommandFailed> {
        match self {
            Self::Done { changed, report } => Ok(Operated { changed, report }),
            Self::UnknownActor => Err(CommandFailed::UnknownActor),
            Self::NotRunning => Err(CommandFailed::NotRunning),
        }
    }
}

/// A name as logs and reports show it: of limited length, and on one line.
fn limited(name: &str) -> String {
    let name = name.chars().filter(|c| !c.is_control());
    name.take(LONGEST_NAME).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_and_answer_are_read_as_written() {
        let command = Command {
            actor: "retry_scheduler".to_owned(),
            action: ActorAction::Pause,
            operator: "ada".to_owned(),
        };
        let read = Command::read(&command.bytes()).expect("a command");
        assert_eq!((read.actor, read.action), (command.actor, command.action));
        let answer = CommandAnswer::Done {
            changed: true,
            report: json!({"name": "retry_scheduler"}),
        };
        let read = CommandAnswer::read(&answer.bytes()).expect("an answer");
        assert!(read.outcome().expect("done").changed);
        let read = CommandAnswer::read(&CommandAnswer::NotRunning.bytes()).expect("an answer");
        assert_eq!(
            read.outcome().map(drop).expect_err("refused"),
            CommandFailed::NotRunning
        );
        assert!(Command::read(b"{\"actor\": 7}").is_none());
    }

    #[test]
    fn name_of_an_operator_stays_on_one_line() {
        assert_eq!(limited("ada\nWARN forged"), "adaWARN forged");
        assert_eq!(limited(&"a".repeat(1_000)).len(), LONGEST_NAME);
    }
}
