//! Loads what the cache lacks from the database, answers with it, and fills the cache for the next reader.

use std::collections::{BTreeMap, BTreeSet};

use actor_kit::{Envelope, Weigh};
use futures_util::future::join_all;

use super::CacheWriter;
use crate::actors::failures::{database_failed, database_worked};
use crate::cache::{CountFilling, Opened, UserFilling};
use crate::domain::{
    Applied, Coverage, LikeCount, Pair, PairState, Reading, Resource, UserEntry, UserId,
    VersionedState,
};
use crate::messages::{Apply, ApplyOutcome, Lookup};
use crate::store::{Loaded, Wanted};

/// The action's name in logs.
const LOADING: &str = "loading missing cache entries";

/// The number of times that one answer reads the database while the cache keeps changing.
const READS: usize = 4;

/// What the cache lacks.
pub enum Missing {
    /// The rest of the answer to an applied event; `None` if the cache could not be written.
    Applied(Envelope<Apply>, Option<Applied>),
    /// A reader's look-up.
    Lookup(Envelope<Lookup>),
}

impl Missing {
    fn resources(&self) -> &[Resource] {
        match self {
            Self::Applied(envelope, _) => std::slice::from_ref(&envelope.body.pair.resource),
            Self::Lookup(envelope) => &envelope.body.resources,
        }
    }

    const fn user_id(&self) -> Option<&UserId> {
        match self {
            Self::Applied(envelope, _) => Some(&envelope.body.pair.user_id),
            Self::Lookup(envelope) => envelope.body.user_id.as_ref(),
        }
    }

    fn pairs(&self) -> impl Iterator<Item = Pair> {
        let user_id = self.user_id();
        self.resources().iter().filter_map(move |resource| {
            Some(Pair {
                resource: resource.clone(),
                user_id: user_id?.clone(),
            })
        })
    }
}

impl From<Envelope<Lookup>> for Missing {
    fn from(envelope: Envelope<Lookup>) -> Self {
        Self::Lookup(envelope)
    }
}

impl Weigh for Missing {
    fn weight(&self) -> usize {
        self.resources().len()
    }
}

/// What one read of the database found, and which entries refused it.
struct Round {
    states: BTreeMap<Pair, VersionedState>,
    counts: BTreeMap<Resource, LikeCount>,
    refused_users: BTreeSet<UserId>,
    refused_counts: BTreeSet<Resource>,
}

impl Round {
    fn refused(&self, item: &Missing) -> bool {
        let user_id = item.user_id();
        let mut resources = item.resources().iter();
        user_id.is_some_and(|user_id| self.refused_users.contains(user_id))
            || resources.any(|resource| self.refused_counts.contains(resource))
    }

    /// Returns the stored state of a pair.
    fn state(&self, pair: &Pair) -> VersionedState {
        let state = self.states.get(pair).copied();
        state.unwrap_or(VersionedState::NEVER)
    }
}

impl CacheWriter {
    /// Loads what is missing from the database, fills it into the cache, and answers.
    pub(super) async fn load_missing(&self, mut batch: Vec<Missing>) {
        let mut rounds = 0;
        while !batch.is_empty() {
            rounds += 1;
            batch = self.load_once(batch, rounds == READS).await;
        }
    }

    /// Reads the database once. Returns the items whose entries changed meanwhile, which need another read. The `last`
    /// read answers those too.
    async fn load_once(&self, batch: Vec<Missing>, last: bool) -> Vec<Missing> {
        let users: BTreeSet<&UserId> = batch.iter().filter_map(Missing::user_id).collect();
        let users: Vec<UserId> = users.into_iter().cloned().collect();
        let resources: BTreeSet<&Resource> = batch.iter().flat_map(Missing::resources).collect();
        let resources: Vec<Resource> = resources.into_iter().cloned().collect();
        let opened = self.open(&users, &resources).await;
        let Some(round) = self.read_and_fill(&batch, &users, &resources, opened).await else {
            self.answer_unfound(batch).await;
            return Vec::new();
        };
        let (again, found): (Vec<_>, Vec<_>) = batch
            .into_iter()
            .partition(|item| !last && round.refused(item));
        self.context.progress(found.iter().map(Weigh::weight).sum());
        self.answer(found, &round).await;
        again
    }

    /// Opens the entries to fill, before the database is read; `None` if the cache is unreachable.
    async fn open(&self, users: &[UserId], resources: &[Resource]) -> Option<Opened> {
        match self.cache.open(users, resources).await {
            Ok(opened) => Some(opened),
            Err(error) => {
                self.cache_failed("opening entries in the cache", &error);
                None
            }
        }
    }

