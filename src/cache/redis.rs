//! The cache on Redis: one hash for each resource. Only the atomic script `rule.lua` changes it.
//!
//! An entry has one key, so it is evicted, expires and moves between cluster nodes as a whole.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{Client, Cmd, ErrorKind, Pipeline, RedisError, Script, ServerErrorKind, Value};

use super::redis_entry::{self, count_text};
use super::{Cache, CacheError, CacheFuture, Filling, Incarnation, Scanned, Settlement};
use crate::config::RedisOptions;
use crate::domain::{Applied, EntryView, Pair, Reading, Resource, Version, VersionedState};

/// The cache on Redis 6.2 or newer.
pub struct RedisCache {
    client: Client,
    config: ConnectionManagerConfig,
    /// Replaced when the server is read-only: a new connection resolves the name again.
    manager: Mutex<ConnectionManager>,
    script: Script,
    time_to_live: String,
    pairs_per_resource: String,
    /// The last known `run_id` of the server: a server with a different one may have stale data.
    run: Mutex<Option<String>>,
    /// Set when a call found the server unreachable, so that not every call waits for the time-out, or read-only, so that its
    /// data may be stale. [`Cache::restarted`], which is polled, clears it after a successful write.
    away: AtomicBool,
}

/// The prefix of keys. The braces place a resource's keys on one node of a cluster.
const PREFIX: &str = "likewise:";

/// The number of pairs in one call of the script: Lua passes at most a few thousand values at once.
const PAIRS_PER_CALL: usize = 1_000;

/// The number of keys that a clean-up scans in one round trip.
const SCAN_COUNT: usize = 1_000;

