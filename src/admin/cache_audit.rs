//! The audit's last pass: compares each cache entry with the database. Called by `audit.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::{AdminError, Dependencies};
use crate::cache::Cache;
use crate::domain::{Contradiction, DatabaseState, EntryView, Mismatch, Pair, Resource, UserId};
use crate::store::{Discrepancy, Finding, Subject};

/// The number of entries read in one round trip.
const ENTRIES_PER_READ: usize = 64;

/// The number of pairs in one query.
const PAIRS_PER_QUERY: usize = 5_000;

/// The number of entries compared in one step.
const ENTRIES_PER_STEP: usize = 1_000;

/// A comparison of the cache in progress.
pub(super) struct CacheAudit {
    dependencies: Dependencies,
    cache: Arc<dyn Cache>,
    cursor: Option<u64>,
    /// Whether the last step was taken.
    ended: bool,
    entries: u64,
}

/// An entry that differs from the database, which a pending event may explain.
struct Suspect {
    resource: Resource,
    lags: Vec<(Contradiction, Option<UserId>)>,
}

impl CacheAudit {
    /// Returns `None` if this process cannot reach the cache.
    pub(super) fn new(dependencies: &Dependencies) -> Option<Self> {
        Some(Self {
            cache: dependencies.cache.clone()?,
            dependencies: dependencies.clone(),
            cursor: None,
            ended: false,
            entries: 0,
        })
    }

    /// The number of entries compared so far.
    pub(super) const fn entries(&self) -> u64 {
        self.entries
    }

    /// Compares the next entries and returns the stale ones, or `None` after the last step.
    pub(super) async fn step(
        &mut self,
        grace_period: Duration,
    ) -> Result<Option<Vec<Discrepancy>>, AdminError> {
        if self.ended {
            return Ok(None);
        }
        let cursor = self.cursor.unwrap_or_default();
        let scanned = self.cache.scan(cursor, ENTRIES_PER_STEP).await?;
        let resources: BTreeSet<Resource> = scanned.resources.into_iter().collect();
        let resources: Vec<_> = resources.into_iter().collect();
        let mut stale = Vec::new();
        let mut suspects = Vec::new();
        for some in resources.chunks(ENTRIES_PER_READ) {
            for (resource, mismatches) in self.mismatches(some).await? {
                self.entries += 1;
                if let Some(Mismatch::Wrong(contradiction)) = mismatches.first() {
                    stale.push(discrepancy(resource, contradiction));
                } else if !mismatches.is_empty() {
                    let lags = mismatches
                        .into_iter()
                        .filter_map(|mismatch| match mismatch {
                            Mismatch::Lags {
                                contradiction,
                                user_id,
                            } => Some((contradiction, user_id)),
                            Mismatch::Wrong(_) => None,
                        });
                    suspects.push(Suspect {
                        resource,
                        lags: lags.collect(),
                    });
                }
            }
        }
        stale.extend(self.still_stale(suspects, grace_period).await?);
        self.ended = scanned.cursor.is_none();
        self.cursor = scanned.cursor;
        Ok(Some(stale))
    }

    /// The contradictions between each existing entry and the database.
    async fn mismatches(
        &self,
        resources: &[Resource],
    ) -> Result<Vec<(Resource, Vec<Mismatch>)>, AdminError> {
        let views = self.cache.inspect(resources).await?;
        let entries: Vec<(Resource, EntryView)> = resources
            .iter()
            .zip(views)
            .filter_map(|(resource, view)| Some((*resource, view?)))
            .collect();
        let database_states = self.database_states(&entries).await?;
        Ok(entries
            .into_iter()
            .map(|(resource, view)| {
                let mismatches = database_states
                    .get(&resource)
                    .map(|database| view.mismatches(database));
                (resource, mismatches.unwrap_or_default())
            })
            .collect())
    }

    /// The suspects that still differ after the grace period, without a pending event that explains it.
    async fn still_stale(
        &self,
        suspects: Vec<Suspect>,
        grace_period: Duration,
    ) -> Result<Vec<Discrepancy>, AdminError> {
        let mut stale = Vec::new();
        if suspects.is_empty() {
            return Ok(stale);
        }
        let streaming = match &self.dependencies.broker {
            Some(broker) => broker.backlog().await? > 0,
            None => false,
        };
        tokio::time::sleep(grace_period).await;
        for some in suspects.chunks(ENTRIES_PER_READ) {
            let resources: Vec<_> = some.iter().map(|suspect| suspect.resource).collect();
            let mismatches: BTreeMap<_, _> =
                self.mismatches(&resources).await?.into_iter().collect();
            let open = self.open_pairs(some).await?;
            for suspect in some {
                let Some(mismatches) = mismatches.get(&suspect.resource) else {
                    continue;
                };
                let explained =
                    |user_id: UserId| streaming || open.contains(&pair(suspect.resource, user_id));
                let lasting = suspect.lags.iter().find(|(before, user_id)| {
                    !user_id.is_some_and(explained)
                        && mismatches
                            .iter()
                            .any(|mismatch| mismatch.contradiction().found == before.found)
                });
                if let Some((contradiction, _)) = lasting {
                    stale.push(discrepancy(suspect.resource, contradiction));
                }
            }
        }
        Ok(stale)
    }

    /// The suspects' pairs with an open ledger row.
    async fn open_pairs(&self, suspects: &[Suspect]) -> Result<BTreeSet<Pair>, AdminError> {
        let pairs: Vec<Pair> = suspects
            .iter()
            .flat_map(|suspect| {
                let users = suspect.lags.iter().filter_map(|(_, user_id)| *user_id);
                users.map(|user_id| pair(suspect.resource, user_id))
            })
            .collect();
        let mut open = BTreeSet::new();
        for some in pairs.chunks(PAIRS_PER_QUERY) {
            open.extend(self.dependencies.store.open_pairs(some).await?);
        }
        Ok(open)
    }

    /// The states and counts of these entries in the database.
    async fn database_states(
        &self,
        entries: &[(Resource, EntryView)],
    ) -> Result<BTreeMap<Resource, DatabaseState>, AdminError> {
        let mut database_states: BTreeMap<Resource, DatabaseState> = entries
            .iter()
            .map(|(resource, _)| (*resource, DatabaseState::default()))
            .collect();
        // User 0 does not exist. Its pair makes the query return the count of an entry without pairs.
        let pairs: Vec<Pair> = entries
            .iter()
            .flat_map(|(resource, view)| {
                let users = view.pairs.keys().copied().chain(std::iter::once(0));
                users.map(|user_id| pair(*resource, user_id))
            })
            .collect();
        for some in pairs.chunks(PAIRS_PER_QUERY) {
            let wanted = some.iter().copied().collect();
            let found = self.dependencies.store.find(&wanted).await?;
            for (pair, state) in found.states {
                if let Some(database) = database_states.get_mut(&pair.resource) {
                    database.states.insert(pair.user_id, state);
                }
            }
            for (resource, count) in found.counts {
                if let Some(database) = database_states.get_mut(&resource) {
                    database.count = Some(count);
                }
            }
        }
        Ok(database_states)
    }
}

const fn pair(resource: Resource, user_id: UserId) -> Pair {
    Pair { resource, user_id }
}

fn discrepancy(resource: Resource, contradiction: &Contradiction) -> Discrepancy {
    Discrepancy {
        finding: Finding::StaleCacheEntry,
        subject: Subject::Resource(resource),
        expected: contradiction.expected.clone(),
        found: contradiction.found.clone(),
    }
}
