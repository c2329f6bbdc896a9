//! The identity of a deployment: which database the cache entries, the consumer and the events belong to.

use std::sync::{Arc, PoisonError, RwLock};

use serde::Serialize;
use uuid::Uuid;

/// The identity that the database holds.
///
/// Cache keys and the consumer are named after the generation, so those of another database, or of the time before a
/// backup was restored, are never read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Deployment {
    /// The id, which the first migration draws.
    pub id: Uuid,
    /// The generation of the data. A new one starts when the database was restored from a backup.
    pub generation: String,
}

impl Deployment {
    /// Returns a name for a new generation: twelve random hexadecimal digits.
    #[must_use]
    pub fn new_generation() -> String {
        format!("{:012x}", rand::random::<u64>() >> 16)
    }
}

/// The identity that this process works under, shared by the clients of cache and broker. It is unknown until the
/// database has answered.
#[derive(Debug, Clone, Default)]
pub struct CurrentDeployment(Arc<RwLock<Option<Arc<Deployment>>>>);

impl CurrentDeployment {
    /// Returns the identity; `None` if it is unknown.
    #[must_use]
    pub fn get(&self) -> Option<Arc<Deployment>> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Sets the identity. Returns the previous one, if it differs.
    pub fn set(&self, deployment: &Deployment) -> Option<Arc<Deployment>> {
        if self.get().as_deref() == Some(deployment) {
            return None;
        }
        self.0
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .replace(Arc::new(deployment.clone()))
    }
}

impl From<Deployment> for CurrentDeployment {
    fn from(deployment: Deployment) -> Self {
        Self(Arc::new(RwLock::new(Some(Arc::new(deployment)))))
    }
}

/// Returns whether the database was restored from an earlier state: its counter of heartbeats has not passed a value
/// that it had before.
#[must_use]
pub fn is_restored(beat: i64, remembered: Option<i64>) -> bool {
    remembered.is_some_and(|remembered| beat <= remembered)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counter_that_falls_back_means_a_restored_database() {
        assert!(!is_restored(1, None));
        assert!(!is_restored(8, Some(7)));
        assert!(is_restored(7, Some(7)));
        assert!(is_restored(1, Some(7)));
    }

    #[test]
    fn change_of_deployment_returns_the_previous_one() {
        let of = |generation: &str| Deployment {
            id: Uuid::nil(),
            generation: generation.to_owned(),
        };
        let current = CurrentDeployment::default();
        assert_eq!(current.set(&of("a")), None);
        assert_eq!(current.set(&of("a")), None);
        assert_eq!(current.set(&of("b")), Some(Arc::new(of("a"))));
        assert_eq!(current.get(), Some(Arc::new(of("b"))));
        assert_ne!(Deployment::new_generation(), Deployment::new_generation());
    }
}