impl RedisCache {
    /// Creates a cache that connects at its first use and reconnects after failures.
    ///
    /// # Errors
    /// If the URL is invalid.
    pub fn new(options: &RedisOptions) -> Result<Self, CacheError> {
        let unusable =
            |error: RedisError| CacheError::Unavailable(format!("LIKEWISE_REDIS_URL: {error}"));
        let client = Client::open(options.url.as_str()).map_err(unusable)?;
        let config = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(options.timeout))
            .set_response_timeout(Some(options.timeout))
            .set_number_of_retries(1)
            .set_min_delay(Duration::from_millis(50))
            .set_max_delay(Duration::from_millis(500));
        let manager = ConnectionManager::new_lazy_with_config(client.clone(), config.clone())
            .map_err(unusable)?;
        Ok(Self {
            client,
            config,
            manager: Mutex::new(manager),
            script: Script::new(include_str!("rule.lua")),
            time_to_live: options.time_to_live.as_secs().max(1).to_string(),
            pairs_per_resource: options.pairs_per_resource.to_string(),
            run: Mutex::default(),
            away: AtomicBool::new(false),
        })
    }

    /// Creates a call of the script.
    fn call(&self, resource: Resource, verb: &'static str) -> Cmd {
        let mut call = redis::cmd("EVALSHA");
        call.arg(self.script.get_hash())
            .arg(1)
            .arg(key(resource))
            .arg(verb)
            .arg(rand::random::<u64>())
            .arg(&self.time_to_live)
            .arg(&self.pairs_per_resource);
        call
    }

    /// Runs calls of the script in one round trip. A restarted server does not know the script; then no call has run, and all
    /// run again after the script is loaded.
    async fn run(&self, calls: Pipeline) -> Result<Vec<Value>, CacheError> {
        if calls.is_empty() {
            return Ok(Vec::new());
        }
        let mut connection = self.connection()?;
        let outcome = calls.query_async(&mut connection).await;
        let unknown = ErrorKind::Server(ServerErrorKind::NoScript);
        if !matches!(&outcome, Err(error) if error.kind() == unknown) {
            return self.heard(outcome);
        }
        let mut load = redis::cmd("SCRIPT");
        load.arg("LOAD").arg(include_str!("rule.lua"));
        let _: String = self.heard(load.query_async(&mut connection).await)?;
        self.heard(calls.query_async(&mut connection).await)
    }

    /// Returns the connection, unless the server is known to be down.
    fn connection(&self) -> Result<ConnectionManager, CacheError> {
        if self.away.load(Ordering::Relaxed) {
            return Err(CacheError::Away);
        }
        Ok(self.lock_manager().clone())
    }

    fn lock_manager(&self) -> MutexGuard<'_, ConnectionManager> {
        self.manager.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records that the server refuses writes. Its data may be stale, so it counts as restarted when it accepts writes again.
    fn demoted(&self) {
        self.away.store(true, Ordering::Relaxed);
        *self.known_run() = Some(String::new());
        let manager =
            ConnectionManager::new_lazy_with_config(self.client.clone(), self.config.clone());
        // The URL was valid before, so this cannot fail.
        if let Ok(manager) = manager {
            *self.lock_manager() = manager;
        }
    }

    /// Records that the server is down.
    fn heard<T>(&self, outcome: Result<T, RedisError>) -> Result<T, CacheError> {
        outcome.map_err(|error| {
            if is_read_only(&error) {
                self.demoted();
                return CacheError::ReadOnly(error.to_string());
            }
            if error.is_timeout() || error.is_io_error() || error.is_connection_dropped() {
                self.away.store(true, Ordering::Relaxed);
            }
            error.into()
        })
    }

    /// Removes every entry.
    async fn clear(&self) -> Result<(), CacheError> {
        let mut connection = self.connection()?;
        let mut cursor = 0;
        loop {
            let (next, keys) = self.scan_keys(cursor, SCAN_COUNT).await?;
            if !keys.is_empty() {
                // One command for each key: a cluster refuses keys of several slots.
                let mut unlink = Pipeline::with_capacity(keys.len());
                for key in keys {
                    unlink.cmd("UNLINK").arg(key);
                }
                let _: Vec<u64> = self.heard(unlink.query_async(&mut connection).await)?;
            }
            if next == 0 {
                return Ok(());
            }
            cursor = next;
        }
    }

    /// Returns keys of entries, and the next cursor; zero at the end.
    async fn scan_keys(&self, cursor: u64, count: usize) -> Result<(u64, Vec<String>), CacheError> {
        let mut scan = redis::cmd("SCAN");
        scan.arg(cursor)
            .arg("MATCH")
            .arg(format!("{PREFIX}*"))
            .arg("COUNT")
            .arg(count);
        let scanned = scan.query_async(&mut self.connection()?).await;
        self.heard(scanned)
    }

    /// Tries a write. Returns the `run_id` of the server.
    async fn current_run(&self) -> Result<String, CacheError> {
        let mut connection = self.lock_manager().clone();
        let mut probe = Pipeline::with_capacity(2);
        probe.add_command(write_probe()).ignore();
        probe.cmd("INFO").arg("server");
        let probed = probe.query_async(&mut connection).await;
        let (info,): (String,) = self.heard(probed)?;
        self.away.store(false, Ordering::Relaxed);
        let run = info.lines().find_map(|line| line.strip_prefix("run_id:"));
        run.map(|run| run.trim().to_owned())
            .ok_or_else(|| CacheError::Unavailable("the server does not name its run".into()))
    }

    fn known_run(&self) -> MutexGuard<'_, Option<String>> {
        self.run.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<RedisError> for CacheError {
    fn from(error: RedisError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

impl Cache for RedisCache {
    fn ping(&self) -> CacheFuture<'_, ()> {
        Box::pin(async move {
            let mut connection = self.lock_manager().clone();
            let probed = write_probe().query_async(&mut connection).await;
            self.heard(probed)
        })
    }

    fn read<'a>(&'a self, pairs: &'a [Pair]) -> CacheFuture<'a, Vec<Reading>> {
        Box::pin(async move {
            if pairs.is_empty() {
                return Ok(Vec::new());
            }
            let mut reads = Pipeline::with_capacity(pairs.len());
            for pair in pairs {
                reads
                    .cmd("HMGET")
                    .arg(key(pair.resource))
                    .arg(&["n", "c", "f", "u"])
                    .arg(pair.user_id);
            }
            let mut connection = self.connection()?;
            let rows = reads.query_async(&mut connection).await;
            let rows: Vec<[Option<String>; 5]> = self.heard(rows)?;
            Ok(rows.iter().map(reading).collect())
        })
    }

    fn counts<'a>(&'a self, resources: &'a [Resource]) -> CacheFuture<'a, Vec<Option<i64>>> {
        Box::pin(async move {
            if resources.is_empty() {
                return Ok(Vec::new());
            }
            let mut reads = Pipeline::with_capacity(resources.len());
            for resource in resources {
                reads.cmd("HMGET").arg(key(*resource)).arg(&["n", "f", "u"]);
            }
            let mut connection = self.connection()?;
            let rows = reads.query_async(&mut connection).await;
            let rows: Vec<[Option<String>; 3]> = self.heard(rows)?;
            let counts = rows.iter();
            let counts = counts.map(|[count, flying, unknown]| like_count(count, flying, unknown));
            Ok(counts.collect())
        })
    }

    fn apply<'a>(&'a self, events: &'a [(Pair, VersionedState)]) -> CacheFuture<'a, Vec<Applied>> {
        Box::pin(async move {
            let mut calls = Pipeline::with_capacity(events.len());
            for (pair, mark) in events {
                let mut call = self.call(pair.resource, "apply");
                call.arg(pair.user_id)
                    .arg(mark.version.0)
                    .arg(mark.weight());
                calls.add_command(call);
            }
            let replies = self.run(calls).await?;
            replies.into_iter().map(applied).collect()
        })
    }

    fn settle<'a>(
        &'a self,
        settlements: &'a BTreeMap<Resource, Settlement>,
    ) -> CacheFuture<'a, ()> {
        Box::pin(async move {
            let mut calls = Pipeline::with_capacity(settlements.len());
            for (resource, settlement) in settlements {
                let count = settlement.count.map(count_text).unwrap_or_default();
                let marks: Vec<_> = settlement.marks.iter().collect();
                // At least one call, which settles the count even without pairs.
                let calls_needed = marks.len().div_ceil(PAIRS_PER_CALL).max(1);
                for part in 0..calls_needed {
                    let mut call = self.call(*resource, "settle");
                    call.arg(&count);
                    for (user_id, mark) in marks
                        .iter()
                        .skip(part * PAIRS_PER_CALL)
                        .take(PAIRS_PER_CALL)
                    {
                        call.arg(**user_id).arg(mark.version.0).arg(mark.weight());
                    }
                    calls.add_command(call);
                }
            }
            self.run(calls).await.map(drop)
        })
    }

    fn forget<'a>(&'a self, events: &'a [(Pair, Version)]) -> CacheFuture<'a, ()> {
        Box::pin(async move {
            let mut calls = Pipeline::with_capacity(events.len());
            for (pair, version) in events {
                let mut call = self.call(pair.resource, "forget");
                call.arg(pair.user_id).arg(version.0);
                calls.add_command(call);
            }
            self.run(calls).await.map(drop)
        })
    }

    fn open<'a>(&'a self, resources: &'a [Resource]) -> CacheFuture<'a, Vec<Incarnation>> {
        Box::pin(async move {
            let mut calls = Pipeline::with_capacity(resources.len());
            for resource in resources {
                calls.add_command(self.call(*resource, "open"));
            }
            let replies = self.run(calls).await?;
            replies
                .into_iter()
                .map(|reply| {
                    let life: String = redis::from_redis_value(reply).map_err(unreadable)?;
                    life.parse().map_err(unreadable)
                })
                .collect()
        })
    }

    fn fill<'a>(&'a self, fillings: &'a [Filling]) -> CacheFuture<'a, Vec<Option<Reading>>> {
        Box::pin(async move {
            let mut calls = Pipeline::with_capacity(fillings.len());
            for filling in fillings {
                let mut call = self.call(filling.resource, "fill");
                call.arg(filling.incarnation).arg(count_text(filling.count));
                if let Some((user_id, mark)) = filling.state {
                    call.arg(user_id).arg(mark.version.0).arg(mark.weight());
                }
                calls.add_command(call);
            }
            let replies = self.run(calls).await?;
            replies.into_iter().map(filled).collect()
        })
    }

    fn drop_entries<'a>(&'a self, resources: &'a [Resource]) -> CacheFuture<'a, ()> {
        Box::pin(async move {
            let mut calls = Pipeline::with_capacity(resources.len());
            for resource in resources {
                calls.cmd("UNLINK").arg(key(*resource));
            }
            self.run(calls).await.map(drop)
        })
    }

    fn scan(&self, cursor: u64, count: usize) -> CacheFuture<'_, Scanned> {
        Box::pin(async move {
            let (next, keys) = self.scan_keys(cursor, count).await?;
            Ok(Scanned {
                resources: keys.iter().filter_map(|key| resource(key)).collect(),
                cursor: (next != 0).then_some(next),
            })
        })
    }

    fn inspect<'a>(&'a self, resources: &'a [Resource]) -> CacheFuture<'a, Vec<Option<EntryView>>> {
        Box::pin(async move {
            if resources.is_empty() {
                return Ok(Vec::new());
            }
            let mut reads = Pipeline::with_capacity(resources.len());
            for resource in resources {
                reads.cmd("HGETALL").arg(key(*resource));
            }
            let rows = reads.query_async(&mut self.connection()?).await;
            let rows: Vec<Vec<(String, String)>> = self.heard(rows)?;
            let view = |fields: &Vec<_>| (!fields.is_empty()).then(|| redis_entry::view(fields));
            Ok(rows.iter().map(view).collect())
        })
    }

    fn clear(&self) -> CacheFuture<'_, ()> {
        Box::pin(self.clear())
    }

    fn restarted(&self) -> CacheFuture<'_, bool> {
        Box::pin(async move {
            let run = match self.current_run().await {
                Ok(run) => run,
                Err(error) => {
                    // Its earlier state is unknown: when it answers, it counts as restarted.
                    self.known_run().get_or_insert_default();
                    return Err(error);
                }
            };
            let known = self.known_run().replace(run.clone());
            Ok(known.is_some_and(|known| known != run))
        })
    }

    fn kind(&self) -> &'static str {
        "Redis"
    }
}

