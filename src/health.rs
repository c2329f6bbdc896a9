//! Which of the dependencies that Likewise depends on answer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use serde::Serialize;
use utoipa::ToSchema;

use crate::cache::{Cache, CacheError};
use crate::nats::Broker;
use crate::store::{Store, StoreError};
use crate::telemetry::{Dependency, DependencyFailed, DependencyWorked};

/// How long a dependency may take to answer before it counts as down.
const PING_TIMEOUT: Duration = Duration::from_secs(2);

/// Asks the dependencies how they are.
#[derive(Clone)]
pub struct Probe {
    /// The database.
    pub store: Arc<Store>,
    /// The cache.
    pub cache: Arc<dyn Cache>,
    /// The broker, if there is one.
    pub broker: Option<Arc<Broker>>,
}

/// Why a dependency did not answer.
struct Failure {
    /// In the dependency's own words, for the log.
    cause: String,
    /// In words that everybody may read: `/readyz` asks nobody who they are.
    public: String,
    is_news: bool,
}

impl Failure {
    /// Logs an outage when it begins and when it ends. What others have logged before is no news.
    fn note(dependency: Dependency, doing: &'static str, failure: Option<&Self>) {
        match failure {
            None => DependencyWorked { dependency, doing }.emit(),
            Some(failure) if failure.is_news => DependencyFailed {
                dependency,
                doing,
                error: &failure.cause,
            }
            .emit(),
            Some(_) => {}
        }
    }

    fn of<T, E: ToString>(
        answer: Result<Result<T, E>, tokio::time::error::Elapsed>,
        is_news: impl FnOnce(&E) -> bool,
        is_read_only: impl FnOnce(&E) -> bool,
    ) -> Option<Self> {
        match answer {
            Ok(Ok(_)) => None,
            Ok(Err(error)) => Some(Self {
                cause: error.to_string(),
                public: if is_read_only(&error) {
                    "it is read-only".to_owned()
                } else {
                    "it fails, and the log says why".to_owned()
                },
                is_news: is_news(&error),
            }),
            Err(_) => {
                let silent = format!("no answer within {PING_TIMEOUT:?}");
                Some(Self {
                    cause: silent.clone(),
                    public: silent,
                    is_news: true,
                })
            }
        }
    }
}

/// How one dependency is.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct DependencyReport {
    /// What it is, for people.
    pub kind: &'static str,
    /// Whether it answers.
    pub state: DependencyState,
    /// Why not, in words that everybody may read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What an operator should know of it all the same.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub warnings: Vec<String>,
}

/// Whether a dependency answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum DependencyState {
    /// It does.
    Up,
    /// It does not.
    Down,
}

impl DependencyReport {
    fn new(kind: &'static str, error: Option<String>) -> Self {
        let state = match error {
            None => DependencyState::Up,
            Some(_) => DependencyState::Down,
        };
        Self {
            kind,
            state,
            error,
            warnings: Vec::new(),
        }
    }

    fn of_broker(broker: &Broker) -> Self {
        let error = match (broker.is_connected(), broker.is_ready()) {
            (false, _) => Some("not connected".to_owned()),
            (true, false) => Some(
                broker
                    .misconfigured()
                    .unwrap_or_else(|| "connected, but its stream is not in order".to_owned()),
            ),
            (true, true) => None,
        };
        let differences = broker.differences().into_iter();
        Self {
            warnings: differences
                .map(|one| format!("{one}; see /admin/stream"))
                .collect(),
            ..Self::new("NATS", error)
        }
    }
}

impl DependencyReport {
    /// Whether it answers.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.state == DependencyState::Up
    }
}

/// How each dependency that is configured is, by its name.
pub type DependencyReports = BTreeMap<&'static str, DependencyReport>;

impl Probe {
    /// As [`look`](Self::look), and asks the database whether acknowledged events are in quarantine.
    pub async fn report(&self) -> DependencyReports {
        let mut dependencies = self.look().await;
        if let Some(database) = dependencies.get_mut(Dependency::Database.as_str())
            && database.is_up()
            && let Ok(Ok(found)) =
                tokio::time::timeout(PING_TIMEOUT, self.store.acknowledged_in_quarantine(1)).await
            && !found.holds()
        {
            database.warnings.push(format!(
                "{} acknowledged events are in quarantine, so their likes have no effect; see \
                 /admin/quarantine?resolved=false",
                found.differences
            ));
        }
        dependencies
    }

