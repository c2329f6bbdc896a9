//! One at a time: what an actor does at each tick is not begun while the last of it goes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Has one turn to give, and gets it back.
#[derive(Debug, Clone, Default)]
pub struct Turn(Arc<AtomicBool>);

/// The turn, until it is dropped; also by a panic.
#[derive(Debug)]
pub struct Taken(Arc<AtomicBool>);

impl Turn {
    /// The turn, unless somebody has it.
    #[must_use]
    pub fn take(&self) -> Option<Taken> {
        let taken = self.0.swap(true, Ordering::Relaxed);
        (!taken).then(|| Taken(Arc::clone(&self.0)))
    }

    /// Whether somebody has it.
    #[must_use]
    pub fn is_taken(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permit_is_exclusive_and_released_on_drop() {
        let turn = Turn::default();
        let taken = turn.take();
        assert!(taken.is_some() && turn.take().is_none() && turn.is_taken());
        drop(taken);
        let other = turn.clone();
        let panicked = std::thread::spawn(move || {
            let _taken = other.take();
            panic!("in the middle of it");
        });
        assert!(panicked.join().is_err());
        assert!(!turn.is_taken());
    }
}
