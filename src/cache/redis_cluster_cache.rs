//! The cache on a Redis Cluster: the entries and the script of `redis.rs`. A call of the script changes one entry, because a
//! cluster runs no script on the keys of two slots. So an event first changes its user entry, then its count entry.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use redis::Value;

use super::redis_call::{Call, Caller, Digits, PAIRS_PER_CALL, parts};
use super::redis_cluster::{Purpose, RedisCluster, Routed};
use super::redis_entry::{self, Keys};
use super::redis_placed::{Placed, of_counts, of_users, placed};
use super::redis_read::{self, found, get, readings, searches};
use super::redis_slots::Slot;
use super::{
    Cache, CacheError, CacheFuture, CountFilling, Filled, Filling, MasterState, Opened, OpenedPair,
    Scanned, Settlement, UserFilling,
};
use crate::config::RedisOptions;
use crate::domain::{
    Applied, CurrentDeployment, DataSubject, Deployment, EntryId, EntryView, Pair, Reading,
    Resource, UserId, Version, VersionedState, overdue_before,
};

/// The cache on a cluster of Redis 6.2 or newer.
pub struct RedisClusterCache {
    cluster: RedisCluster,
    deployment: CurrentDeployment,
    caller: Caller,
}

/// An apply that takes longer looks whether its events were settled before they joined their counts. A faster one ends before
/// an event can be durable, recorded and settled.
const SLOW: Duration = Duration::from_millis(1);

/// What a user entry answers to an event.
struct TakenEvent {
    /// Whether it changed the pair, and a newer version.
    applied: String,
    /// What the count entry has to count: the base of an event in flight, `-` if that is unknown, or nothing.
    base: String,
    /// What `open` answers about the user entry.
    opened: String,
}

impl TakenEvent {
    fn parse(answer: &str) -> Result<Self, CacheError> {
        let mut parts = answer.rsplitn(3, ':');
        let mut next = || parts.next().map(str::to_owned);
        let (opened, base, applied) = (next(), next(), next());
        let taken = opened.zip(base).zip(applied);
        let taken = taken.map(|((opened, base), applied)| Self {
            applied,
            base,
            opened,
        });
        taken.ok_or_else(|| redis_entry::unreadable(format!("it applied '{answer}'")))
    }

    fn has_joined(&self) -> bool {
        !self.base.is_empty() && self.base != "-"
    }

    /// Returns whether the count has to be opened: `1`, `?` if it is unknown, or `0`.
    fn opens_count(&self) -> &'static str {
        match self.applied.split_once(':') {
            Some((_, newer)) if !newer.is_empty() => "0",
            Some(("", _)) => "1",
            _ => "?",
        }
    }

    /// Returns the whole answer, with that of the count entry.
    fn answer(&self, count: &str) -> Result<(Applied, Option<OpenedPair>), CacheError> {
        let answer = match count.split_once(':') {
            None => format!("{}:{count}", self.applied),
            Some((count, opened)) => {
                format!("{}:{count}:{}:{opened}", self.applied, self.opened)
            }
        };
        redis_entry::applied(&answer)
    }
}

impl RedisClusterCache {
    /// Creates a cache that connects at its first use and reconnects after failures. Its keys are named after the deployment.
    ///
    /// # Errors
    /// If the URL is invalid.
    pub fn new(options: &RedisOptions, deployment: CurrentDeployment) -> Result<Self, CacheError> {
        Ok(Self {
            cluster: RedisCluster::new(options)?,
            deployment,
            caller: Caller::new(options.time_to_live.as_secs(), options.pairs_per_user),
        })
    }

    /// Returns the keys of the current deployment.
    fn keys(&self) -> Result<Keys, CacheError> {
        self.deployment.get().map(Keys).ok_or(CacheError::Unnamed)
    }

    /// Runs calls of one verb, those for one master in one round trip.
    async fn run(
        &self,
        verb: &'static str,
        now: Version,
        calls: impl IntoIterator<Item = Call>,
    ) -> Result<Vec<Value>, CacheError> {
        let route =
            |call: Call| Routed::new(call.first_key(), self.caller.command(verb, now, &call));
        let commands = calls.into_iter().map(route).collect();
        self.cluster.run(commands, Purpose::Use).await
    }

    /// Runs calls of one verb that answer a text for each item. Returns the texts in the order of the `size` items.
    async fn ask(
        &self,
        verb: &'static str,
        now: Version,
        calls: Vec<Placed>,
        size: usize,
    ) -> Result<Vec<String>, CacheError> {
        let (calls, places): (Vec<_>, Vec<_>) = calls
            .into_iter()
            .map(|placed| (placed.call, placed.places))
            .unzip();
        let mut answers = vec![String::new(); size];
        for (places, reply) in places.into_iter().zip(self.run(verb, now, calls).await?) {
            for (place, text) in places.into_iter().zip(redis_entry::texts(reply)?) {
                answers[place] = text;
            }
        }
        Ok(answers)
    }

