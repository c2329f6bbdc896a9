//! Which of the parts that Likewise depends on answer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use serde::Serialize;
use utoipa::ToSchema;

use crate::cache::{Cache, CacheError};
use crate::nats::Broker;
use crate::store::{Store, StoreError};
use crate::telemetry::{Part, PartFailed, PartWorked};

/// How long a part may take to answer before it counts as down.
const PING_TIMEOUT: Duration = Duration::from_secs(2);

/// Asks the parts how they are.
#[derive(Clone)]
pub struct Probe {
    /// The database.
    pub store: Arc<dyn Store>,
    /// The cache.
    pub cache: Arc<dyn Cache>,
    /// The broker, if there is one.
    pub broker: Option<Arc<Broker>>,
}

/// Why a part did not answer.
struct Failure {
    /// In the part's own words, for the log.
    cause: String,
    /// In words that everybody may read: `/readyz` asks nobody who they are.
    public: String,
    is_news: bool,
}

impl Failure {
    /// Logs an outage when it begins and when it ends. What others have logged before is no news.
    fn note(part: Part, doing: &'static str, failure: Option<&Self>) {
        match failure {
            None => PartWorked { part, doing }.emit(),
            Some(failure) if failure.is_news => PartFailed {
                part,
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

/// How one part is.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct PartReport {
    /// What it is, for people.
    pub kind: &'static str,
    /// Whether it answers.
    pub state: PartState,
    /// Why not, in words that everybody may read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What an operator should know of it all the same.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub warnings: Vec<String>,
}

/// Whether a part answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum PartState {
    /// It does.
    Up,
    /// It does not.
    Down,
}

impl PartReport {
    fn new(kind: &'static str, error: Option<String>) -> Self {
        let state = match error {
            None => PartState::Up,
            Some(_) => PartState::Down,
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

impl PartReport {
    /// Whether it answers.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.state == PartState::Up
    }
}

/// How each part that is configured is, by its name.
pub type PartReports = BTreeMap<&'static str, PartReport>;

impl Probe {
    /// As [`look`](Self::look), and asks the database whether acknowledged events are in quarantine.
    pub async fn report(&self) -> PartReports {
        let mut parts = self.look().await;
        if let Some(database) = parts.get_mut(Part::Database.as_str())
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
        parts
    }

    /// Asks all parts at once; takes two seconds at the most.
    pub async fn look(&self) -> PartReports {
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
        Failure::note(Part::Database, "checking the database", database.as_ref());
        Failure::note(Part::Cache, "checking the cache", cache.as_ref());
        let report =
            |kind, failure: Option<Failure>| PartReport::new(kind, failure.map(|why| why.public));
        let mut parts = BTreeMap::from([
            (Part::Database.as_str(), report(self.store.kind(), database)),
            (Part::Cache.as_str(), report(self.cache.kind(), cache)),
        ]);
        if let Some(broker) = &self.broker {
            parts.insert(Part::Broker.as_str(), PartReport::of_broker(broker));
        }
        parts
    }
}

/// Whether a like sent now can be made durable and will come to its end: by promise 6 one part may be gone,
/// and one of broker and database must be there.
#[must_use]
pub fn can_accept(parts: &PartReports) -> bool {
    let up = |part: Part| {
        let report = parts.get(part.as_str());
        report.is_some_and(|report| report.state == PartState::Up)
    };
    let down = parts.values().filter(|part| part.state == PartState::Down);
    down.count() <= 1 && (up(Part::Broker) || up(Part::Database))
}

/// Which parts were gone when they were last looked at.
#[derive(Debug, Default)]
pub struct PartsGone(AtomicU8);

impl PartsGone {
    const PARTS: [Part; 3] = [Part::Database, Part::Cache, Part::Broker];

    /// Takes note of a look.
    pub fn note(&self, parts: &PartReports) {
        let mut gone = 0;
        for (bit, part) in Self::PARTS.into_iter().enumerate() {
            let report = parts.get(part.as_str());
            if report.is_some_and(|report| report.state == PartState::Down) {
                gone |= 1 << bit;
            }
        }
        self.0.store(gone, Ordering::Relaxed);
    }

    /// Two parts that are gone, if there are two.
    #[must_use]
    pub fn two(&self) -> Option<(Part, Part)> {
        let gone = self.0.load(Ordering::Relaxed);
        let mut parts = Self::PARTS
            .into_iter()
            .enumerate()
            .filter(|(bit, _)| gone & (1 << bit) != 0)
            .map(|(_, part)| part);
        Some((parts.next()?, parts.next()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(states: &[(Part, bool)]) -> PartReports {
        states
            .iter()
            .map(|(part, up)| {
                let error = (!up).then(|| "gone".to_owned());
                (part.as_str(), PartReport::new("a part", error))
            })
            .collect()
    }

    #[test]
    fn one_part_may_be_gone_and_two_may_not() {
        let of = |database, cache, broker| {
            parts(&[
                (Part::Database, database),
                (Part::Cache, cache),
                (Part::Broker, broker),
            ])
        };
        let gone = PartsGone::default();
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
        assert!(can_accept(&parts(&[
            (Part::Database, true),
            (Part::Cache, false)
        ])));
        assert!(!can_accept(&parts(&[
            (Part::Database, false),
            (Part::Cache, true)
        ])));
    }
}
