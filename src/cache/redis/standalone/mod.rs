//! The cache on one Redis server. A call of the script changes both entries of many pairs.

mod calls;
mod fill;

use std::collections::BTreeMap;

use redis::{Pipeline, Value};

use super::answer;
use super::call::{Call, Caller, RULE};
use super::connection::{RedisConnection, client};
use super::entry::{count_view, user_view};
use super::keys::Keys;
use super::read::{self, found, readings, searches};
use super::text::TEXT;
use crate::cache::{
    Cache, CacheError, CacheFuture, Filled, Filling, Opened, OpenedPair, Scanned, Settlement,
};
use crate::config::RedisOptions;
use crate::domain::{
    Applied, CountFill, CurrentDeployment, DataSubject, Deployment, EntryId, EntryView, Pair,
    Reading, Resource, UserId, Version, VersionedState, overdue_before,
};
use calls::{apply_calls, forget_calls, open_calls, settle_calls};
use fill::{Item, fill_calls};

/// The cache on Redis 6.2 or newer.
pub struct RedisCache {
    server: RedisConnection,
    deployment: CurrentDeployment,
    caller: Caller,
}

/// The key that a probe writes.
const PROBE_KEY: &str = "likewise:{probe}";

/// The number of keys that a clean-up scans in one round trip.
const SCAN_COUNT: usize = 1_000;

impl RedisCache {
    /// Creates a cache that connects at its first use and reconnects after failures. Its keys are named after the deployment.
    ///
    /// # Errors
    /// If the URL is invalid.
    pub fn new(options: &RedisOptions, deployment: CurrentDeployment) -> Result<Self, CacheError> {
        Ok(Self {
            deployment,
            server: RedisConnection::new(client(&options.url, options)?, options.timeout),
            caller: Caller::new(options.time_to_live.as_secs(), options.pairs_per_user),
        })
    }

    /// Returns the keys of the current deployment.
    fn keys(&self) -> Result<Keys, CacheError> {
        self.deployment.get().map(Keys).ok_or(CacheError::Unnamed)
    }

    /// Runs calls of one verb in one round trip.
    async fn run(
        &self,
        verb: &'static str,
        now: Version,
        calls: impl IntoIterator<Item = Call>,
    ) -> Result<Vec<Value>, CacheError> {
        let calls = calls.into_iter().map(|call| (verb, call));
        self.run_verbs(now, calls).await
    }