    /// Lets user entries take events.
    async fn apply_to_users(
        &self,
        keys: &Keys,
        events: &[(Pair, VersionedState)],
        now: Version,
    ) -> Result<Vec<TakenEvent>, CacheError> {
        let calls = of_users(keys, events, |call, (pair, state)| {
            call.arg(&pair.resource.key());
            call.state(*state);
        });
        let answers = self.ask("apply_to_user", now, calls, events.len()).await?;
        answers
            .iter()
            .map(|answer| TakenEvent::parse(answer))
            .collect()
    }

    /// Lets events leave their counts that were settled before they joined: another process settled both entries of a pair
    /// after the event had changed the user entry and before it joined the count.
    async fn leave_if_settled(
        &self,
        keys: &Keys,
        joined: &[(Pair, VersionedState)],
        now: Version,
    ) -> Result<(), CacheError> {
        if joined.is_empty() {
            return Ok(());
        }
        let calls = of_users(keys, joined, |call, (pair, state)| {
            call.arg(&pair.resource.key());
            call.state(*state);
        });
        let settled = self.ask("settled", now, calls, joined.len()).await?;
        let settled: Vec<(Pair, String)> = joined
            .iter()
            .zip(settled)
            .filter(|(_, state)| !state.is_empty())
            .map(|((pair, _), state)| (pair.clone(), state))
            .collect();
        let calls = of_counts(keys, &settled, |call, (pair, state)| {
            call.arg(&pair.user_id.key());
            call.arg(state);
        });
        let calls = calls.into_iter().map(|placed| placed.call);
        self.run("leave_count", now, calls).await.map(drop)
    }
}