    /// Reads what the opened entries lack, and fills them; `None` if the database does not answer.
    async fn read_and_fill(
        &self,
        batch: &[Missing],
        users: &[UserId],
        resources: &[Resource],
        opened: Option<Opened>,
    ) -> Option<Round> {
        let wanted = wanted(batch, users, resources, opened.as_ref());
        let loaded = self.load(wanted).await?;
        let mut states = loaded.found.states;
        // Of users with too many rows, only the pairs are read.
        let too_many = |pair: &Pair| matches!(loaded.users.get(&pair.user_id), Some(None));
        let pairs: BTreeSet<Pair> = batch.iter().flat_map(Missing::pairs).collect();
        let of_large: BTreeSet<Pair> = pairs
            .iter()
            .filter(|pair| too_many(pair))
            .cloned()
            .collect();
        if !of_large.is_empty() {
            let wanted = Wanted {
                pairs: of_large,
                ..Wanted::default()
            };
            states.extend(self.load(wanted).await?.found.states);
        }
        let mut round = Round {
            states,
            counts: loaded.found.counts,
            refused_users: BTreeSet::new(),
            refused_counts: BTreeSet::new(),
        };
        let Some(opened) = opened else {
            return Some(round);
        };
        let mut user_fillings = Vec::with_capacity(users.len());
        for (user_id, (incarnation, _)) in users.iter().zip(&opened.users) {
            let (coverage, rows) = match loaded.users.get(user_id) {
                Some(Some(rows)) => (Coverage::Complete, rows.clone()),
                _ => {
                    let own = pairs.iter().filter(|pair| pair.user_id == *user_id);
                    let rows = own.map(|pair| (pair.resource.clone(), round.state(pair)));
                    (Coverage::Partial, rows.collect())
                }
            };
            user_fillings.push(UserFilling {
                user_id: user_id.clone(),
                incarnation: *incarnation,
                coverage,
                rows,
            });
        }
        let count_fillings: Vec<_> = resources
            .iter()
            .zip(&opened.counts)
            .map(|(resource, incarnation)| CountFilling {
                resource: resource.clone(),
                incarnation: incarnation.unwrap_or_default(),
                count: round
                    .counts
                    .get(resource)
                    .copied()
                    .unwrap_or(LikeCount::NEVER),
            })
            .collect();
        match self.cache.fill(&user_fillings, &count_fillings).await {
            Ok(filled) => {
                let refused = user_fillings.iter().zip(filled.users);
                let refused = refused.filter(|(_, taken)| !taken);
                round.refused_users = refused.map(|(one, _)| one.user_id.clone()).collect();
                let refused = count_fillings.iter().zip(filled.counts);
                let refused = refused.filter(|(_, taken)| !taken);
                round.refused_counts = refused.map(|(one, _)| one.resource.clone()).collect();
            }
            Err(error) => self.cache_failed("filling the cache", &error),
        }
        // The answers need the states of the batch's pairs.
        for (user_id, rows) in loaded.users {
            for (resource, state) in rows.into_iter().flatten() {
                let user_id = user_id.clone();
                let pair = Pair { resource, user_id };
                if pairs.contains(&pair) {
                    round.states.insert(pair, state);
                }
            }
        }
        Some(round)
    }

    /// Reads the database; `None` if it does not answer.
    async fn load(&self, wanted: Wanted) -> Option<Loaded> {
        let load = self
            .reader
            .read(|store| async move { store.load_entries(&wanted, UserEntry::MOST_PAIRS).await });
        match load.await {
            Ok(loaded) => {
                database_worked(LOADING);
                Some(loaded)
            }
            Err(error) => {
                database_failed(&self.context, LOADING, &error);
                None
            }
        }
    }

