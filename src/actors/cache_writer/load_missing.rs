//! Loads what the cache lacks from the database, fills the cache for the next reader, and answers.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use actor_kit::Weigh;
use futures_util::future::join_all;

use super::missing::{Missing, Round, ToFill};
use super::{APPLYING, CacheWriter};
use crate::actors::failures::{database_failed, database_worked};
use crate::cache::{CacheError, Filling, RefusedEntries};
use crate::domain::{
    Applied, Coverage, Pair, PairState, Reading, Resource, UserEntry, UserId, VersionedState,
};
use crate::messages::{Apply, ApplyOutcome, Lookup};
use crate::store::{Loaded, Wanted};

/// The action's name in logs.
const LOADING: &str = "loading missing cache entries";

/// The number of times that one answer reads the database while the cache keeps changing.
const READS: usize = 4;

/// What became of a filling.
#[derive(Default)]
struct Fill<'a> {
    /// The entries that refused it.
    refused: RefusedEntries<'a>,
    /// The resources whose count stays as it is, because its events in flight may be in the newer one.
    kept: BTreeSet<&'a Resource>,
    /// The answer to each event; `None` if it was not applied.
    applied: Vec<Option<Applied>>,
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
    async fn load_once(&self, mut batch: Vec<Missing>, last: bool) -> Vec<Missing> {
        let to_fill = self.open(&batch).await;
        let pairs: BTreeSet<Pair> = batch.iter().flat_map(Missing::pairs).collect();
        let Some(mut round) = self.read(&batch, &pairs, to_fill.as_ref()).await else {
            self.answer_unfound(batch).await;
            return Vec::new();
        };
        let mut filling = round.filling(to_fill.unwrap_or_default(), &pairs);
        let in_flight = batch.iter_mut().filter_map(|item| item.in_flight(&round));
        let in_flight =
            in_flight.map(|(event, partly)| ((event.pair.clone(), event.state), &mut partly.again));
        let (events, answers): (Vec<_>, Vec<_>) = in_flight.unzip();
        filling.events = events;
        let Fill {
            refused,
            kept,
            applied,
        } = self.fill(&filling, last).await;
        for (answer, again) in answers.into_iter().zip(applied) {
            *answer = again;
        }
        let (mut again, found): (Vec<_>, Vec<_>) = batch.into_iter().partition(|item| {
            !last && (item.is_refused(&refused) || item.is_uncounted(&kept, &round))
        });
        for item in &mut again {
            if let Missing::Applied(_, partly) = item {
                partly.opened = None;
            }
        }
        self.context.progress(found.iter().map(Weigh::weight).sum());
        self.answer(found, &round).await;
        again
    }

    /// Opens the entries to fill that were not opened with an answer; `None` if the cache is unreachable.
    async fn open(&self, batch: &[Missing]) -> Option<ToFill> {
        let (mut to_fill, mut unopened) = (ToFill::default(), Vec::new());
        for item in batch {
            if let Missing::Applied(envelope, partly) = item
                && let Some(opened) = partly.opened
            {
                let Pair { user_id, resource } = &envelope.body.pair;
                to_fill.users.insert(user_id.clone(), opened.user);
                to_fill.counts.insert(resource.clone(), opened.count);
            } else {
                unopened.push(item);
            }
        }
        let users = unopened.iter().copied().filter_map(Missing::user_id);
        let users: BTreeSet<&UserId> = users
            .filter(|user_id| !to_fill.users.contains_key(user_id))
            .collect();
        let counts = unopened.iter().copied().flat_map(Missing::resources);
        let counts: BTreeSet<&Resource> = counts
            .filter(|resource| !to_fill.counts.contains_key(resource))
            .collect();
        if users.is_empty() && counts.is_empty() {
            return Some(to_fill);
        }
        let users: Vec<UserId> = users.into_iter().cloned().collect();
        let counts: Vec<Resource> = counts.into_iter().cloned().collect();
        match self.cache.open(&users, &counts).await {
            Ok(opened) => {
                to_fill.users.extend(users.into_iter().zip(opened.users));
                to_fill.counts.extend(counts.into_iter().zip(opened.counts));
                Some(to_fill)
            }
            Err(error) => {
                self.cache_failed("opening entries in the cache", &error);
                None
            }
        }
    }

    /// Reads what the opened entries lack, or without a cache only what the answers need; `None` if the database does not
    /// answer.
    async fn read(
        &self,
        batch: &[Missing],
        pairs: &BTreeSet<Pair>,
        to_fill: Option<&ToFill>,
    ) -> Option<Round> {
        let unfilled = to_fill.into_iter().flat_map(|to_fill| &to_fill.users);
        let unfilled = unfilled.filter(|(_, (_, coverage))| *coverage == Coverage::Unfilled);
        let users: BTreeSet<UserId> = unfilled.map(|(user_id, _)| user_id.clone()).collect();
        let of_others = pairs.iter().filter(|pair| !users.contains(&pair.user_id));
        let wanted = Wanted {
            pairs: of_others.cloned().collect(),
            users,
            // All counts: one that is as new as the rows has the events that the rows have.
            resources: batch.iter().flat_map(Missing::resources).cloned().collect(),
        };
        let Loaded { users, found } = self.load(wanted).await?;
        let mut round = Round {
            users: BTreeMap::new(),
            states: found.states,
            counts: found.counts,
        };
        // Of users with too many rows, only the pairs are read.
        let is_of_large = |pair: &&Pair| matches!(users.get(&pair.user_id), Some(None));
        let of_large: BTreeSet<Pair> = pairs.iter().filter(is_of_large).cloned().collect();
        if !of_large.is_empty() {
            let wanted = Wanted {
                pairs: of_large,
                ..Wanted::default()
            };
            round.states.extend(self.load(wanted).await?.found.states);
        }
        for (user_id, rows) in users {
            let Some(rows) = rows else { continue };
            for (resource, state) in &rows {
                let pair = Pair {
                    resource: resource.clone(),
                    user_id: user_id.clone(),
                };
                if pairs.contains(&pair) {
                    round.states.insert(pair, *state);
                }
            }
            round.users.insert(user_id, rows);
        }
        Some(round)
    }

    /// Fills entries and applies the events that wait for that: with the `last` fill, those of refused entries too.
    async fn fill<'a>(&self, filling: &'a Filling, last: bool) -> Fill<'a> {
        let now = self.now();
        let filled = match self.cache.fill_and_apply(filling, now).await {
            Ok(filled) => filled,
            Err(error) => {
                self.not_applied("filling the cache", &error, &filling.events);
                return Fill {
                    applied: vec![None; filling.events.len()],
                    ..Fill::default()
                };
            }
        };
        let (refused, kept) = (filling.refused_by(&filled), filling.kept_by(&filled));
        let mut applied = filled.applied;
        let is_refused = |pair: &Pair| last && refused.has(pair);
        let late = filling.events.iter().filter(|(pair, _)| is_refused(pair));
        let late: Vec<_> = late.cloned().collect();
        if !late.is_empty() {
            match self.cache.apply(&late, now).await {
                Ok(answers) => {
                    let unanswered = applied.iter_mut().filter(|applied| applied.is_none());
                    for (applied, answer) in unanswered.zip(answers) {
                        *applied = Some(answer);
                    }
                }
                Err(error) => self.not_applied(APPLYING, &error, &late),
            }
        }
        Fill {
            refused,
            kept,
            applied,
        }
    }

    /// Notes that a call which applies these events failed. It may still run without an answer.
    fn not_applied(
        &self,
        doing: &'static str,
        error: &CacheError,
        events: &[(Pair, VersionedState)],
    ) {
        if !error.is_unsent() {
            self.mark_dirty(super::entries_of(events.iter().map(|(pair, _)| pair)));
        }
        self.cache_failed(doing, error);
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
                Missing::Applied(envelope, partly) => applied.push((envelope, partly)),
                Missing::Lookup(envelope) => lookups.push(envelope),
            }
        }
        let begun = self.begun(applied.iter().map(|(envelope, _)| &envelope.body), round);
        let begun = begun.await;
        let recorded = applied.iter().map(|(envelope, _)| &envelope.body);
        let shown = self.shown(recorded.filter(|event| !round.lacks(event)));
        let shown = shown.await;
        for (envelope, partly) in applied {
            let event = &envelope.body;
            let stored = round.state(&event.pair);
            // The state before the event decides whether the event changes anything.
            let changed = match event.state.cmp(&stored) {
                Ordering::Greater => Some(event.state.liked != stored.liked),
                Ordering::Equal => begun.get(&event.pair).copied(),
                // A newer event does not tell what was before this one.
                Ordering::Less => None,
            };
            let resource = &event.pair.resource;
            let like_count = match partly.again {
                Some(again) => again.like_count,
                // The database has the event, and counts it. The cache also counts those in flight.
                None if !round.lacks(event) => {
                    let shown = shown.get(resource).copied();
                    shown.or_else(|| Some(round.count(resource).like_count))
                }
                None => None,
            };
            let applied = partly.applied.map(|before| Applied {
                changed: before.changed.or(changed),
                newer: partly.again.and_then(|again| again.newer),
                like_count: match partly.again {
                    Some(_) => like_count,
                    None => before.like_count.or(like_count),
                },
            });
            let newer = (stored > event.state).then_some(stored.version);
            envelope.reply.send(ApplyOutcome {
                applied,
                stored: newer,
            });
        }
        let now = self.now();
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
                    let count = round.count(resource).like_count;
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

    /// Returns the counts of the resources of events, as the cache shows them.
    async fn shown<'a>(&self, events: impl Iterator<Item = &'a Apply>) -> BTreeMap<Resource, i64> {
        let resources: BTreeSet<&Resource> = events.map(|event| &event.pair.resource).collect();
        let resources: Vec<Resource> = resources.into_iter().cloned().collect();
        // The answer is complete without it.
        let readings = self.cache.read(None, &resources, self.now()).await;
        let readings = readings.unwrap_or_default().into_iter();
        let known = resources.into_iter().zip(readings);
        let known = known.filter_map(|(resource, reading)| Some((resource, reading.like_count?)));
        known.collect()
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
        let states = states.into_iter();
        // A newer event may have come since.
        let unchanged = states.filter(|(pair, state)| state.newest == round.state(pair));
        let begun = |(pair, state): (Pair, PairState)| (pair, state.begins_its_run());
        unchanged.map(begun).collect()
    }

    /// Answers from the cache alone, because the database does not answer.
    async fn answer_unfound(&self, batch: Vec<Missing>) {
        for item in batch {
            match item {
                Missing::Applied(envelope, partly) => envelope.reply.send(ApplyOutcome {
                    applied: partly.applied,
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
