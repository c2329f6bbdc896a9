//! The only writer of the cache: accepted events, what the database holds after a commit, and what
//! readers found missing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actix::{AsyncContext, Context, Handler};
use futures_util::future::join_all;

use super::kit::{
    ActorStats, Batcher, Envelope, Mailbox, Weigh, spawn_batch, spawn_work, supervise_batching,
};
use crate::cache::{Cache, CacheError, Filling, Incarnation, Settlement};
use crate::config::CacheOptions;
use crate::domain::{Applied, LedgerRow, LikeCount, Pair, Reading, Resource, VersionedState};
use crate::messages::{Apply, ApplyOutcome, Forget, Known, Lookup, Settle};
use crate::store::{Found, Reader, StoreError};
use crate::telemetry::{CacheHealed, Dependency, DependencyFailed, DependencyWorked};

/// What the log calls a look into the database.
const LOOKING: &str = "looking for what the cache does not know";

/// What the log calls an applied event, a settlement and the like.
const APPLYING: &str = "applying events to the cache";
const SETTLING: &str = "settling the cache";

/// How often the database is looked into for one answer while the cache keeps changing.
const LOOKS: usize = 4;

/// The actor.
pub struct CacheWriter {
    writing: Writing,
    heal_every: Duration,
    applies: Batcher<Envelope<Apply>>,
    forgets: Batcher<Envelope<Forget>>,
    settles: Batcher<Envelope<Settle>>,
    missing: Batcher<Missing>,
}

impl CacheWriter {
    /// Its name in the registry.
    pub const NAME: &'static str = "cache_writer";

    /// A writer of this cache, which asks this reader for what the cache does not know.
    #[must_use]
    pub fn new(
        cache: Arc<dyn Cache>,
        reader: Reader,
        options: CacheOptions,
        stats: Arc<ActorStats>,
    ) -> Self {
        let kind = cache.kind();
        let owed = Arc::new(Mutex::new(Owed::default()));
        let watched = Arc::clone(&owed);
        stats.set_details(move || {
            let owed = watched.lock().unwrap_or_else(PoisonError::into_inner).len();
            serde_json::json!({ "cache": kind, "owed_entries": owed })
        });
        Self {
            writing: Writing {
                cache,
                reader,
                stats,
                owed,
            },
            heal_every: options.heal_every,
            applies: Batcher::new(options.largest_batch, options.lanes),
            forgets: Batcher::new(options.largest_batch, options.lanes),
            settles: Batcher::new(options.largest_batch, options.lanes),
            missing: Batcher::new(options.largest_batch, options.lanes),
        }
    }

    fn schedule(&mut self, context: &mut Context<Self>) {
        // At once as well: a cache that is started again before it was first seen would pass unnoticed.
        self.heal();
        context.run_interval(self.heal_every, |actor, _| actor.heal());
    }

    fn heal(&self) {
        let writing = self.writing.clone();
        let stats = Arc::clone(&self.writing.stats);
        spawn_work(stats, async move { writing.heal().await });
    }

    fn flush(&mut self, context: &mut Context<Self>) {
        let stats = Arc::clone(&self.writing.stats);
        while let Some((batch, lane)) = self.applies.next_batch() {
            let writing = self.writing.clone();
            let addr = context.address();
            spawn_batch(context, &stats, lane, async move {
                let missing = writing.apply(batch).await;
                if !missing.is_empty() {
                    addr.do_send(LoadMissing(missing));
                }
            });
        }
        while let Some((batch, lane)) = self.forgets.next_batch() {
            let writing = self.writing.clone();
            spawn_batch(context, &stats, lane, async move {
                writing.forget(batch).await;
            });
        }
        while let Some((batch, lane)) = self.settles.next_batch() {
            let writing = self.writing.clone();
            spawn_batch(context, &stats, lane, async move {
                writing.settle(batch).await;
            });
        }
        while let Some((batch, lane)) = self.missing.next_batch() {
            let writing = self.writing.clone();
            spawn_batch(context, &stats, lane, async move {
                writing.load_missing(batch).await;
            });
        }
    }
}

supervise_batching!(CacheWriter, started: schedule);

