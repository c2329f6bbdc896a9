//! The cache on Redis: one hash for each resource. Only the atomic script `rule.lua` changes it.
//!
//! An entry has one key, so it is evicted, expires and moves between cluster nodes as a whole.

use std::collections::BTreeMap;
use std::time::Duration;

use redis::{Cmd, Pipeline, Script, Value};

use super::redis_connection::RedisConnection;
use super::redis_entry::{self, DEPLOYMENT_KEY, Field, Keys, PREFIX, beat_key, count_text};
use super::{Cache, CacheError, CacheFuture, Filling, Incarnation, Scanned, Settlement};
use crate::config::RedisOptions;
use crate::domain::{
    Applied, CurrentDeployment, Deployment, EntryView, Pair, Reading, Resource, Version,
    VersionedState,
};

/// The cache on Redis 6.2 or newer.
pub struct RedisCache {
    server: RedisConnection,
    deployment: CurrentDeployment,
    script: Script,
    time_to_live: String,
    pairs_per_resource: String,
}

/// The script, which implements the rule of `domain/entry.rs`.
const RULE: &str = include_str!("rule.lua");

/// The number of pairs in one call of the script: Lua passes at most a few thousand values at once.
const PAIRS_PER_CALL: usize = 1_000;

/// The number of keys that a clean-up scans in one round trip.
const SCAN_COUNT: usize = 1_000;

/// How long a heartbeat is remembered after the last one.
const BEAT_KEPT_FOR: Duration = Duration::from_secs(30 * 86_400);

impl RedisCache {
    /// Creates a cache that connects at its first use and reconnects after failures. Its keys are named after the deployment.
    ///
    /// # Errors
    /// If the URL is invalid.
    pub fn new(options: &RedisOptions, deployment: CurrentDeployment) -> Result<Self, CacheError> {
        Ok(Self {
            deployment,
            server: RedisConnection::new(options, format!("{PREFIX}{{probe}}"))?,
            script: Script::new(RULE),
            time_to_live: options.time_to_live.as_secs().max(1).to_string(),
            pairs_per_resource: options.pairs_per_resource.to_string(),
        })
    }

    /// Returns the keys of the current deployment.
    fn keys(&self) -> Result<Keys, CacheError> {
        self.deployment.get().map(Keys).ok_or(CacheError::Unnamed)
    }

    /// Creates a call of the script.
    fn call(&self, keys: &Keys, resource: &Resource, verb: &'static str) -> Cmd {
        let mut call = redis::cmd("EVALSHA");
        call.arg(self.script.get_hash())
            .arg(1)
            .arg(keys.entry(resource))
            .arg(verb)
            .arg(rand::random::<u64>())
            .arg(&self.time_to_live)
            .arg(&self.pairs_per_resource);
        call
    }

    async fn run(&self, calls: Pipeline) -> Result<Vec<Value>, CacheError> {
        self.server.call_script(&calls, RULE).await
    }

    /// Returns keys of entries, and the next cursor; zero at the end.
    async fn scan_keys(
        &self,
        keys: &Keys,
        cursor: u64,
        count: usize,
    ) -> Result<(u64, Vec<String>), CacheError> {
        let mut scan = redis::cmd("SCAN");
        scan.arg(cursor)
            .arg("MATCH")
            .arg(keys.entries())
            .arg("COUNT")
            .arg(count);
        self.server.query_one(&scan).await
    }
}

