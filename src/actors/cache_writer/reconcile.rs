//! Compares events that have been in flight for too long with the database. The process that accepted or settled them may
//! have died, and an entry would count them for ever.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use actor_kit::{BatchActor, BatchLimits, Envelope};

use super::{CacheWriter, settlements};
use crate::actors::failures::{database_failed, database_worked};
use crate::cache::CacheError;
use crate::domain::{EntryId, EntryView, Pair, Resource, UserId, Version, overdue_before};
use crate::messages::Reconcile;
use crate::store::{Settled, StoreError};
use crate::telemetry::EventsReconciled;

/// The action's names in logs.
const RECONCILING: &str = "comparing events in flight with the database";

/// The time between two comparisons of one entry. Events that wait for a database or a worker stay in flight.
const EVERY: Duration = Duration::from_secs(5);

/// The number of events of one resource in one comparison.
const EVENTS: usize = 500;

/// The number of entries whose last comparison is remembered.
const MOST: usize = 100_000;

/// How long after its version an event may be published.
const PUBLISHED_WITHIN: Duration = Duration::from_secs(15);

/// When entries were compared last.
#[derive(Debug, Default)]
pub(super) struct Reconciled(HashMap<EntryId, Instant>);

impl Reconciled {
    /// Notes a comparison, unless the last one was a moment ago. Returns whether it is due.
    fn begin(&mut self, entry: EntryId, now: Instant) -> bool {
        if self.0.len() >= MOST {
            self.0.retain(|_, last| now.duration_since(*last) < EVERY);
        }
        let due = self.0.get(&entry);
        let is_due = due.is_none_or(|last| now.duration_since(*last) >= EVERY);
        if is_due {
            self.0.insert(entry, now);
        }
        is_due
    }
}

/// Why events could not be compared.
enum Failure {
    Cache(CacheError),
    Database(StoreError),
}

impl From<CacheError> for Failure {
    fn from(error: CacheError) -> Self {
        Self::Cache(error)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Database(error)
    }
}

impl BatchActor<Reconcile> for CacheWriter {
    type Item = Envelope<Reconcile>;

    fn limits(&self) -> BatchLimits {
        BatchLimits {
            largest: self.options.largest_batch,
            lanes: 1,
            spare_lanes: 0,
        }
    }

    async fn run(self: Arc<Self>, batch: Vec<Envelope<Reconcile>>) {
        let now = Instant::now();
        let (users, resources) = {
            let mut reconciled = self
                .reconciled
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let mut due = |entry: EntryId| reconciled.begin(entry.clone(), now).then_some(entry);
            let users = batch.iter().filter_map(|envelope| {
                let user_id = envelope.body.user_id.clone()?;
                due(EntryId::User(user_id))
            });
            let users: Vec<EntryId> = users.collect();
            let resources = batch.iter().flat_map(|envelope| &envelope.body.resources);
            let resources = resources.filter(|resource| {
                let entry = EntryId::Count((*resource).clone());
                due(entry).is_some()
            });
            (users, resources.cloned().collect::<Vec<Resource>>())
        };
        match self.reconcile(&users, &resources).await {
            Ok(()) => {}
            Err(Failure::Cache(error)) => self.cache_failed(RECONCILING, &error),
            Err(Failure::Database(error)) => database_failed(&self.context, RECONCILING, &error),
        }
        for envelope in batch {
            envelope.reply.send(());
        }
    }
}

