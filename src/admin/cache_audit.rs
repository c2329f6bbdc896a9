//! The audit's walk through the cache.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::audit::AuditOptions;
use super::{AdminError, Dependencies};
use crate::cache::Cache;
use crate::domain::{Contradiction, Doubt, EntryView, Pair, Resource, Truth, UserId};
use crate::store::{Discrepancy, Finding, Subject};

/// How many entries are laid open in one round trip.
const ENTRIES_AT_ONCE: usize = 64;

/// How many pairs are looked up in one query.
const PAIRS_AT_ONCE: usize = 5_000;

/// How many entries are asked for in one step.
const ENTRIES_PER_STEP: usize = 1_000;

/// A walk under way.
pub(super) struct CacheAudit {
    cache: Arc<dyn Cache>,
    cursor: Option<u64>,
    /// The last step has been taken.
    ended: bool,
    entries: u64,
}

/// An entry that lags behind, with what it said.
struct Suspect {
    resource: Resource,
    lags: Vec<(Contradiction, Option<UserId>)>,
}

impl CacheAudit {
    pub(super) fn new(cache: Arc<dyn Cache>) -> Self {
        Self {
            cache,
            cursor: None,
            ended: false,
            entries: 0,
        }
    }

    /// How many entries it has looked at.
    pub(super) const fn entries(&self) -> u64 {
        self.entries
    }

    /// Looks at some entries: those that are wrong; `None` after the last.
    pub(super) async fn step(
        &mut self,
        dependencies: &Dependencies,
        options: &AuditOptions,
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
        for some in resources.chunks(ENTRIES_AT_ONCE) {
            for (resource, doubts) in self.doubts(dependencies, some).await? {
                self.entries += 1;
                if let Some(Doubt::Wrong(contradiction)) = doubts.first() {
                    stale.push(discrepancy(resource, contradiction));
                } else if !doubts.is_empty() {
                    let lags = doubts.into_iter().filter_map(|doubt| match doubt {
                        Doubt::Lags {
                            contradiction,
                            user_id,
                        } => Some((contradiction, user_id)),
                        Doubt::Wrong(_) => None,
                    });
                    suspects.push(Suspect {
                        resource,
                        lags: lags.collect(),
                    });
                }
            }
        }
        stale.extend(self.lasting(dependencies, options, suspects).await?);
        self.ended = scanned.cursor.is_none();
        self.cursor = scanned.cursor;
        Ok(Some(stale))
    }

    /// What speaks against each entry that is there.
    async fn doubts(
        &self,
        dependencies: &Dependencies,
        resources: &[Resource],
    ) -> Result<Vec<(Resource, Vec<Doubt>)>, AdminError> {
        let views = self.cache.inspect(resources).await?;
        let entries: Vec<(Resource, EntryView)> = resources
            .iter()
            .zip(views)
            .filter_map(|(resource, view)| Some((*resource, view?)))
            .collect();
        let truths = truths(dependencies, &entries).await?;
        Ok(entries
            .into_iter()
            .map(|(resource, view)| {
                let doubts = truths.get(&resource).map(|truth| view.doubts(truth));
                (resource, doubts.unwrap_or_default())
            })
            .collect())
    }

    /// Which suspects still say the same a while later, although nothing is on its way that would
    /// explain it.
    async fn lasting(
        &self,
        dependencies: &Dependencies,
        options: &AuditOptions,
        suspects: Vec<Suspect>,
    ) -> Result<Vec<Discrepancy>, AdminError> {
        let mut stale = Vec::new();
        if suspects.is_empty() {
            return Ok(stale);
        }
        let streaming = match &dependencies.broker {
            Some(broker) => broker.backlog().await? > 0,
            None => false,
        };
        tokio::time::sleep(options.patience).await;
        for some in suspects.chunks(ENTRIES_AT_ONCE) {
            let resources: Vec<_> = some.iter().map(|suspect| suspect.resource).collect();
            let doubts: BTreeMap<_, _> = self
                .doubts(dependencies, &resources)
                .await?
                .into_iter()
                .collect();
            let open = open_pairs(dependencies, some).await?;
            for suspect in some {
                let Some(doubts) = doubts.get(&suspect.resource) else {
                    continue;
                };
                let explained = |user_id: &Option<UserId>| {
                    user_id.is_some_and(|user_id| {
                        streaming
                            || open.contains(&Pair {
                                resource: suspect.resource,
                                user_id,
                            })
                    })
                };
                let lasting = suspect.lags.iter().find(|(before, user_id)| {
                    !explained(user_id)
                        && doubts
                            .iter()
                            .any(|doubt| doubt.contradiction().found == before.found)
                });
                if let Some((contradiction, _)) = lasting {
                    stale.push(discrepancy(suspect.resource, contradiction));
                }
            }
        }
        Ok(stale)
    }
}

async fn open_pairs(
    dependencies: &Dependencies,
    suspects: &[Suspect],
) -> Result<BTreeSet<Pair>, AdminError> {
    let pairs: Vec<Pair> = suspects
        .iter()
        .flat_map(|suspect| {
            let users = suspect.lags.iter().filter_map(|(_, user_id)| *user_id);
            users.map(|user_id| Pair {
                resource: suspect.resource,
                user_id,
            })
        })
        .collect();
    let mut open = BTreeSet::new();
    for some in pairs.chunks(PAIRS_AT_ONCE) {
        open.extend(dependencies.store.open_pairs(some).await?);
    }
    Ok(open)
}

/// What the database holds of the pairs of these entries.
async fn truths(
    dependencies: &Dependencies,
    entries: &[(Resource, EntryView)],
) -> Result<BTreeMap<Resource, Truth>, AdminError> {
    let mut truths: BTreeMap<Resource, Truth> = entries
        .iter()
        .map(|(resource, _)| (*resource, Truth::default()))
        .collect();
    // A resource without pairs has its count looked up too: by a pair that nobody can be.
    let pairs: Vec<Pair> = entries
        .iter()
        .flat_map(|(resource, view)| {
            let users = view.pairs.keys().copied().chain(std::iter::once(0));
            users.map(|user_id| Pair {
                resource: *resource,
                user_id,
            })
        })
        .collect();
    for some in pairs.chunks(PAIRS_AT_ONCE) {
        let found = dependencies
            .store
            .find(&some.iter().copied().collect())
            .await?;
        for (pair, mark) in found.states {
            if let Some(truth) = truths.get_mut(&pair.resource) {
                truth.states.insert(pair.user_id, mark);
            }
        }
        for (resource, count) in found.counts {
            if let Some(truth) = truths.get_mut(&resource) {
                truth.count = Some(count);
            }
        }
    }
    Ok(truths)
}

fn discrepancy(resource: Resource, contradiction: &Contradiction) -> Discrepancy {
    Discrepancy {
        finding: Finding::StaleCacheEntry,
        subject: Subject::Resource(resource),
        expected: contradiction.expected.clone(),
        found: contradiction.found.clone(),
    }
}