impl Cache for RedisCache {
    fn ping(&self) -> CacheFuture<'_, ()> {
        Box::pin(self.server.ping())
    }

    fn read<'a>(&'a self, pairs: &'a [Pair]) -> CacheFuture<'a, Vec<Reading>> {
        Box::pin(async move {
            let keys = self.keys()?;
            let mut reads = Pipeline::with_capacity(pairs.len());
            for pair in pairs {
                reads
                    .cmd("HMGET")
                    .arg(keys.entry(&pair.resource))
                    .arg(&["n", "c", "f", "u"])
                    .arg(Field(&pair.user_id));
            }
            let rows = self.server.query(&reads).await?;
            Ok(rows.iter().map(redis_entry::reading).collect())
        })
    }

    fn counts<'a>(&'a self, resources: &'a [Resource]) -> CacheFuture<'a, Vec<Option<i64>>> {
        Box::pin(async move {
            let keys = self.keys()?;
            let mut reads = Pipeline::with_capacity(resources.len());
            for resource in resources {
                reads
                    .cmd("HMGET")
                    .arg(keys.entry(resource))
                    .arg(&["n", "f", "u"]);
            }
            let rows: Vec<[Option<String>; 3]> = self.server.query(&reads).await?;
            let count = |[count, in_flight, unknown]: &[Option<String>; 3]| {
                redis_entry::like_count(count, in_flight, unknown)
            };
            Ok(rows.iter().map(count).collect())
        })
    }

    fn apply<'a>(&'a self, events: &'a [(Pair, VersionedState)]) -> CacheFuture<'a, Vec<Applied>> {
        Box::pin(async move {
            let keys = self.keys()?;
            let mut calls = Pipeline::with_capacity(events.len());
            for (pair, state) in events {
                let mut call = self.call(&keys, &pair.resource, "apply");
                call.arg(Field(&pair.user_id))
                    .arg(state.version.0)
                    .arg(state.weight());
                calls.add_command(call);
            }
            let replies = self.run(calls).await?;
            replies.into_iter().map(redis_entry::applied).collect()
        })
    }

    fn settle<'a>(
        &'a self,
        settlements: &'a BTreeMap<Resource, Settlement>,
    ) -> CacheFuture<'a, ()> {
        Box::pin(async move {
            let keys = self.keys()?;
            let mut calls = Pipeline::with_capacity(settlements.len());
            for (resource, settlement) in settlements {
                let count = settlement.count.map(count_text).unwrap_or_default();
                let states: Vec<_> = settlement.states.iter().collect();
                // At least one call, which settles the count even without pairs.
                let calls_needed = states.len().div_ceil(PAIRS_PER_CALL).max(1);
                for part in 0..calls_needed {
                    let mut call = self.call(&keys, resource, "settle");
                    call.arg(&count);
                    for (user_id, state) in states
                        .iter()
                        .skip(part * PAIRS_PER_CALL)
                        .take(PAIRS_PER_CALL)
                    {
                        call.arg(Field(user_id))
                            .arg(state.version.0)
                            .arg(state.weight());
                    }
                    calls.add_command(call);
                }
            }
            self.run(calls).await.map(drop)
        })
    }

    fn forget<'a>(&'a self, events: &'a [(Pair, Version)]) -> CacheFuture<'a, ()> {
        Box::pin(async move {
            let keys = self.keys()?;
            let mut calls = Pipeline::with_capacity(events.len());
            for (pair, version) in events {
                let mut call = self.call(&keys, &pair.resource, "forget");
                call.arg(Field(&pair.user_id)).arg(version.0);
                calls.add_command(call);
            }
            self.run(calls).await.map(drop)
        })
    }

    fn open<'a>(&'a self, resources: &'a [Resource]) -> CacheFuture<'a, Vec<Incarnation>> {
        Box::pin(async move {
            let keys = self.keys()?;
            let mut calls = Pipeline::with_capacity(resources.len());
            for resource in resources {
                calls.add_command(self.call(&keys, resource, "open"));
            }
            let replies = self.run(calls).await?;
            replies.into_iter().map(redis_entry::opened).collect()
        })
    }

    fn fill<'a>(&'a self, fillings: &'a [Filling]) -> CacheFuture<'a, Vec<Option<Reading>>> {
        Box::pin(async move {
            let keys = self.keys()?;
            let mut calls = Pipeline::with_capacity(fillings.len());
            for filling in fillings {
                let mut call = self.call(&keys, &filling.resource, "fill");
                call.arg(filling.incarnation).arg(count_text(filling.count));
                if let Some((user_id, state)) = &filling.state {
                    call.arg(Field(user_id))
                        .arg(state.version.0)
                        .arg(state.weight());
                }
                calls.add_command(call);
            }
            let replies = self.run(calls).await?;
            replies.into_iter().map(redis_entry::filled).collect()
        })
    }

    fn drop_entries<'a>(&'a self, resources: &'a [Resource]) -> CacheFuture<'a, ()> {
        Box::pin(async move {
            let keys = self.keys()?;
            let mut calls = Pipeline::with_capacity(resources.len());
            for resource in resources {
                calls.cmd("UNLINK").arg(keys.entry(resource));
            }
            self.server.query::<u64>(&calls).await.map(drop)
        })
    }

    fn scan(&self, cursor: u64, count: usize) -> CacheFuture<'_, Scanned> {
        Box::pin(async move {
            let keys = self.keys()?;
            let (next, found) = self.scan_keys(&keys, cursor, count).await?;
            Ok(Scanned {
                resources: found.iter().filter_map(|key| keys.resource(key)).collect(),
                cursor: (next != 0).then_some(next),
            })
        })
    }

    fn inspect<'a>(&'a self, resources: &'a [Resource]) -> CacheFuture<'a, Vec<Option<EntryView>>> {
        Box::pin(async move {
            let keys = self.keys()?;
            let mut reads = Pipeline::with_capacity(resources.len());
            for resource in resources {
                reads.cmd("HGETALL").arg(keys.entry(resource));
            }
            let rows: Vec<Vec<(String, String)>> = self.server.query(&reads).await?;
            let view = |fields: &Vec<_>| (!fields.is_empty()).then(|| redis_entry::view(fields));
            Ok(rows.iter().map(view).collect())
        })
    }

    fn holds<'a>(&'a self, pairs: &'a [Pair]) -> CacheFuture<'a, Vec<bool>> {
        Box::pin(async move {
            let keys = self.keys()?;
            let mut reads = Pipeline::with_capacity(pairs.len());
            for pair in pairs {
                reads
                    .cmd("HEXISTS")
                    .arg(keys.entry(&pair.resource))
                    .arg(Field(&pair.user_id));
            }
            self.server.query(&reads).await
        })
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn clear(&self) -> CacheFuture<'_, ()> {
        Box::pin(async move {
            let (keys, mut cursor) = (self.keys()?, 0);
            loop {
                let (next, found) = self.scan_keys(&keys, cursor, SCAN_COUNT).await?;
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
        Box::pin(self.server.restarted())
    }

    fn last_beat<'a>(&'a self, deployment: &'a Deployment) -> CacheFuture<'a, Option<i64>> {
        Box::pin(async move {
            let mut get = redis::cmd("GET");
            get.arg(beat_key(deployment));
            self.server.query_one(&get).await
        })
    }

    fn note_beat<'a>(
        &'a self,
        deployment: &'a Deployment,
        beat: i64,
    ) -> CacheFuture<'a, Option<String>> {
        Box::pin(async move {
            let mut set = redis::cmd("SET");
            set.arg(beat_key(deployment))
                .arg(beat)
                .arg("EX")
                .arg(BEAT_KEPT_FOR.as_secs());
            let _: String = self.server.query_one(&set).await?;
            let (id, mut claim) = (deployment.id.to_string(), redis::cmd("SET"));
            claim.arg(DEPLOYMENT_KEY).arg(&id).arg("GET");
            let previous: Option<String> = self.server.query_one(&claim).await?;
            Ok(previous.filter(|previous| *previous != id))
        })
    }

    fn kind(&self) -> &'static str {
        "Redis"
    }
}
