//! Actors that panic, and what operators do to actors.

use std::time::Duration;

use crate::telemetry::logging::seconds;
use crate::telemetry::metrics::{ActorLabels, METRICS};

/// Counts and logs the panics and restarts that supervisors report.
pub struct ActorEvents;

impl actor_kit::Observer for ActorEvents {
    /// The panic hook has logged the panic itself.
    fn panicked(&self, actor: &'static str, message: &str) {
        let labels = ActorLabels { actor };
        METRICS.actor_panics.get_or_create(&labels).inc();
        log::debug!(target: "likewise::actors", actor, error = message; "actor panicked");
    }

    fn restarted(&self, actor: &'static str, restarts: u64) {
        let labels = ActorLabels { actor };
        METRICS.actor_restarts.get_or_create(&labels).inc();
        log::warn!(
            target: "likewise::actors", actor, restarts;
            "actor restarted; its queued messages are intact"
        );
    }

    fn given_up(&self, actor: &'static str, panics: usize, window: Duration) {
        log::error!(
            target: "likewise::actors", actor, panics, window_seconds = seconds(window);
            "actor panicked too often and is not restarted; the service stops, so that its process manager can restart it"
        );
    }
}

/// An operator paused, resumed or restarted an actor.
pub struct ActorOperated<'a> {
    /// The actor.
    pub actor: &'a str,
    /// What was done, in the past tense.
    pub action: &'static str,
    /// The operator.
    pub operator: &'a str,
}

impl ActorOperated<'_> {
    /// Logs it.
    pub fn emit(self) {
        let Self {
            actor,
            action,
            operator,
        } = self;
        log::warn!(target: "likewise::operations", operator, action, actor; "actor {action}");
    }
}
