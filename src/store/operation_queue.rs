//! The operations that the database has not taken yet: those on actors work without it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Operation, Store, StoreError};

/// The most operations that wait. Then the oldest are dropped; each has been logged.
const MOST_WAITING: usize = 1_000;

/// Operations that wait for the database, oldest first. Clones are one queue.
#[derive(Clone)]
pub struct OperationQueue {
    store: Arc<Store>,
    waiting: Arc<Mutex<VecDeque<Operation>>>,
}

impl OperationQueue {
    /// Returns an empty queue before this store.
    #[must_use]
    pub fn new(store: Arc<Store>) -> Self {
        Self {
            store,
            waiting: Arc::default(),
        }
    }

    /// Returns the store that it writes to.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Adds an operation.
    pub fn push(&self, operation: Operation) {
        let mut waiting = self.lock();
        if waiting.len() == MOST_WAITING {
            waiting.pop_front();
        }
        waiting.push_back(operation);
    }

    /// Returns the number of operations that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Returns whether no operation waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// Writes the operations that wait. The history keeper repeats it.
    ///
    /// # Errors
    /// If the database cannot be reached. They wait then.
    pub async fn write(&self) -> Result<(), StoreError> {
        let waiting: Vec<_> = self.lock().iter().cloned().collect();
        self.store.note_operations(&waiting).await?;
        let written = |one: &Operation| waiting.iter().any(|other| other.id == one.id);
        self.lock().retain(|one| !written(one));
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Operation>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
