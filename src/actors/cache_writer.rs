//! The only writer of the cache: it applies accepted events, settles the states and counts of a commit, and fills in
//! missing entries.
//!
//! The messages that write are handled here, reads of the database in [`load_missing`], events that are in flight for too
//! long in [`reconcile`], and repairs in [`repair`].

mod load_missing;
mod missing;
mod reconcile;
mod repair;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use actor_kit::{Actor, BatchActor, BatchLimits, Context, Envelope, Mailbox, Schedule};
use futures_util::future::join_all;

use crate::cache::{Cache, CacheError, MasterState, Settlement};
use crate::config::CacheOptions;
use crate::domain::{EntryId, Pair, Resource, Version};
use crate::messages::{Apply, ApplyOutcome, Forget, Lookup, Settle};
use crate::nats::Broker;
use crate::store::{Reader, Settled};
use crate::telemetry::{Dependency, DependencyFailed, DependencyWorked};
use missing::{Missing, Partly};
use reconcile::Reconciled;
use repair::DirtyEntries;

/// The actions' names in logs.
const APPLYING: &str = "applying events to the cache";
const SETTLING: &str = "settling the cache";

/// The actor.
pub struct CacheWriter {
    cache: Arc<dyn Cache>,
    reader: Reader,
    broker: Option<Arc<Broker>>,
    options: CacheOptions,
    dirty: Mutex<DirtyEntries>,
    reconciled: Mutex<Reconciled>,
    context: Context<Self>,
}

impl Actor for CacheWriter {
    const NAME: &'static str = "cache_writer";

    fn details(&self) -> serde_json::Value {
        let dirty = self.dirty().len();
        let mut details = serde_json::json!({ "cache": self.cache.kind(), "owed_entries": dirty });
        let masters = self.cache.masters();
        if !masters.is_empty() {
            details["masters"] = masters.iter().map(master_details).collect();
        }
        details
    }

    /// Starts at once, to notice every restart of the cache.
    fn schedule(&self) -> Option<Schedule> {
        Some(Schedule {
            every: self.options.heal_every,
            at_once: true,
        })
    }

    async fn tick(self: Arc<Self>) {
        self.repair().await;
    }
}

impl BatchActor<Apply> for CacheWriter {
    type Item = Envelope<Apply>;

    fn limits(&self) -> BatchLimits {
        self.limits_of_writes()
    }

    /// Applies a batch of events. Answers at once if the answer is complete, or the sender accepts an incomplete one;
    /// otherwise loads what is missing first.
    async fn run(self: Arc<Self>, batch: Vec<Envelope<Apply>>) {
        let events: Vec<_> = batch
            .iter()
            .map(|envelope| (envelope.body.pair.clone(), envelope.body.state))
            .collect();
        let mut missing = Vec::new();
        match self.cache.apply_and_open(&events, self.now()).await {
            Ok(applied) => {
                self.context.progress(events.len());
                cache_worked(APPLYING);
                for (envelope, (applied, opened)) in batch.into_iter().zip(applied) {
                    let partly = Partly {
                        applied: Some(applied),
                        opened,
                        again: None,
                    };
                    missing.extend(answer_or_load(envelope, partly));
                }
            }
            Err(error) => {
                // The commands may still run without an answer, even after a revert.
                if !error.is_unsent() {
                    self.mark_dirty(entries_of(events.iter().map(|(pair, _)| pair)));
                }
                self.cache_failed(APPLYING, &error);
                // The database may still hold a newer event of the pair, and the request must win over it.
                let unwritten = |envelope| answer_or_load(envelope, Partly::default());
                missing.extend(batch.into_iter().filter_map(unwritten));
            }
        }
        if !missing.is_empty() {
            self.context.requeue::<Lookup>(missing);
        }
    }
}

impl BatchActor<Forget> for CacheWriter {
    type Item = Envelope<Forget>;

    fn limits(&self) -> BatchLimits {
        self.limits_of_writes()
    }

    async fn run(self: Arc<Self>, batch: Vec<Envelope<Forget>>) {
        let events: Vec<_> = batch
            .iter()
            .map(|envelope| (envelope.body.pair.clone(), envelope.body.version))
            .collect();
        match self.cache.forget(&events, self.now()).await {
            Ok(()) => self.context.progress(events.len()),
            Err(error) => {
                self.mark_dirty(entries_of(events.iter().map(|(pair, _)| pair)));
                self.cache_failed("reverting events in the cache", &error);
            }
        }
        for envelope in batch {
            envelope.reply.send(());
        }
    }
}

impl BatchActor<Settle> for CacheWriter {
    type Item = Envelope<Settle>;

    fn limits(&self) -> BatchLimits {
        self.limits_of_writes()
    }

