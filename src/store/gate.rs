//! The gate in front of the connections, closed until the tables are up to date.
//!
//! [`migrate`](super::migrate) opens it; the pools refuse connections while it is closed; `/health` reads why.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::error::StoreError;

/// Opens when the tables are up to date. The pools lend no connection while it is closed.
#[derive(Debug)]
pub struct Gate {
    open: AtomicBool,
    reason: Mutex<Waiting>,
}

/// The reason why a [`Gate`] is still closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Waiting {
    /// The database cannot be reached.
    ForDatabase(String),
    /// The tables are not up to date yet.
    ForMigrations(String),
}

impl Waiting {
    /// Returns the reason as text.
    #[must_use]
    pub fn reason(&self) -> &str {
        match self {
            Self::ForDatabase(reason) | Self::ForMigrations(reason) => reason,
        }
    }
}

impl Gate {
    /// Creates a closed gate.
    #[must_use]
    pub const fn closed() -> Self {
        Self {
            open: AtomicBool::new(false),
            reason: Mutex::new(Waiting::ForMigrations(String::new())),
        }
    }

    /// Creates an open gate.
    #[must_use]
    pub const fn opened() -> Self {
        Self {
            open: AtomicBool::new(true),
            reason: Mutex::new(Waiting::ForMigrations(String::new())),
        }
    }

    /// Returns what the process waits for; `None` once the tables are up to date.
    #[must_use]
    pub fn waiting(&self) -> Option<Waiting> {
        (!self.open.load(Ordering::Acquire)).then(|| self.lock_reason().clone())
    }

    /// Opens the gate permanently.
    pub fn open(&self) {
        self.open.store(true, Ordering::Release);
    }

    /// Fails while the gate is closed.
    pub(super) fn pass(&self) -> Result<(), StoreError> {
        match self.waiting() {
            None => Ok(()),
            Some(waiting) => Err(StoreError::NotReady(waiting.reason().to_owned())),
        }
    }

    /// Sets the reason why it is closed.
    pub(super) fn wait_for(&self, waiting: Waiting) {
        *self.lock_reason() = waiting;
    }

    fn lock_reason(&self) -> MutexGuard<'_, Waiting> {
        self.reason.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closed_gate_names_what_it_waits_for() {
        let gate = Gate::closed();
        gate.wait_for(Waiting::ForDatabase("connection refused".to_owned()));
        let error = gate.pass().expect_err("a closed gate");
        assert!(error.to_string().contains("connection refused"), "{error}");
        gate.open();
        assert!(gate.pass().is_ok());
        assert_eq!(gate.waiting(), None);
    }
}