impl Cache for RedisClusterCache {
    fn ping(&self) -> CacheFuture<'_, ()> {
        Box::pin(self.cluster.ping())
    }

    fn read<'a>(
        &'a self,
        user_id: Option<&'a UserId>,
        resources: &'a [Resource],
        now: Version,
    ) -> CacheFuture<'a, Vec<Reading>> {
        Box::pin(async move {
            if resources.is_empty() {
                return Ok(Vec::new());
            }
            let keys = self.keys()?;
            let user = user_id.map(|user_id| keys.user(user_id));
            let counts = resources.iter().map(|resource| keys.count(resource));
            let commands = user
                .into_iter()
                .chain(counts)
                .map(|key| get(key).into())
                .collect();
            let replies = self.cluster.run(commands, Purpose::Use).await?;
            let texts = replies.into_iter().map(redis_entry::value);
            let texts: Vec<Option<String>> = texts.collect::<Result<_, _>>()?;
            let (user, counts) = texts.split_at(usize::from(user_id.is_some()));
            let user = user.first().and_then(Option::as_deref);
            Ok(readings(user, counts, resources, overdue_before(now)))
        })
    }

    fn apply_and_open<'a>(
        &'a self,
        events: &'a [(Pair, VersionedState)],
        now: Version,
    ) -> CacheFuture<'a, Vec<(Applied, Option<OpenedPair>)>> {
        Box::pin(async move {
            let (keys, started) = (self.keys()?, Instant::now());
            let taken = self.apply_to_users(&keys, events, now).await?;
            let counted: Vec<_> = events
                .iter()
                .zip(&taken)
                .map(|((pair, state), taken)| (pair.clone(), (*state, taken)))
                .collect();
            let calls = of_counts(&keys, &counted, |call, (pair, (state, taken))| {
                call.arg(&pair.user_id.key());
                call.state(*state);
                call.arg(&taken.base);
                call.arg(&taken.opens_count());
            });
            let counts = self.ask("join_count", now, calls, events.len()).await?;
            if started.elapsed() > SLOW {
                let joined: Vec<_> = events
                    .iter()
                    .zip(&taken)
                    .filter(|(_, taken)| taken.has_joined())
                    .map(|(event, _)| event.clone())
                    .collect();
                self.leave_if_settled(&keys, &joined, now).await?;
            }
            let answers = taken.iter().zip(&counts);
            answers.map(|(taken, count)| taken.answer(count)).collect()
        })
    }

    fn settle<'a>(
        &'a self,
        settlements: &'a BTreeMap<Resource, Settlement>,
        now: Version,
    ) -> CacheFuture<'a, ()> {
        Box::pin(async move {
            let keys = self.keys()?;
            let mut states = Vec::new();
            for (resource, settlement) in settlements {
                for (user_id, state) in &settlement.states {
                    let (resource, user_id) = (resource.clone(), user_id.clone());
                    states.push((Pair { resource, user_id }, *state));
                }
            }
            // User entries first: an event that is applied afterwards finds its pair settled, and joins no count.
            let users = of_users(&keys, &states, |call, (pair, state)| {
                call.arg(&pair.resource.key());
                call.state(*state);
            });
            let users = users.into_iter().map(|placed| placed.call);
            self.run("settle_user", now, users).await?;
            let mut counts = Vec::new();
            for (resource, settlement) in settlements {
                let states: Vec<_> = settlement.states.iter().collect();
                for states in parts(&states) {
                    let mut call = Call::new(PAIRS_PER_CALL);
                    call.count(&keys, resource);
                    call.settled_count(settlement.count);
                    for (user_id, state) in states {
                        call.arg(&user_id.key());
                        call.state(**state);
                    }
                    counts.push(call);
                }
            }
            self.run("settle_count", now, counts).await.map(drop)
        })
    }

    fn forget<'a>(&'a self, events: &'a [(Pair, Version)], now: Version) -> CacheFuture<'a, ()> {
        Box::pin(async move {
            let keys = self.keys()?;
            let users = of_users(&keys, events, |call, (pair, version)| {
                call.arg(&pair.resource.key());
                call.arg(&Digits(*version));
            });
            let counts = of_counts(&keys, events, |call, (pair, version)| {
                call.arg(&pair.user_id.key());
                call.arg(&Digits(*version));
            });
            for (verb, calls) in [("forget_in_user", users), ("forget_in_count", counts)] {
                let calls = calls.into_iter().map(|placed| placed.call);
                self.run(verb, now, calls).await?;
            }
            Ok(())
        })
    }

    fn open<'a>(
        &'a self,
        users: &'a [UserId],
        resources: &'a [Resource],
    ) -> CacheFuture<'a, Opened> {
        Box::pin(async move {
            let keys = self.keys()?;
            let user = |user_id: &UserId| {
                let mut call = Call::new(1);
                call.arg(&1);
                call.user(&keys, user_id);
                call
            };
            let count = |resource: &Resource| {
                let mut call = Call::new(1);
                call.arg(&0);
                call.count(&keys, resource);
                call
            };
            let calls = users.iter().map(user);
            let calls = placed(calls.chain(resources.iter().map(count)));
            let size = users.len() + resources.len();
            let answers = self.ask("open", Version::NEVER, calls, size).await?;
            redis_entry::opened(&answers, users.len())
        })
    }

    fn fill_and_apply<'a>(&'a self, filling: &'a Filling, now: Version) -> CacheFuture<'a, Filled> {
        Box::pin(async move {
            let (keys, users, counts) = (self.keys()?, &filling.users, &filling.counts);
            let user = |filling: &UserFilling| {
                let mut call = Call::new(filling.rows.len());
                call.arg(&1);
                call.arg(&0);
                call.user_filling(&keys, filling);
                call
            };
            let count = |filling: &CountFilling| {
                let mut call = Call::new(2);
                call.arg(&0);
                call.arg(&1);
                call.count_filling(&keys, filling);
                call
            };
            let calls = placed(users.iter().map(user).chain(counts.iter().map(count)));
            let size = users.len() + counts.len();
            let answers = self.ask("fill", now, calls, size).await?;
            let taken: Vec<bool> = answers.iter().map(|text| text == "1").collect();
            let (users, counts) = taken.split_at(users.len());
            let mut filled = Filled {
                users: users.to_vec(),
                counts: counts.to_vec(),
                applied: vec![None; filling.events.len()],
            };
            let refused = filling.refused_by(&filled);
            let events = filling.events.iter().enumerate();
            let events = events.filter(|(_, (pair, _))| !refused.has(pair));
            let (places, events): (Vec<_>, Vec<_>) =
                events.map(|(place, event)| (place, event.clone())).unzip();
            for (place, applied) in places.into_iter().zip(self.apply(&events, now).await?) {
                filled.applied[place] = Some(applied);
            }
            Ok(filled)
        })
    }

    fn overdue<'a>(
        &'a self,
        resource: &'a Resource,
        before: Version,
        limit: usize,
        now: Version,
    ) -> CacheFuture<'a, Vec<(UserId, Version)>> {
        Box::pin(async move {
            let call = Call::overdue(&self.keys()?, resource, before, limit);
            let reply = self.run("overdue", now, [call]).await?.pop();
            redis_entry::overdue(reply)
        })
    }

    fn drop_entries<'a>(&'a self, entries: &'a [EntryId]) -> CacheFuture<'a, ()> {
        Box::pin(async move {
            let keys = self.keys()?;
            let mut dropped = Vec::with_capacity(entries.len() * 2);
            for entry in entries {
                match entry {
                    EntryId::User(user_id) => dropped.push(keys.user(user_id).to_string()),
                    // One command for each key: a slot that moves may have only one of them.
                    EntryId::Count(resource) => {
                        dropped.extend(
                            [keys.count(resource), keys.events(resource)]
                                .map(|key| key.to_string()),
                        );
                    }
                }
            }
            self.cluster.unlink(&dropped).await
        })
    }

    /// The cursor is the next slot.
    fn scan(&self, cursor: u64, count: usize) -> CacheFuture<'_, Scanned> {
        Box::pin(async move {
            let keys = self.keys()?;
            let slot = Slot::try_from(cursor).unwrap_or_default();
            let (found, next) = self.cluster.keys_from(slot, count).await?;
            Ok(Scanned {
                entries: found.iter().filter_map(|key| keys.entry(key)).collect(),
                cursor: next.map(u64::from),
            })
        })
    }

    fn inspect<'a>(&'a self, entries: &'a [EntryId]) -> CacheFuture<'a, Vec<Option<EntryView>>> {
        Box::pin(async move {
            let keys = self.keys()?;
            let command = |entry: &EntryId| match entry {
                EntryId::User(user_id) => get(keys.user(user_id)).into(),
                EntryId::Count(resource) => {
                    let mut call = Call::new(1);
                    call.count(&keys, resource);
                    let show = self.caller.command("show", Version::NEVER, &call);
                    Routed::new(call.first_key(), show)
                }
            };
            let commands = entries.iter().map(command).collect();
            let replies = self.cluster.run(commands, Purpose::Use).await?;
            let view = |(entry, reply): (&EntryId, Value)| match entry {
                EntryId::User(_) => {
                    let text: Option<String> = redis_entry::value(reply)?;
                    Ok(text.map(|text| EntryView::User(redis_entry::user_view(&text))))
                }
                EntryId::Count(_) => {
                    let (text, events): (Option<String>, Vec<(String, f64)>) =
                        redis_entry::value(reply)?;
                    let view = |text: String| redis_entry::count_view(&text, &events);
                    Ok(text.map(|text| EntryView::Count(view(text))))
                }
            };
            entries.iter().zip(replies).map(view).collect()
        })
    }

    fn name<'a>(
        &'a self,
        entries: &'a [EntryId],
        subject: &'a DataSubject,
    ) -> CacheFuture<'a, Vec<bool>> {
        Box::pin(async move {
            let keys = self.keys()?;
            let commands = searches(&keys, entries, subject)
                .map(Routed::from)
                .collect();
            let replies = self.cluster.run(commands, Purpose::Upkeep).await?;
            found(entries, subject, replies)
        })
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn clear(&self) -> CacheFuture<'_, ()> {
        Box::pin(async move {
            let keys = self.keys()?;
            self.cluster.clear(|key| keys.is_entry(key)).await
        })
    }

    fn restarted(&self) -> CacheFuture<'_, bool> {
        Box::pin(self.cluster.restarted())
    }

    fn drop_stale(&self) -> CacheFuture<'_, Option<usize>> {
        Box::pin(async move {
            let keys = self.keys()?;
            let dropped = self.cluster.drop_stale(|key| keys.is_entry(key)).await?;
            Ok(Some(dropped))
        })
    }

    fn last_beat<'a>(&'a self, deployment: &'a Deployment) -> CacheFuture<'a, Option<i64>> {
        Box::pin(async move {
            let commands = vec![redis_read::beat(deployment).into()];
            let reply = self.cluster.run(commands, Purpose::Use).await?.pop();
            redis_entry::value(reply.unwrap_or(Value::Nil))
        })
    }

    fn note_beat<'a>(
        &'a self,
        deployment: &'a Deployment,
        beat: i64,
    ) -> CacheFuture<'a, Option<String>> {
        Box::pin(async move {
            let commands = redis_read::note_beat(deployment, beat);
            let commands = commands.map(Routed::from);
            let reply = self.cluster.run(commands.into(), Purpose::Use).await?.pop();
            let previous: Option<String> = redis_entry::value(reply.unwrap_or(Value::Nil))?;
            Ok(previous.filter(|previous| *previous != deployment.id.to_string()))
        })
    }

    fn masters(&self) -> Vec<MasterState> {
        self.cluster.masters()
    }

    fn kind(&self) -> &'static str {
        "Redis Cluster"
    }
}