/// A write of a short-lived key. A read would succeed on a replica.
fn write_probe() -> Cmd {
    let mut probe = redis::cmd("SET");
    probe
        .arg(format!("{PREFIX}{{probe}}"))
        .arg(1)
        .arg("PX")
        .arg(1_000);
    probe
}

/// Returns whether the server refuses writes, as a replica does.
fn is_read_only(error: &RedisError) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown)
    )
}

/// Returns the key of a resource's entry.
fn key(resource: Resource) -> String {
    format!("{PREFIX}{{{}:{}}}", resource.resource_type, resource.id)
}

/// Returns the resource of an entry's key.
fn resource(key: &str) -> Option<Resource> {
    let name = key
        .strip_prefix(PREFIX)?
        .strip_prefix('{')?
        .strip_suffix('}')?;
    let (resource_type, id) = name.split_once(':')?;
    Some(Resource {
        resource_type: resource_type.parse().ok()?,
        id: id.parse().ok()?,
    })
}

/// Parses the fields `n`, `c`, `f`, `u` and that of the user.
fn reading([count, complete, in_flight, unknown, pair]: &[Option<String>; 5]) -> Reading {
    let liked = match pair {
        Some(text) => text.split(':').nth(1).map(|liked| liked == "1"),
        None if complete.is_some() => Some(false),
        None => None,
    };
    Reading {
        liked,
        like_count: like_count(count, in_flight, unknown),
    }
}