    /// Answers from the cache after the fill, and from what the database held.
    async fn answer(&self, batch: Vec<Missing>, round: &Round) {
        let (mut applied, mut lookups) = (Vec::new(), Vec::new());
        for item in batch {
            match item {
                Missing::Applied(envelope, before) => applied.push((envelope, before)),
                Missing::Lookup(envelope) => lookups.push(envelope),
            }
        }
        // The filled entries tell what each event changes, so it is counted as in flight only now. What the database holds
        // is not in flight.
        let is_in_flight = |body: &Apply| body.state > round.state(&body.pair);
        let in_flight = applied
            .iter()
            .filter(|(envelope, before)| before.is_some() && is_in_flight(&envelope.body));
        let events: Vec<_> = in_flight
            .map(|(envelope, _)| (envelope.body.pair.clone(), envelope.body.state))
            .collect();
        let now = self.now();
        let again = match self.cache.apply(&events, now).await {
            Ok(again) => again,
            Err(error) => {
                if !error.is_unsent() {
                    self.mark_dirty(super::entries_of(events.iter().map(|(pair, _)| pair)));
                }
                self.cache_failed(super::APPLYING, &error);
                Vec::new()
            }
        };
        let mut again = again.into_iter();
        let begun = self.begun(applied.iter().map(|(envelope, _)| &envelope.body), round);
        let begun = begun.await;
        for (envelope, before) in applied {
            let Apply { pair, state } = &envelope.body;
            let stored = round.state(pair);
            // The state before the event decides whether the event changes anything.
            let changed = if *state == stored {
                begun.get(pair).copied()
            } else {
                Some(*state > stored && state.liked != stored.liked)
            };
            let again = match before {
                Some(_) if *state > stored => again.next(),
                _ => None,
            };
            let stored_count = round.counts.get(&pair.resource).copied();
            let stored_count = stored_count.unwrap_or(LikeCount::NEVER).like_count;
            let applied = before.map(|before| Applied {
                changed: before.changed.or(changed),
                newer: again.and_then(|again| again.newer),
                like_count: match again {
                    Some(again) => again.like_count,
                    // The database has the event, and counts it.
                    None => before.like_count.or(Some(stored_count)),
                },
            });
            envelope.reply.send(ApplyOutcome {
                applied,
                stored: (stored > *state).then_some(stored.version),
            });
        }
        let readings = lookups.iter().map(|envelope| async {
            let Lookup { user_id, resources } = &envelope.body;
            let read = self.cache.read(user_id.as_ref(), resources, now).await;
            read.unwrap_or_else(|_| vec![Reading::default(); resources.len()])
        });
        let readings = join_all(readings).await;
        for (envelope, readings) in lookups.into_iter().zip(readings) {
            let Lookup { user_id, resources } = &envelope.body;
            let readings = readings
                .into_iter()
                .zip(resources)
                .map(|(reading, resource)| {
                    let stored = user_id.as_ref().map(|user_id| {
                        let pair = Pair {
                            resource: resource.clone(),
                            user_id: user_id.clone(),
                        };
                        round.state(&pair).liked
                    });
                    let count = round
                        .counts
                        .get(resource)
                        .map_or(0, |count| count.like_count);
                    Reading {
                        liked: reading.liked.or(stored),
                        like_count: reading.like_count.or(Some(count)),
                        ..reading
                    }
                });
            let readings = readings.collect();
            envelope.reply.send(readings);
        }
    }

    /// Returns, of those of the events that the database holds as the newest likes, whether each began to be liked. Of an
    /// unlike, the database does not tell what was before it.
    async fn begun(
        &self,
        events: impl Iterator<Item = &Apply>,
        round: &Round,
    ) -> BTreeMap<Pair, bool> {
        let stored =
            events.filter(|body| body.state.liked && body.state == round.state(&body.pair));
        let pairs: BTreeSet<Pair> = stored.map(|body| body.pair.clone()).collect();
        if pairs.is_empty() {
            return BTreeMap::new();
        }
        let read = self
            .reader
            .read(|store| async move { store.pair_states(&pairs).await });
        // The answer is complete without it.
        let states = read.await.unwrap_or_default();
        let begun = |(pair, state): (Pair, PairState)| (pair, state.since == state.newest.version);
        states.into_iter().map(begun).collect()
    }

    /// Answers from the cache alone, because the database does not answer.
    async fn answer_unfound(&self, batch: Vec<Missing>) {
        for item in batch {
            match item {
                Missing::Applied(envelope, applied) => envelope.reply.send(ApplyOutcome {
                    applied,
                    stored: None,
                }),
                Missing::Lookup(envelope) => {
                    let Lookup { user_id, resources } = &envelope.body;
                    let read = self.cache.read(user_id.as_ref(), resources, self.now());
                    let readings = read.await;
                    let unknown = |_| vec![Reading::default(); resources.len()];
                    let readings = readings.unwrap_or_else(unknown);
                    envelope.reply.send(readings);
                }
            }
        }
    }
}

/// Returns what the opened entries lack. Without a cache, only the pairs and counts that the answers need.
fn wanted(
    batch: &[Missing],
    users: &[UserId],
    resources: &[Resource],
    opened: Option<&Opened>,
) -> Wanted {
    let mut wanted = Wanted::default();
    match opened {
        None => wanted.resources.extend(resources.iter().cloned()),
        Some(opened) => {
            let unfilled = users.iter().zip(&opened.users);
            let unfilled = unfilled.filter(|(_, (_, coverage))| *coverage == Coverage::Unfilled);
            wanted.users = unfilled.map(|(user_id, _)| user_id.clone()).collect();
            // All counts: one that is as new as the rows has the events that the rows have.
            wanted.resources.extend(resources.iter().cloned());
        }
    }
    let pairs = batch.iter().flat_map(Missing::pairs);
    wanted.pairs = pairs
        .filter(|pair| !wanted.users.contains(&pair.user_id))
        .collect();
    wanted
}