impl CacheWriter {
    async fn reconcile(&self, users: &[EntryId], resources: &[Resource]) -> Result<(), Failure> {
        self.compare(self.overdue_of_users(users).await?).await?;
        for resource in resources {
            loop {
                let overdue = self.overdue_of(resource).await?;
                let is_full = overdue.len() == EVENTS;
                let left = self.compare(overdue).await?;
                // If none left, the next comparison would find the same ones.
                if !is_full || left == 0 {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Returns the events that user entries have held in flight for too long.
    async fn overdue_of_users(
        &self,
        users: &[EntryId],
    ) -> Result<BTreeMap<Pair, Version>, CacheError> {
        let before = overdue_before(self.now());
        let views = self.cache.inspect(users).await?;
        let mut overdue = BTreeMap::new();
        for (entry, view) in users.iter().zip(views) {
            let (EntryId::User(user_id), Some(EntryView::User(view))) = (entry, view) else {
                continue;
            };
            for (resource, held) in view.pairs {
                if held.is_in_flight() && held.state.version < before {
                    let user_id = user_id.clone();
                    overdue.insert(Pair { resource, user_id }, held.state.version);
                }
            }
        }
        Ok(overdue)
    }

    /// Returns events that a count entry has held in flight for too long.
    async fn overdue_of(&self, resource: &Resource) -> Result<BTreeMap<Pair, Version>, CacheError> {
        let now = self.now();
        let found = self
            .cache
            .overdue(resource, overdue_before(now), EVENTS, now)
            .await?;
        let pair = |(user_id, version): (UserId, Version)| {
            let resource = resource.clone();
            (Pair { resource, user_id }, version)
        };
        Ok(found.into_iter().map(pair).collect())
    }

    /// Settles those of the events that the database holds, and reverts those that cannot arrive any more. Returns their
    /// number.
    async fn compare(&self, overdue: BTreeMap<Pair, Version>) -> Result<usize, Failure> {
        if overdue.is_empty() {
            return Ok(0);
        }
        let pairs: BTreeSet<Pair> = overdue.keys().cloned().collect();
        let find = self
            .reader
            .read(|store| async move { store.find(&pairs).await });
        let found = find.await?;
        database_worked(RECONCILING);
        let stored = |pair: &Pair| {
            let state = found.states.get(pair);
            state.map_or(Version::NEVER, |state| state.version)
        };
        let held = overdue.iter();
        let held = held.filter(|(pair, version)| stored(pair) >= **version);
        let held = held.count();
        let unheld = overdue.len() - held;
        // An event of the stored version is settled, unless it is another one of that version.
        let missing: Vec<_> = overdue
            .into_iter()
            .filter(|(pair, version)| stored(pair) <= *version)
            .collect();
        let settled = Settled::from(found);
        let (settlements, _) = settlements(std::iter::once(&settled));
        self.cache.settle(&settlements, self.now()).await?;
        let lost = self.lost(missing).await?;
        self.cache.forget(&lost, self.now()).await?;
        let lost = lost.len().min(unheld);
        self.context.progress(held + lost);
        if held + lost > 0 {
            EventsReconciled { stored: held, lost }.emit();
        }
        Ok(held + lost)
    }

    /// Returns those of the events that neither the ledger nor the stream holds: their process died before they were
    /// durable.
    async fn lost(
        &self,
        mut missing: Vec<(Pair, Version)>,
    ) -> Result<Vec<(Pair, Version)>, StoreError> {
        let Some(newest) = missing.iter().map(|(_, version)| *version).max() else {
            return Ok(missing);
        };
        if let Some(broker) = &self.broker {
            let age = (self.now().moment() - newest.moment()).to_std();
            let published_ago = age.unwrap_or_default().checked_sub(PUBLISHED_WITHIN);
            let may_arrive = match published_ago {
                // Without an answer, they may still arrive.
                Some(ago) if broker.is_connected() => broker.waits_since(ago).await.unwrap_or(true),
                _ => true,
            };
            if may_arrive {
                return Ok(Vec::new());
            }
        }
        let pairs: Vec<Pair> = missing.iter().map(|(pair, _)| pair.clone()).collect();
        let open = self
            .reader
            .read(|store| async move { store.open_pairs(&pairs).await });
        let open: BTreeSet<Pair> = open.await?.into_iter().collect();
        missing.retain(|(pair, _)| !open.contains(pair));
        Ok(missing)
    }
}
