//! Loads facts that the cache lacks from the database, answers with them, and fills the cache for the next reader.

use std::collections::BTreeSet;

use actor_kit::{Envelope, Weigh};

use super::CacheWriter;
use crate::actors::failures::{database_failed, database_worked};
use crate::cache::{Filling, Incarnation};
use crate::domain::{Applied, LikeCount, Pair, Reading, Resource, UserId, VersionedState};
use crate::messages::{Apply, ApplyOutcome, Lookup};
use crate::store::Found;

/// The action's name in logs.
const LOADING: &str = "loading missing cache entries";

/// The number of times that one answer reads the database while the cache keeps changing.
const READS: usize = 4;

/// A fact that the cache lacks.
pub enum Missing {
    /// The rest of the answer to an applied event; `None` if the cache could not be written.
    Applied(Envelope<Apply>, Option<Applied>),
    /// A reader's look-up.
    Lookup(Envelope<Lookup>),
}

impl Missing {
    const fn resource(&self) -> &Resource {
        match self {
            Self::Applied(envelope, _) => &envelope.body.pair.resource,
            Self::Lookup(envelope) => &envelope.body.resource,
        }
    }

    const fn user_id(&self) -> Option<&UserId> {
        match self {
            Self::Applied(envelope, _) => Some(&envelope.body.pair.user_id),
            Self::Lookup(envelope) => envelope.body.user_id.as_ref(),
        }
    }

    /// The pair; `None` if only the count is read.
    fn pair(&self) -> Option<Pair> {
        self.user_id().map(|user_id| Pair {
            resource: self.resource().clone(),
            user_id: user_id.clone(),
        })
    }

    /// Answers with the state in the database, and with the cache's reading after the fill.
    fn answer(self, found: &Filling, reading: Reading) {
        match self {
            Self::Applied(envelope, applied) => {
                let state = envelope.body.state;
                let stored = found.state.as_ref();
                let stored = stored.map_or(VersionedState::NEVER, |(_, stored)| *stored);
                // The state before the event decides whether the event changes anything.
                let changed =
                    (state != stored).then_some(state > stored && state.liked != stored.liked);
                envelope.reply.send(ApplyOutcome {
                    applied: applied.map(|applied| Applied {
                        changed: applied.changed.or(changed),
                        like_count: reading.like_count.or(applied.like_count),
                        ..applied
                    }),
                    stored: (stored > state).then_some(stored.version),
                });
            }
            Self::Lookup(envelope) => envelope.reply.send(Reading {
                liked: reading
                    .liked
                    .or(found.state.as_ref().map(|(_, stored)| stored.liked)),
                like_count: reading.like_count.or(Some(found.count.like_count)),
            }),
        }
    }
}

impl From<Envelope<Lookup>> for Missing {
    fn from(envelope: Envelope<Lookup>) -> Self {
        Self::Lookup(envelope)
    }
}

impl Weigh for Missing {
    fn weight(&self) -> usize {
        1
    }
}

impl CacheWriter {
    /// Loads missing facts from the database, fills them into the cache, and answers.
    pub(super) async fn load_missing(&self, mut batch: Vec<Missing>) {
        let mut rounds = 0;
        while !batch.is_empty() {
            rounds += 1;
            batch = self.load_once(batch, rounds == READS).await;
        }
    }

    /// Reads the database once. Returns the facts whose entries changed meanwhile, which need another read. The `last`
    /// read answers those too, without filling the cache.
    async fn load_once(&self, batch: Vec<Missing>, last: bool) -> Vec<Missing> {
        let incarnations = self.open(&batch).await;
        let pairs: BTreeSet<Pair> = batch.iter().filter_map(Missing::pair).collect();
        let resources: BTreeSet<Resource> = batch.iter().map(Missing::resource).cloned().collect();
        let Some(found) = self.find(pairs, resources).await else {
            self.answer_unfound(batch).await;
            return Vec::new();
        };
        let fillings: Vec<_> = batch
            .iter()
            .zip(incarnations)
            .map(|(item, incarnation)| {
                let state = item.pair().map(|pair| {
                    let stored = found.states.get(&pair).copied();
                    (pair.user_id, stored.unwrap_or(VersionedState::NEVER))
                });
                Filling {
                    resource: item.resource().clone(),
                    incarnation,
                    state,
                    count: count_in(&found, item.resource()),
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
        self.context.progress(fillings.len() - again.len());
        again
    }

    /// Reads the states of these pairs and the counts of these resources; `None` if the database does not answer.
    async fn find(&self, pairs: BTreeSet<Pair>, resources: BTreeSet<Resource>) -> Option<Found> {
        let find = self
            .reader
            .read(|store| async move { store.find_with_counts(&pairs, &resources).await });
        match find.await {
            Ok(found) => {
                database_worked(LOADING);
                Some(found)
            }
            Err(error) => {
                database_failed(&self.context, LOADING, &error);
                None
            }
        }
    }

    /// Opens the entries to fill and returns their incarnations, which must be read before the database. If the cache
    /// is unreachable, returns none, and the fill that follows changes nothing.
    async fn open(&self, batch: &[Missing]) -> Vec<Incarnation> {
        let resources: Vec<Resource> = batch.iter().map(Missing::resource).cloned().collect();
        self.cache.open(&resources).await.unwrap_or_else(|error| {
            self.cache_failed("opening entries in the cache", &error);
            vec![Incarnation::default(); resources.len()]
        })
    }

    /// Answers from the cache alone, because the database does not answer.
    async fn answer_unfound(&self, batch: Vec<Missing>) {
        let pairs: Vec<_> = batch.iter().filter_map(Missing::pair).collect();
        let readings = self.cache.read(&pairs).await.unwrap_or_default();
        let mut readings = readings.into_iter();
        for item in batch {
            // A reader of the count alone has asked the cache just before.
            let reading = item
                .pair()
                .and_then(|_| readings.next())
                .unwrap_or_default();
            match item {
                Missing::Applied(envelope, applied) => envelope.reply.send(ApplyOutcome {
                    applied,
                    stored: None,
                }),
                Missing::Lookup(envelope) => envelope.reply.send(reading),
            }
        }
    }
}

fn count_in(found: &Found, resource: &Resource) -> LikeCount {
    found
        .counts
        .get(resource)
        .copied()
        .unwrap_or(LikeCount::NEVER)
}
