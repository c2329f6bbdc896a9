//! Actors that panic.

use std::time::Duration;

use crate::telemetry::metrics::{ActorLabels, METRICS};

/// An actor panicked.
pub struct ActorPanicked<'a> {
    /// Which.
    pub actor: &'static str,
    /// What was said.
    pub message: &'a str,
}

impl ActorPanicked<'_> {
    /// Counts it; the panic itself has been logged by the hook.
    pub fn emit(self) {
        METRICS
            .panics
            .get_or_create(&ActorLabels { actor: self.actor })
            .inc();
        log::debug!(target: "likewise::actors", "{} panicked: {}", self.actor, self.message);
    }
}

/// An actor runs again after a panic.
pub struct ActorRestarted {
    /// Which.
    pub actor: &'static str,
    /// How often by now.
    pub restarts: u64,
}

impl ActorRestarted {
    /// Counts and logs it.
    pub fn emit(self) {
        METRICS
            .restarts
            .get_or_create(&ActorLabels { actor: self.actor })
            .inc();
        log::warn!(
            target: "likewise::actors",
            "{} restarted (restart {}); its queued messages are intact",
            self.actor, self.restarts
        );
    }
}

/// An actor panicked too often.
pub struct ActorGivenUp {
    /// Which.
    pub actor: &'static str,
    /// How often.
    pub panics: usize,
    /// Within what time.
    pub window: Duration,
}

impl ActorGivenUp {
    /// Logs it.
    pub fn emit(self) {
        log::error!(
            target: "likewise::actors",
            "{} panicked {} times within {:?} and is given up; the service stops, so that whatever \
             supervises it starts it anew",
            self.actor, self.panics, self.window
        );
    }
}