    async fn run(self: Arc<Self>, batch: Vec<Envelope<Settle>>) {
        // A commit shows that the database answers again.
        self.reader.answers();
        let (settlements, pairs) = settlements(batch.iter().map(|envelope| &envelope.body.settled));
        match self.cache.settle(&settlements, self.now()).await {
            Ok(()) => {
                self.context.progress(pairs);
                cache_worked(SETTLING);
            }
            Err(error) => {
                self.mark_dirty(settlements.iter().flat_map(|(resource, settlement)| {
                    let users = settlement.states.keys().cloned().map(EntryId::User);
                    users.chain([EntryId::Count(resource.clone())])
                }));
                self.cache_failed(SETTLING, &error);
            }
        }
        for envelope in batch {
            envelope.reply.send(());
        }
    }
}

impl BatchActor<Lookup> for CacheWriter {
    type Item = Missing;

    fn limits(&self) -> BatchLimits {
        BatchLimits {
            largest: self.options.largest_batch,
            lanes: self.options.lookup_lanes,
            spare_lanes: 0,
        }
    }

    async fn run(self: Arc<Self>, batch: Vec<Missing>) {
        self.load_missing(batch).await;
    }
}

impl CacheWriter {
    /// Returns a writer of this cache, which loads missing entries through this reader, and asks this broker whether an event
    /// may still arrive.
    #[must_use]
    pub fn new(
        cache: Arc<dyn Cache>,
        reader: Reader,
        broker: Option<Arc<Broker>>,
        options: CacheOptions,
        context: Context<Self>,
    ) -> Self {
        Self {
            cache,
            reader,
            broker,
            options,
            dirty: Mutex::default(),
            reconciled: Mutex::default(),
            context,
        }
    }

    /// Returns the bounds of batches that write.
    const fn limits_of_writes(&self) -> BatchLimits {
        BatchLimits {
            largest: self.options.largest_batch,
            lanes: self.options.lanes,
            spare_lanes: self.options.spare_lanes,
        }
    }

    /// Returns the database's time.
    fn now(&self) -> Version {
        Version::at(self.reader.now())
    }

    fn cache_failed(&self, doing: &'static str, error: &CacheError) {
        // An outage is logged once.
        let is_news = !error.is_unsent();
        if is_news {
            self.context.failed(error);
        }
        DependencyFailed {
            dependency: Dependency::Cache,
            doing,
            error,
        }
        .emit_if(is_news);
    }
}

/// Returns what operators see of a master of a Redis Cluster.
fn master_details(master: &MasterState) -> serde_json::Value {
    serde_json::json!({
        "address": master.address,
        "slots": master.slots,
        "state": if master.is_up { "up" } else { "down" },
    })
}

/// Answers an applied event. Returns it instead if something is missing that has to be loaded before.
fn answer_or_load(envelope: Envelope<Apply>, partly: Partly) -> Option<Missing> {
    let outcome = ApplyOutcome {
        applied: partly.applied,
        stored: None,
    };
    if envelope.body.loads_missing && outcome.is_incomplete() {
        return Some(Missing::Applied(envelope, partly));
    }
    envelope.reply.send(outcome);
    None
}

fn cache_worked(doing: &'static str) {
    let dependency = Dependency::Cache;
    DependencyWorked { dependency, doing }.emit();
}

/// Returns the entries of these pairs.
fn entries_of<'a>(pairs: impl Iterator<Item = &'a Pair>) -> impl Iterator<Item = EntryId> {
    pairs.flat_map(EntryId::of_pair)
}

/// Merges the outcomes of commits into what the cache settles, by resource. Returns the number of states too.
pub(crate) fn settlements<'a>(
    commits: impl Iterator<Item = &'a Settled>,
) -> (BTreeMap<Resource, Settlement>, usize) {
    let mut settlements: BTreeMap<Resource, Settlement> = BTreeMap::new();
    let mut pairs = 0;
    for settled in commits {
        for (pair, state) in &settled.states {
            let settlement = settlements.entry(pair.resource.clone()).or_default();
            let newest = settlement
                .states
                .entry(pair.user_id.clone())
                .or_insert(*state);
            *newest = state.max(newest).to_owned();
            pairs += 1;
        }
        for (resource, count) in &settled.counts {
            let settlement = settlements.entry(resource.clone()).or_default();
            if settlement
                .count
                .is_none_or(|held| count.revision > held.revision)
            {
                settlement.count = Some(*count);
            }
        }
    }
    (settlements, pairs)
}

/// Settles the cache after a commit. Waits for room, so that the read models cannot run ahead of a slow cache without bound.
pub(crate) async fn settle(cache_writer: &Mailbox<CacheWriter>, settled: Settled) {
    // A cache writer stops only in a shutdown, when the cache ends too. It logs its own failures.
    if let Ok(answer) = cache_writer.ask_or_wait(Settle { settled }).await {
        let _ = answer.await;
    }
}

/// Reverts events in the cache, which would count them as in flight for ever.
pub(crate) async fn revert(
    cache_writer: &Mailbox<CacheWriter>,
    events: impl IntoIterator<Item = impl Into<Forget>>,
) {
    let mut answers = Vec::new();
    for event in events {
        // A cache writer stops only in a shutdown, when the cache ends too.
        answers.extend(cache_writer.ask_or_wait(event.into()).await);
    }
    join_all(answers).await;
}