macro_rules! gathers {
    ($message:ty, $batcher:ident) => {
        impl Handler<Envelope<$message>> for CacheWriter {
            type Result = ();

            fn handle(&mut self, envelope: Envelope<$message>, context: &mut Self::Context) {
                self.$batcher.push(envelope.into());
                self.flush(context);
            }
        }
    };
}

gathers!(Apply, applies);
gathers!(Forget, forgets);
gathers!(Settle, settles);
gathers!(Lookup, missing);

/// Takes dead events back out of the cache, which would count them as on their way for ever.
pub(crate) async fn revert(
    cache_writer: &Mailbox<CacheWriter>,
    dead: impl IntoIterator<Item = &LedgerRow>,
) {
    let mut answers = Vec::new();
    for row in dead {
        let put_back = Forget {
            pair: row.pair(),
            version: row.version,
        };
        // A cache writer that has stopped does so only in a shutdown, when the cache ends too.
        answers.extend(cache_writer.ask_or_wait(put_back).await);
    }
    join_all(answers).await;
}

/// Something that the cache could not tell and the database may.
enum Missing {
    /// The rest of the answer to an event that was applied; `None` if the cache could not be written.
    Applied(Envelope<Apply>, Option<Applied>),
    /// A reader's question.
    LikeRequest(Envelope<Lookup>),
}

impl Missing {
    const fn pair(&self) -> Pair {
        match self {
            Self::Applied(envelope, _) => envelope.body.pair,
            Self::LikeRequest(envelope) => envelope.body.pair,
        }
    }
}

impl Missing {
    /// Answers with what the database holds and what the cache makes of it.
    fn answer(self, found: &Filling, reading: Reading) {
        match self {
            Self::Applied(envelope, applied) => {
                let mark = envelope.body.mark;
                // What the database knew before tells whether this event changes anything.
                let changed = (mark != found.mark)
                    .then_some(mark > found.mark && mark.liked != found.mark.liked);
                envelope.reply.send(ApplyOutcome {
                    applied: applied.map(|applied| Applied {
                        changed: applied.changed.or(changed),
                        like_count: reading.like_count.or(applied.like_count),
                        ..applied
                    }),
                    stored: (found.mark > mark).then_some(found.mark.version),
                });
            }
            Self::LikeRequest(envelope) => envelope.reply.send(Some(Known {
                liked: reading.liked.unwrap_or(found.mark.liked),
                like_count: reading.like_count.or(Some(found.count.like_count)),
            })),
        }
    }
}

impl From<Envelope<Lookup>> for Missing {
    fn from(envelope: Envelope<Lookup>) -> Self {
        Self::LikeRequest(envelope)
    }
}

impl Weigh for Missing {
    fn weight(&self) -> usize {
        1
    }
}

/// From a batch of applied events back to the actor: what to look for. The envelopes keep the room they
/// were sent with, so this needs none.
struct LoadMissing(Vec<Missing>);

impl actix::Message for LoadMissing {
    type Result = ();
}

impl Handler<LoadMissing> for CacheWriter {
    type Result = ();

    fn handle(&mut self, LoadMissing(missing): LoadMissing, context: &mut Self::Context) {
        for item in missing {
            self.missing.push(item);
        }
        self.flush(context);
    }
}

/// What the cache is owed: entries that may be wrong because they could not be written.
#[derive(Debug, Default)]
struct Owed {
    resources: BTreeSet<Resource>,
    /// More is owed than is remembered, so that every entry may be wrong.
    all: bool,
}

impl Owed {
    /// How many entries are remembered; beyond this, all are taken to be wrong.
    const MOST: usize = 100_000;

    fn add(&mut self, resources: impl IntoIterator<Item = Resource>) {
        if !self.all {
            self.resources.extend(resources);
        }
        if self.resources.len() > Self::MOST {
            self.resources.clear();
            self.all = true;
        }
    }

    fn len(&self) -> usize {
        self.resources.len()
    }
}

/// What the cache writer does with a batch, without actix.
#[derive(Clone)]
struct Writing {
    owed: Arc<Mutex<Owed>>,
    cache: Arc<dyn Cache>,
    reader: Reader,
    stats: Arc<ActorStats>,
}

