//! The cache on a Redis Cluster. A call of the script changes one entry, because a cluster runs no script on the keys of two
//! slots. So an event first changes its user entry, then its count entry.

mod calls;
mod masters;
mod routing;
mod slots;
mod taken;
mod upkeep;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use redis::Value;

use super::answer;
use super::call::{Call, Caller};
use super::entry::{count_view, user_view};
use super::keys::Keys;
use super::read::{self, found, get, readings, searches};
use crate::cache::{
    Cache, CacheError, CacheFuture, Filled, Filling, MasterState, Opened, OpenedPair, Scanned,
    Settlement,
};
use crate::config::RedisOptions;
use crate::domain::{
    Applied, CurrentDeployment, DataSubject, Deployment, EntryId, EntryView, Pair, Reading,
    Resource, UserId, Version, VersionedState, overdue_before,
};
use calls::{
    Placed, fill_calls, forget_in_count_calls, forget_in_user_calls, join_calls, leave_calls,
    open_calls, settle_count_calls, settle_user_calls, user_states,
};
use routing::{Purpose, RedisCluster, Routed};
use slots::Slot;
use taken::TakenEvent;

/// The cache on a cluster of Redis 6.2 or newer.
pub struct RedisClusterCache {
    cluster: RedisCluster,
    deployment: CurrentDeployment,
    caller: Caller,
}

/// An apply that takes longer looks whether its events were settled before they joined their counts. A faster one ends before
/// an event can be durable, recorded and settled.
const SLOW: Duration = Duration::from_millis(1);

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
            for (place, text) in places.into_iter().zip(answer::texts(reply)?) {
                answers[place] = text;
            }
        }
        Ok(answers)
    }

    /// Runs calls of one verb that answers nothing.
    async fn tell(
        &self,
        verb: &'static str,
        now: Version,
        calls: Vec<Placed>,
    ) -> Result<(), CacheError> {
        let calls = calls.into_iter().map(|placed| placed.call);
        self.run(verb, now, calls).await.map(drop)
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
        let calls = user_states(keys, joined);
        let settled = self.ask("settled", now, calls, joined.len()).await?;
        let settled: Vec<(Pair, String)> = joined
            .iter()
            .zip(settled)
            .filter(|(_, state)| !state.is_empty())
            .map(|((pair, _), state)| (pair.clone(), state))
            .collect();
        let calls = leave_calls(keys, &settled);
        self.tell("leave_count", now, calls).await
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
                .map(|key| get(key.text()).into())
                .collect();
            let replies = self.cluster.run(commands, Purpose::Use).await?;
            let texts = replies.into_iter().map(answer::value);
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
            let calls = user_states(&keys, events);
            let taken = self.ask("apply_to_user", now, calls, events.len()).await?;
            let taken = taken.iter().map(|answer| TakenEvent::parse(answer));
            let taken: Vec<TakenEvent> = taken.collect::<Result<_, _>>()?;
            let calls = join_calls(&keys, events, &taken);
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
            // User entries first: an event that is applied afterwards finds its pair settled, and joins no count.
            let users = settle_user_calls(&keys, settlements);
            self.tell("settle_user", now, users).await?;
            let counts = settle_count_calls(&keys, settlements);
            self.run("settle_count", now, counts).await.map(drop)
        })
    }

    fn forget<'a>(&'a self, events: &'a [(Pair, Version)], now: Version) -> CacheFuture<'a, ()> {
        Box::pin(async move {
            let keys = self.keys()?;
            let users = forget_in_user_calls(&keys, events);
            self.tell("forget_in_user", now, users).await?;
            let counts = forget_in_count_calls(&keys, events);
            self.tell("forget_in_count", now, counts).await
        })
    }

    fn open<'a>(
        &'a self,
        users: &'a [UserId],
        resources: &'a [Resource],
    ) -> CacheFuture<'a, Opened> {
        Box::pin(async move {
            let calls = open_calls(&self.keys()?, users, resources);
            let size = users.len() + resources.len();
            let answers = self.ask("open", Version::NEVER, calls, size).await?;
            answer::opened(&answers, users.len())
        })
    }

    fn fill_and_apply<'a>(&'a self, filling: &'a Filling, now: Version) -> CacheFuture<'a, Filled> {
        Box::pin(async move {
            let calls = fill_calls(&self.keys()?, filling);
            let size = filling.users.len() + filling.counts.len();
            let answers = self.ask("fill", now, calls, size).await?;
            let (users, counts) = answers.split_at(filling.users.len());
            let mut filled = Filled {
                users: users.iter().map(|text| text == "1").collect(),
                counts: counts.iter().map(|text| answer::count_fill(text)).collect(),
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
            answer::overdue(reply)
        })
    }

    fn drop_entries<'a>(&'a self, entries: &'a [EntryId]) -> CacheFuture<'a, ()> {
        Box::pin(async move {
            let keys = self.keys()?;
            // One command for each key: a slot that moves may have only one of them.
            let dropped = entries.iter().flat_map(|entry| keys.of_entry(entry));
            let dropped: Vec<String> = dropped.map(|key| key.text()).collect();
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
                EntryId::User(user_id) => get(keys.user(user_id).text()).into(),
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
                    let text: Option<String> = answer::value(reply)?;
                    Ok(text.map(|text| EntryView::User(user_view(&text))))
                }
                EntryId::Count(_) => {
                    let (text, events): (Option<String>, Vec<(String, f64)>) =
                        answer::value(reply)?;
                    let view = |text: String| count_view(&text, &events);
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
            let commands = vec![read::beat(deployment).into()];
            let reply = self.cluster.run(commands, Purpose::Use).await?.pop();
            answer::value(reply.unwrap_or(Value::Nil))
        })
    }

    fn note_beat<'a>(
        &'a self,
        deployment: &'a Deployment,
        beat: i64,
    ) -> CacheFuture<'a, Option<String>> {
        Box::pin(async move {
            let commands = read::note_beat(deployment, beat);
            let commands = commands.map(Routed::from);
            let reply = self.cluster.run(commands.into(), Purpose::Use).await?.pop();
            let previous: Option<String> = answer::value(reply.unwrap_or(Value::Nil))?;
            Ok(read::other_deployment(deployment, previous))
        })
    }

    fn masters(&self) -> Vec<MasterState> {
        self.cluster.masters()
    }

    fn kind(&self) -> &'static str {
        "Redis Cluster"
    }
}