    /// Runs calls, each of a verb, in one round trip.
    async fn run_verbs(
        &self,
        now: Version,
        calls: impl IntoIterator<Item = (&'static str, Call)>,
    ) -> Result<Vec<Value>, CacheError> {
        let mut commands = Pipeline::new();
        for (verb, call) in calls {
            commands.add_command(self.caller.command(verb, now, &call));
        }
        self.server.call_script(&commands, RULE).await
    }

    /// Runs calls of one verb that answer a text for each item.
    async fn ask(
        &self,
        verb: &'static str,
        now: Version,
        calls: impl IntoIterator<Item = Call>,
    ) -> Result<Vec<String>, CacheError> {
        let mut answers = Vec::new();
        for reply in self.run(verb, now, calls).await? {
            answers.extend(answer::texts(reply)?);
        }
        Ok(answers)
    }

    /// Returns keys that match a pattern, and the next cursor; zero at the end.
    async fn scan_keys(
        &self,
        pattern: &str,
        cursor: u64,
        count: usize,
    ) -> Result<(u64, Vec<String>), CacheError> {
        let mut scan = redis::cmd("SCAN");
        scan.arg(cursor)
            .arg("MATCH")
            .arg(pattern)
            .arg("COUNT")
            .arg(count);
        self.server.query_one(&scan).await
    }
}

impl Cache for RedisCache {
    fn ping(&self) -> CacheFuture<'_, ()> {
        Box::pin(self.server.ping(PROBE_KEY))
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
            let (keys, before) = (self.keys()?, overdue_before(now));
            let count = 2 + resources.len();
            let mut read = redis::Cmd::with_capacity(count, count * TEXT);
            read.arg("MGET");
            if let Some(user_id) = user_id {
                read.arg(keys.user(user_id));
            }
            for resource in resources {
                read.arg(keys.count(resource));
            }
            let texts: Vec<Option<String>> = self.server.query_one(&read).await?;
            let (user, counts) = texts.split_at(usize::from(user_id.is_some()));
            let user = user.first().and_then(Option::as_deref);
            Ok(readings(user, counts, resources, before))
        })
    }

    fn apply_and_open<'a>(
        &'a self,
        events: &'a [(Pair, VersionedState)],
        now: Version,
    ) -> CacheFuture<'a, Vec<(Applied, Option<OpenedPair>)>> {
        Box::pin(async move {
            let calls = apply_calls(&self.keys()?, events);
            let answers = self.ask("apply", now, calls).await?;
            let answers = answers.iter().map(|answer| answer::applied(answer));
            answers.collect()
        })
    }

    fn settle<'a>(
        &'a self,
        settlements: &'a BTreeMap<Resource, Settlement>,
        now: Version,
    ) -> CacheFuture<'a, ()> {
        Box::pin(async move {
            let calls = settle_calls(&self.keys()?, settlements);
            self.run_verbs(now, calls).await.map(drop)
        })
    }

    fn forget<'a>(&'a self, events: &'a [(Pair, Version)], now: Version) -> CacheFuture<'a, ()> {
        Box::pin(async move {
            let calls = forget_calls(&self.keys()?, events);
            self.run("forget", now, calls).await.map(drop)
        })
    }

    fn open<'a>(
        &'a self,
        users: &'a [UserId],
        resources: &'a [Resource],
    ) -> CacheFuture<'a, Opened> {
        Box::pin(async move {
            let calls = open_calls(&self.keys()?, users, resources);
            let answers = self.ask("open", Version::NEVER, calls).await?;
            answer::opened(&answers, users.len())
        })
    }

    fn fill_and_apply<'a>(&'a self, filling: &'a Filling, now: Version) -> CacheFuture<'a, Filled> {
        Box::pin(async move {
            let calls = fill_calls(&self.keys()?, filling);
            let (calls, items): (Vec<_>, Vec<_>) =
                calls.into_iter().map(|one| (one.call, one.items)).unzip();
            let replies = self.run("fill", now, calls).await?;
            let mut filled = Filled {
                users: vec![false; filling.users.len()],
                counts: vec![CountFill::Refused; filling.counts.len()],
                applied: vec![None; filling.events.len()],
            };
            for (reply, items) in replies.into_iter().zip(items) {
                for (answer, item) in answer::texts(reply)?.iter().zip(items) {
                    match item {
                        Item::User(place) => filled.users[place] = answer == "1",
                        Item::Count(place) => filled.counts[place] = answer::count_fill(answer),
                        Item::Event(place) => {
                            filled.applied[place] = answer::applied_after_fill(answer)?;
                        }
                    }
                }
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
            let mut commands = Pipeline::with_capacity(entries.len());
            for entry in entries {
                let unlink = commands.cmd("UNLINK");
                for key in keys.of_entry(entry) {
                    unlink.arg(key);
                }
            }
            self.server.query::<u64>(&commands).await.map(drop)
        })
    }

    fn scan(&self, cursor: u64, count: usize) -> CacheFuture<'_, Scanned> {
        Box::pin(async move {
            let keys = self.keys()?;
            let (next, found) = self.scan_keys(&keys.entries(), cursor, count).await?;
            Ok(Scanned {
                entries: found.iter().filter_map(|key| keys.entry(key)).collect(),
                cursor: (next != 0).then_some(next),
            })
        })
    }

    fn inspect<'a>(&'a self, entries: &'a [EntryId]) -> CacheFuture<'a, Vec<Option<EntryView>>> {
        Box::pin(async move {
            let keys = self.keys()?;
            // Both parts of a count entry are read in one transaction, because the audit compares them.
            let mut commands = Pipeline::new();
            commands.atomic();
            for entry in entries {
                match entry {
                    EntryId::User(user_id) => {
                        commands.cmd("GET").arg(keys.user(user_id));
                    }
                    EntryId::Count(resource) => {
                        commands.cmd("GET").arg(keys.count(resource));
                        let events = commands.cmd("ZRANGE").arg(keys.events(resource));
                        events.arg(0).arg(-1).arg("WITHSCORES");
                    }
                }
            }
            let mut replies = self.server.query::<Value>(&commands).await?.into_iter();
            let mut next = || replies.next().unwrap_or(Value::Nil);
            let mut views = Vec::with_capacity(entries.len());
            for entry in entries {
                let text: Option<String> = answer::value(next())?;
                views.push(match entry {
                    EntryId::User(_) => text.map(|text| EntryView::User(user_view(&text))),
                    EntryId::Count(_) => {
                        let events: Vec<(String, f64)> = answer::value(next())?;
                        text.map(|text| EntryView::Count(count_view(&text, &events)))
                    }
                });
            }
            Ok(views)
        })
    }

    fn name<'a>(
        &'a self,
        entries: &'a [EntryId],
        subject: &'a DataSubject,
    ) -> CacheFuture<'a, Vec<bool>> {
        Box::pin(async move {
            let keys = self.keys()?;
            let mut commands = Pipeline::with_capacity(entries.len());
            for (_, command) in searches(&keys, entries, subject) {
                commands.add_command(command);
            }
            let replies = self.server.query::<Value>(&commands).await?;
            found(entries, subject, replies)
        })
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn clear(&self) -> CacheFuture<'_, ()> {
        Box::pin(async move {
            let (keys, mut cursor) = (self.keys()?, 0);
            loop {
                let (next, found) = self.scan_keys(&keys.all(), cursor, SCAN_COUNT).await?;
                // One command for each key: a cluster refuses keys of several slots.
                let mut unlink = Pipeline::with_capacity(found.len());
                for key in found {
                    unlink.cmd("UNLINK").arg(key);
                }
                self.server.query::<u64>(&unlink).await?;
                if next == 0 {
                    return Ok(());
                }
                cursor = next;
            }
        })
    }

    fn restarted(&self) -> CacheFuture<'_, bool> {
        Box::pin(self.server.restarted(PROBE_KEY))
    }

    fn last_beat<'a>(&'a self, deployment: &'a Deployment) -> CacheFuture<'a, Option<i64>> {
        Box::pin(async move {
            let (_, get) = read::beat(deployment);
            self.server.query_one(&get).await
        })
    }

    fn note_beat<'a>(
        &'a self,
        deployment: &'a Deployment,
        beat: i64,
    ) -> CacheFuture<'a, Option<String>> {
        Box::pin(async move {
            let [(_, set), (_, claim)] = read::note_beat(deployment, beat);
            let _: String = self.server.query_one(&set).await?;
            let previous: Option<String> = self.server.query_one(&claim).await?;
            Ok(read::other_deployment(deployment, previous))
        })
    }

    fn kind(&self) -> &'static str {
        "Redis"
    }
}