    /// Asks all dependencies at once; takes two seconds at the most.
    pub async fn look(&self) -> DependencyReports {
        let (database, cache) = tokio::join!(
            tokio::time::timeout(PING_TIMEOUT, self.store.ping()),
            tokio::time::timeout(PING_TIMEOUT, self.cache.ping()),
        );
        let database = Failure::of(database, StoreError::is_news, |error| {
            matches!(error, StoreError::ReadOnly(_))
        });
        let cache = Failure::of(
            cache,
            |error| !matches!(error, CacheError::Away),
            |error| matches!(error, CacheError::ReadOnly(_)),
        );
        Failure::note(
            Dependency::Database,
            "checking the database",
            database.as_ref(),
        );
        Failure::note(Dependency::Cache, "checking the cache", cache.as_ref());
        let report = |kind, failure: Option<Failure>| {
            DependencyReport::new(kind, failure.map(|why| why.public))
        };
        let mut dependencies = BTreeMap::from([
            (
                Dependency::Database.as_str(),
                report(self.store.kind(), database),
            ),
            (Dependency::Cache.as_str(), report(self.cache.kind(), cache)),
        ]);
        if let Some(broker) = &self.broker {
            dependencies.insert(
                Dependency::Broker.as_str(),
                DependencyReport::of_broker(broker),
            );
        }
        dependencies
    }
}

/// Whether a like sent now can be made durable and will come to its end: by promise 6 one dependency may be gone,
/// and one of broker and database must be there.
#[must_use]
pub fn can_accept(dependencies: &DependencyReports) -> bool {
    let up = |dependency: Dependency| {
        let report = dependencies.get(dependency.as_str());
        report.is_some_and(|report| report.state == DependencyState::Up)
    };
    let down = dependencies
        .values()
        .filter(|dependency| dependency.state == DependencyState::Down);
    down.count() <= 1 && (up(Dependency::Broker) || up(Dependency::Database))
}

/// Which dependencies were gone when they were last looked at.
#[derive(Debug, Default)]
pub struct DependenciesUnavailable(AtomicU8);

impl DependenciesUnavailable {
    const ALL: [Dependency; 3] = [Dependency::Database, Dependency::Cache, Dependency::Broker];

    /// Takes note of a look.
    pub fn note(&self, dependencies: &DependencyReports) {
        let mut gone = 0;
        for (bit, dependency) in Self::ALL.into_iter().enumerate() {
            let report = dependencies.get(dependency.as_str());
            if report.is_some_and(|report| report.state == DependencyState::Down) {
                gone |= 1 << bit;
            }
        }
        self.0.store(gone, Ordering::Relaxed);
    }

    /// Two dependencies that are gone, if there are two.
    #[must_use]
    pub fn two(&self) -> Option<(Dependency, Dependency)> {
        let gone = self.0.load(Ordering::Relaxed);
        let mut dependencies = Self::ALL
            .into_iter()
            .enumerate()
            .filter(|(bit, _)| gone & (1 << bit) != 0)
            .map(|(_, dependency)| dependency);
        Some((dependencies.next()?, dependencies.next()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dependencies(states: &[(Dependency, bool)]) -> DependencyReports {
        states
            .iter()
            .map(|(dependency, up)| {
                let error = (!up).then(|| "gone".to_owned());
                (
                    dependency.as_str(),
                    DependencyReport::new("a dependency", error),
                )
            })
            .collect()
    }

    #[test]
    fn ready_with_one_dependency_down_and_not_with_two() {
        let of = |database, cache, broker| {
            dependencies(&[
                (Dependency::Database, database),
                (Dependency::Cache, cache),
                (Dependency::Broker, broker),
            ])
        };
        let gone = DependenciesUnavailable::default();
        for (all, accepts) in [
            (of(true, true, true), true),
            (of(false, true, true), true),
            (of(true, false, true), true),
            (of(true, true, false), true),
            (of(false, false, true), false),
            (of(false, true, false), false),
            (of(true, false, false), false),
        ] {
            assert_eq!(can_accept(&all), accepts, "{all:?}");
            gone.note(&all);
            assert_eq!(gone.two().is_none(), accepts, "{all:?}");
        }
        // Without a broker, the database is the only place where a like can be kept.
        assert!(can_accept(&dependencies(&[
            (Dependency::Database, true),
            (Dependency::Cache, false)
        ])));
        assert!(!can_accept(&dependencies(&[
            (Dependency::Database, false),
            (Dependency::Cache, true)
        ])));
    }
}