impl Writing {
    /// Applies events and answers those that the cache can answer in full; returns the others.
    async fn apply(&self, batch: Vec<Envelope<Apply>>) -> Vec<Missing> {
        let events: Vec<_> = batch
            .iter()
            .map(|envelope| (envelope.body.pair, envelope.body.mark))
            .collect();
        let mut missing = Vec::new();
        match self.cache.apply(&events).await {
            Ok(applied) => {
                self.stats.progress(events.len());
                cache_worked(APPLYING);
                for (envelope, applied) in batch.into_iter().zip(applied) {
                    if applied.needs_fill() {
                        missing.push(Missing::Applied(envelope, Some(applied)));
                    } else {
                        envelope.reply.send(known(Some(applied)));
                    }
                }
            }
            Err(error) => {
                // Sent and not answered, they may yet be applied, also after they were put back.
                if !matches!(error, CacheError::Away) {
                    self.owe(events.iter().map(|(pair, _)| pair.resource));
                }
                self.cache_failed(APPLYING, &error);
                // The database may still hold a newer event of the pair, above which the request is to win.
                let unwritten = |envelope| Missing::Applied(envelope, None);
                missing.extend(batch.into_iter().map(unwritten));
            }
        }
        missing
    }

    async fn forget(&self, batch: Vec<Envelope<Forget>>) {
        let events: Vec<_> = batch
            .iter()
            .map(|envelope| (envelope.body.pair, envelope.body.version))
            .collect();
        match self.cache.forget(&events).await {
            Ok(()) => self.stats.progress(events.len()),
            Err(error) => {
                self.owe(events.iter().map(|(pair, _)| pair.resource));
                self.cache_failed("putting back events in the cache", &error);
            }
        }
        for envelope in batch {
            envelope.reply.send(());
        }
    }

    async fn settle(&self, batch: Vec<Envelope<Settle>>) {
        // What comes from a commit shows that the database answers again.
        self.reader.answers();
        let mut settlements: BTreeMap<Resource, Settlement> = BTreeMap::new();
        let mut pairs = 0;
        for envelope in &batch {
            for (pair, mark) in &envelope.body.settled.states {
                let settlement = settlements.entry(pair.resource).or_default();
                let newest = settlement.marks.entry(pair.user_id).or_insert(*mark);
                *newest = mark.max(newest).to_owned();
                pairs += 1;
            }
            for (resource, count) in &envelope.body.settled.counts {
                let settlement = settlements.entry(*resource).or_default();
                if settlement
                    .count
                    .is_none_or(|held| count.revision > held.revision)
                {
                    settlement.count = Some(*count);
                }
            }
        }
        match self.cache.settle(&settlements).await {
            Ok(()) => {
                self.stats.progress(pairs);
                cache_worked(SETTLING);
            }
            Err(error) => {
                self.owe(settlements.keys().copied());
                self.cache_failed(SETTLING, &error);
            }
        }
        for envelope in batch {
            envelope.reply.send(());
        }
    }

    /// Finds in the database what the cache could not tell, keeps it in the cache and answers.
    async fn load_missing(&self, mut batch: Vec<Missing>) {
        let mut rounds = 0;
        while !batch.is_empty() {
            rounds += 1;
            batch = self.look_once(batch, rounds == LOOKS).await;
        }
    }

    /// One look into the database. What changed in the cache meanwhile comes back, to be looked for
    /// again; at the `last` look it is answered all the same, only not kept.
    async fn look_once(&self, batch: Vec<Missing>, last: bool) -> Vec<Missing> {
        let incarnations = self.open(&batch).await;
        let pairs: BTreeSet<Pair> = batch.iter().map(Missing::pair).collect();
        let Some(found) = self.find(pairs).await else {
            self.answer_unfound(batch).await;
            return Vec::new();
        };
        let fillings: Vec<_> = batch
            .iter()
            .zip(incarnations)
            .map(|(item, incarnation)| {
                let pair = item.pair();
                Filling {
                    pair,
                    incarnation,
                    mark: found
                        .states
                        .get(&pair)
                        .copied()
                        .unwrap_or(VersionedState::NEVER),
                    count: count_in(&found, pair.resource),
                }
            })
            .collect();
        let readings = match self.cache.fill(&fillings).await {
            Ok(readings) => readings,
            Err(error) => {
                self.cache_failed("filling the cache", &error);
                vec![Some(Reading::default()); batch.len()]
            }
        };
        let mut again = Vec::new();
        for ((item, filling), reading) in batch.into_iter().zip(&fillings).zip(readings) {
            match reading {
                None if !last => again.push(item),
                reading => item.answer(filling, reading.unwrap_or_default()),
            }
        }
        self.stats.progress(fillings.len() - again.len());
        again
    }