/// Parses the count in the fields `n`, `f` and `u`.
fn like_count(
    count: &Option<String>,
    in_flight: &Option<String>,
    unknown: &Option<String>,
) -> Option<i64> {
    let number = |field: &Option<String>| field.as_ref().and_then(|text| text.parse::<i64>().ok());
    count
        .as_ref()
        .filter(|_| number(unknown) == Some(0))
        .and_then(|text| text.split(':').next()?.parse::<i64>().ok())
        .zip(number(in_flight))
        .map(|(count, in_flight)| count + in_flight)
}

fn applied(reply: Value) -> Result<Applied, CacheError> {
    let [changed, newer, like_count]: [String; 3] =
        redis::from_redis_value(reply).map_err(unreadable)?;
    Ok(Applied {
        changed: known(&changed)?.map(|changed: u8| changed == 1),
        newer: known(&newer)?.map(Version),
        like_count: known(&like_count)?,
    })
}

fn filled(reply: Value) -> Result<Option<Reading>, CacheError> {
    let [filled, liked, like_count]: [String; 3] =
        redis::from_redis_value(reply).map_err(unreadable)?;
    if filled != "1" {
        return Ok(None);
    }
    Ok(Some(Reading {
        liked: known(&liked)?.map(|liked: u8| liked == 1),
        like_count: known(&like_count)?,
    }))
}

/// Parses the script's answer; an empty text is an unknown value.
fn known<T: std::str::FromStr<Err: ToString>>(text: &str) -> Result<Option<T>, CacheError> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(unreadable)
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn unreadable(error: impl ToString) -> CacheError {
    CacheError::Unavailable(format!(
        "the script's answer cannot be read: {}",
        error.to_string()
    ))
}
