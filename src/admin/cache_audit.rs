//! The audit's last pass: compares each cache entry with the database. Called by `audit.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::{AdminError, Dependencies};
use crate::cache::Cache;
use crate::domain::{
    Contradiction, Coverage, EntryId, EntryView, Mismatch, Pair, Resource, StoredCount, StoredUser,
    UserEntry, UserId,
};
use crate::store::{Discrepancy, Finding, Loaded, Subject, Wanted};

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
    entry: EntryId,
    lags: Vec<(Contradiction, Option<Pair>)>,
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
        let entries: BTreeSet<EntryId> = scanned.entries.into_iter().collect();
        let entries: Vec<_> = entries.into_iter().collect();
        let mut stale = Vec::new();
        let mut suspects = Vec::new();
        for some in entries.chunks(ENTRIES_PER_READ) {
            for (entry, mismatches) in self.mismatches(some).await? {
                self.entries += 1;
                if let Some(Mismatch::Wrong(contradiction)) = mismatches.first() {
                    stale.push(discrepancy(entry, contradiction));
                } else if !mismatches.is_empty() {
                    let lags = mismatches
                        .into_iter()
                        .filter_map(|mismatch| match mismatch {
                            Mismatch::Lags {
                                contradiction,
                                pair,
                            } => Some((contradiction, pair)),
                            Mismatch::Wrong(_) => None,
                        });
                    suspects.push(Suspect {
                        entry,
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
        entries: &[EntryId],
    ) -> Result<Vec<(EntryId, Vec<Mismatch<Pair>>)>, AdminError> {
        let views = self.cache.inspect(entries).await?;
        let entries: Vec<(EntryId, EntryView)> = entries
            .iter()
            .zip(views)
            .filter_map(|(entry, view)| Some((entry.clone(), view?)))
            .collect();
        let stored = self.stored(&entries).await?;
        Ok(entries
            .into_iter()
            .map(|(entry, view)| {
                let mismatches = mismatches(&entry, &view, &stored);
                (entry, mismatches)
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
            let entries: Vec<_> = some.iter().map(|suspect| suspect.entry.clone()).collect();
            let mismatches: BTreeMap<_, _> = self.mismatches(&entries).await?.into_iter().collect();
            let open = self.open_pairs(some).await?;
            for suspect in some {
                let Some(mismatches) = mismatches.get(&suspect.entry) else {
                    continue;
                };
                let lasting = suspect.lags.iter().find(|(before, pair)| {
                    let explained = pair.as_ref();
                    !explained.is_some_and(|pair| streaming || open.contains(pair))
                        && mismatches
                            .iter()
                            .any(|mismatch| mismatch.contradiction().found == before.found)
                });
                if let Some((contradiction, _)) = lasting {
                    stale.push(discrepancy(suspect.entry.clone(), contradiction));
                }
            }
        }
        Ok(stale)
    }

    /// The suspects' pairs with an open ledger row.
    async fn open_pairs(&self, suspects: &[Suspect]) -> Result<BTreeSet<Pair>, AdminError> {
        let lags = suspects.iter().flat_map(|suspect| &suspect.lags);
        let pairs: Vec<Pair> = lags.filter_map(|(_, pair)| pair.clone()).collect();
        let mut open = BTreeSet::new();
        for some in pairs.chunks(PAIRS_PER_QUERY) {
            open.extend(self.dependencies.store.open_pairs(some).await?);
        }
        Ok(open)
    }

    /// What the database holds of these entries.
    async fn stored(&self, entries: &[(EntryId, EntryView)]) -> Result<Loaded, AdminError> {
        let mut stored = Loaded::default();
        let mut wanted = Wanted::default();
        for (entry, view) in entries {
            match (entry, view) {
                (EntryId::User(user_id), EntryView::User(view)) => {
                    if view.coverage == Coverage::Complete {
                        wanted.users.insert(user_id.clone());
                    }
                    let pairs = view.pairs.keys().map(|resource| Pair {
                        resource: resource.clone(),
                        user_id: user_id.clone(),
                    });
                    wanted.pairs.extend(pairs);
                }
                (EntryId::Count(resource), EntryView::Count(view)) => {
                    wanted.resources.insert(resource.clone());
                    let pairs = view.in_flight.keys().map(|user_id| Pair {
                        resource: resource.clone(),
                        user_id: user_id.clone(),
                    });
                    wanted.pairs.extend(pairs);
                }
                _ => {}
            }
        }
        // Large entries are read in parts.
        let pairs: Vec<Pair> = std::mem::take(&mut wanted.pairs).into_iter().collect();
        let store = &self.dependencies.store;
        for some in pairs.chunks(PAIRS_PER_QUERY) {
            let wanted = some.iter().cloned().collect();
            let found = store.find(&wanted).await?;
            stored.found.states.extend(found.states);
        }
        let loaded = store.load_entries(&wanted, UserEntry::MOST_PAIRS).await?;
        stored.found.counts = loaded.found.counts;
        stored.users = loaded.users;
        Ok(stored)
    }
}

/// Compares an entry with what the database holds, read after it.
fn mismatches(entry: &EntryId, view: &EntryView, stored: &Loaded) -> Vec<Mismatch<Pair>> {
    match (entry, view) {
        (EntryId::User(user_id), EntryView::User(view)) => {
            let rows = stored.users.get(user_id).cloned().flatten();
            let is_complete = rows.is_some();
            let mut states: BTreeMap<_, _> = rows.unwrap_or_default().into_iter().collect();
            for resource in view.pairs.keys() {
                let pair = pair(resource.clone(), user_id);
                if let Some(state) = stored.found.states.get(&pair) {
                    let newest = states.entry(resource.clone()).or_insert(*state);
                    *newest = (*newest).max(*state);
                }
            }
            let user = StoredUser {
                states,
                is_complete,
            };
            let mismatches = view.mismatches(&user).into_iter();
            let named = mismatches.map(|one| one.map(|resource| pair(resource, user_id)));
            named.collect()
        }
        (EntryId::Count(resource), EntryView::Count(view)) => {
            let states = view.in_flight.keys().filter_map(|user_id| {
                let pair = pair(resource.clone(), user_id);
                let state = stored.found.states.get(&pair)?;
                Some((user_id.clone(), *state))
            });
            let count = StoredCount {
                count: stored.found.counts.get(resource).copied(),
                states: states.collect(),
            };
            let mismatches = view.mismatches(&count).into_iter();
            let named = mismatches.map(|one| one.map(|user_id| pair(resource.clone(), &user_id)));
            named.collect()
        }
        _ => Vec::new(),
    }
}

fn pair(resource: Resource, user_id: &UserId) -> Pair {
    Pair {
        resource,
        user_id: user_id.clone(),
    }
}

fn discrepancy(entry: EntryId, contradiction: &Contradiction) -> Discrepancy {
    Discrepancy {
        finding: Finding::StaleCacheEntry,
        subject: match entry {
            EntryId::User(user_id) => Subject::User(user_id),
            EntryId::Count(resource) => Subject::Resource(resource),
        },
        expected: contradiction.expected.clone(),
        found: contradiction.found.clone(),
    }
}