    /// Looks into the database.
    async fn find(&self, pairs: BTreeSet<Pair>) -> Option<Found> {
        let find = self
            .reader
            .read(|store| async move { store.find(&pairs).await });
        match find.await {
            Ok(found) => {
                DependencyWorked {
                    dependency: Dependency::Database,
                    doing: LOOKING,
                }
                .emit();
                Some(found)
            }
            Err(error) => {
                self.database_failed(&error);
                None
            }
        }
    }

    /// The lives of the entries to fill, as of before the database is read. A cache that cannot be
    /// reached has none, and the fill that follows changes nothing.
    async fn open(&self, batch: &[Missing]) -> Vec<Incarnation> {
        let resources: Vec<Resource> = batch.iter().map(|item| item.pair().resource).collect();
        self.cache.open(&resources).await.unwrap_or_else(|error| {
            self.cache_failed("opening entries in the cache", &error);
            vec![Incarnation::default(); resources.len()]
        })
    }

    /// Without the database, what the cache does know is all there is.
    async fn answer_unfound(&self, batch: Vec<Missing>) {
        let pairs: Vec<_> = batch.iter().map(Missing::pair).collect();
        let readings = self.cache.read(&pairs).await.unwrap_or_default();
        let mut readings = readings.into_iter();
        for item in batch {
            let reading = readings.next().unwrap_or_default();
            match item {
                Missing::Applied(envelope, applied) => envelope.reply.send(known(applied)),
                Missing::LikeRequest(envelope) => {
                    envelope.reply.send(reading.liked.map(|liked| Known {
                        liked,
                        like_count: reading.like_count,
                    }));
                }
            }
        }
    }

    fn owe(&self, resources: impl IntoIterator<Item = Resource>) {
        self.lock_owed().add(resources);
    }

    fn lock_owed(&self) -> std::sync::MutexGuard<'_, Owed> {
        self.owed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Drops the entries that may be wrong: those that could not be written, and all of them if the
    /// cache was started again, for it may have come back with older data.
    async fn heal(&self) {
        let Ok(restarted) = self.cache.restarted().await else {
            // It cannot be reached; what is owed stays owed.
            return;
        };
        let owed = std::mem::take(&mut *self.lock_owed());
        if restarted || owed.all {
            match self.cache.clear().await {
                Ok(()) => CacheHealed {
                    reason: "the cache was started again, or missed too much",
                    entries: None,
                }
                .emit(),
                Err(error) => {
                    self.lock_owed().all = true;
                    self.cache_failed("dropping every entry of the cache", &error);
                }
            }
        } else if !owed.resources.is_empty() {
            let resources: Vec<_> = owed.resources.into_iter().collect();
            match self.cache.drop_entries(&resources).await {
                Ok(()) => CacheHealed {
                    reason: "the cache missed some settlements",
                    entries: Some(resources.len()),
                }
                .emit(),
                Err(error) => {
                    self.owe(resources);
                    self.cache_failed("dropping entries of the cache", &error);
                }
            }
        }
    }

    fn cache_failed(&self, doing: &'static str, error: &CacheError) {
        // An outage is one piece of news.
        if matches!(error, CacheError::Away) {
            return;
        }
        self.stats.failed(error);
        DependencyFailed {
            dependency: Dependency::Cache,
            doing,
            error,
        }
        .emit();
    }

    fn database_failed(&self, error: &StoreError) {
        self.stats.failed(error);
        if !error.is_news() {
            return;
        }
        DependencyFailed {
            dependency: Dependency::Database,
            doing: LOOKING,
            error,
        }
        .emit();
    }
}

fn cache_worked(doing: &'static str) {
    let dependency = Dependency::Cache;
    DependencyWorked { dependency, doing }.emit();
}

/// What is known of an event without the database.
const fn known(applied: Option<Applied>) -> ApplyOutcome {
    ApplyOutcome {
        applied,
        stored: None,
    }
}

fn count_in(found: &Found, resource: Resource) -> LikeCount {
    found
        .counts
        .get(&resource)
        .copied()
        .unwrap_or(LikeCount::NEVER)
}
