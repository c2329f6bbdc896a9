//! Probes the dependencies and decides whether likes can be accepted. The health monitor and `/readyz` call it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use utoipa::ToSchema;

use crate::cache::{Cache, CacheError, MasterState};
use crate::nats::Broker;
use crate::store::{Store, StoreError};
use crate::telemetry::{CacheMastersSeen, Dependency, DependencyFailed, DependencyWorked};

/// The time after which a silent dependency counts as down.
const PING_TIMEOUT: Duration = Duration::from_secs(2);

/// Probes the dependencies. Its clones share what the last probe found.
#[derive(Clone)]
pub struct Probe {
    /// The database.
    pub store: Arc<Store>,
    /// The cache.
    pub cache: Arc<dyn Cache>,
    /// The broker, if there is one.
    pub broker: Option<Arc<Broker>>,
    last: Arc<Mutex<DependencyReports>>,
}

/// The error of a failed probe.
struct Failure {
    /// The dependency's own error, for the log.
    cause: String,
    /// A public description: `/readyz` needs no authentication.
    public: String,
    is_news: bool,
}

impl Failure {
    /// Logs the beginning and the end of an outage, unless another caller has logged it.
    fn note(dependency: Dependency, doing: &'static str, failure: Option<&Self>) {
        match failure {
            None => DependencyWorked { dependency, doing }.emit(),
            Some(failure) => DependencyFailed {
                dependency,
                doing,
                error: &failure.cause,
            }
            .emit_if(failure.is_news),
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
                    "it fails; see the log for the cause".to_owned()
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

/// The state of one dependency.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct DependencyReport {
    /// Its display name.
    pub kind: &'static str,
    /// Returns whether it answers.
    pub state: DependencyState,
    /// A public description of the error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// A warning for operators.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub warnings: Vec<String>,
    /// The masters of a Redis Cluster.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub masters: Vec<MasterReport>,
}

/// The state of one master of a Redis Cluster, without its address: `/readyz` needs no authentication.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct MasterReport {
    /// The ranges of its slots, comma-separated.
    #[schema(example = "0-5460")]
    pub slots: String,
    /// Returns whether it answers.
    pub state: DependencyState,
}

impl From<MasterState> for MasterReport {
    fn from(master: MasterState) -> Self {
        Self {
            slots: master.slots,
            state: match master.is_up {
                true => DependencyState::Up,
                false => DependencyState::Down,
            },
        }
    }
}

/// The result of a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum DependencyState {
    /// The dependency answers.
    Up,
    /// The dependency does not answer.
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
            masters: Vec::new(),
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
    /// Returns whether it answers.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.state == DependencyState::Up
    }
}

/// The state of each configured dependency, by name.
pub type DependencyReports = BTreeMap<&'static str, DependencyReport>;

impl Probe {
    /// Creates a probe of these dependencies.
    #[must_use]
    pub fn new(store: Arc<Store>, cache: Arc<dyn Cache>, broker: Option<Arc<Broker>>) -> Self {
        Self {
            store,
            cache,
            broker,
            last: Arc::default(),
        }
    }

    /// Returns what the last [`look`](Self::look) found, without a new one; empty before the first.
    #[must_use]
    pub fn last(&self) -> DependencyReports {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.clone()
    }

    /// Runs [`look`](Self::look), and checks whether acknowledged events are in quarantine.
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

    /// Probes all dependencies concurrently, within two seconds.
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
            |error| !error.is_unsent(),
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
        let masters = self.cache.masters();
        let up = masters.iter().filter(|master| master.is_up).count();
        CacheMastersSeen {
            up,
            down: masters.len() - up,
        }
        .emit();
        let cache = DependencyReport {
            masters: masters.into_iter().map(MasterReport::from).collect(),
            ..report(self.cache.kind(), cache)
        };
        let mut dependencies = BTreeMap::from([
            (
                Dependency::Database.as_str(),
                report(self.store.kind(), database),
            ),
            (Dependency::Cache.as_str(), cache),
        ]);
        if let Some(broker) = &self.broker {
            dependencies.insert(
                Dependency::Broker.as_str(),
                DependencyReport::of_broker(broker),
            );
        }
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.clone_from(&dependencies);
        dependencies
    }
}

/// Returns whether a like can become durable and complete: at most one dependency may be down, and broker or database must
/// be up.
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

/// The dependencies that were down at the last probe.
#[derive(Debug, Default)]
pub struct DependenciesUnavailable(AtomicU8);

impl DependenciesUnavailable {
    const ALL: [Dependency; 3] = [Dependency::Database, Dependency::Cache, Dependency::Broker];

    /// Stores the result of a probe.
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

    /// Returns two dependencies that are down, if there are two.
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
        // Without a broker, only the database can make a like durable.
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
