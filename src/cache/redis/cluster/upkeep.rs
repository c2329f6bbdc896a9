//! What a Redis Cluster is asked beside entries: whether its masters are well, which of them restarted or were promoted, and
//! which keys they have. Called by `RedisClusterCache`.

use std::sync::Arc;

use futures_util::future::join_all;
use redis::{Cmd, Pipeline, Value};

use super::masters::View;
use super::routing::{Purpose, RedisCluster, Routed};
use super::slots::{Address, SLOTS, Slot};
use crate::cache::redis::answer;
use crate::cache::redis::connection::{RedisConnection, write_probe};
use crate::cache::{CacheError, MasterState};

/// The number of slots whose keys are read in one round trip.
const SLOTS_PER_CALL: usize = 16;

/// The number of slots whose keys are counted in one round trip.
const SLOTS_COUNTED: u16 = 1_024;

/// The number of keys that are dropped in one step of a clean-up.
const KEYS_PER_STEP: usize = 10_000;

/// More keys than a slot has.
const ALL_KEYS: u32 = 1_000_000_000;

impl RedisCluster {
    /// Succeeds if every slot has a master, and every master accepts writes.
    pub(super) async fn ping(&self) -> Result<(), CacheError> {
        let mut view = self.masters.current();
        if view.servers.is_empty() {
            view = self.masters.refresh().await?;
        }
        match probe(&view).await {
            // A slot may have moved, or a failover be over.
            Err(Failure::Answered(_)) => {
                let view = self.masters.refresh().await?;
                match probe(&view).await {
                    Ok(()) => Ok(()),
                    Err(Failure::Answered(error) | Failure::Silent(error)) => Err(error),
                }
            }
            Err(Failure::Silent(error)) => Err(error),
            Ok(()) => Ok(()),
        }
    }

    /// Brings the slots up to date. Returns whether the entries of some may be stale and can be dropped now: of a master that
    /// restarted, or of a server that was no master before.
    ///
    /// # Errors
    /// If no master answers.
    pub(super) async fn restarted(&self) -> Result<bool, CacheError> {
        let view = self.masters.refresh().await?;
        let looks = view.servers.iter().zip(&view.probe_keys);
        let looks = join_all(looks.map(|(server, key)| server.restarted(key))).await;
        let mut failure = None;
        let (mut has_answered, mut restarted) = (false, Vec::new());
        for (master, look) in looks.into_iter().enumerate() {
            match look {
                Ok(has_restarted) => {
                    has_answered = true;
                    if has_restarted {
                        restarted.extend(view.map.slots_of(master));
                    }
                }
                Err(error) => failure = Some(error),
            }
        }
        if let Some(error) = failure.filter(|_| !has_answered) {
            return Err(error);
        }
        let view = match restarted.is_empty() {
            true => self.masters.current(),
            false => self.masters.change(|map| map.set_stale(restarted, true)),
        };
        Ok(!droppable(&view).is_empty())
    }

    /// Drops the keys of entries that may be stale, of the masters that answer. Returns their number. `is_entry` tells keys of
    /// entries from others.
    pub(super) async fn drop_stale(
        &self,
        is_entry: impl Fn(&str) -> bool,
    ) -> Result<usize, CacheError> {
        let (view, mut dropped) = (self.masters.current(), 0);
        for slots in droppable(&view).chunks(SLOTS_PER_CALL) {
            let mut reads = Vec::new();
            for slot in slots {
                let command = keys_in_slot(*slot);
                reads.push(Routed::to_slot(*slot, command));
            }
            let mut keys = Vec::new();
            for reply in self.run(reads, Purpose::Upkeep).await? {
                keys.extend(answer::value::<Vec<String>>(reply)?);
            }
            keys.retain(|key| is_entry(key));
            self.unlink(&keys).await?;
            dropped += keys.len();
            self.masters
                .change(|map| map.set_stale(slots.iter().copied(), false));
        }
        Ok(dropped)
    }

    /// Drops the entries of all slots.
    pub(super) async fn clear(&self, is_entry: impl Fn(&str) -> bool) -> Result<(), CacheError> {
        let mut from = Some(0);
        while let Some(slot) = from {
            let (mut keys, next) = self.keys_from(slot, KEYS_PER_STEP).await?;
            keys.retain(|key| is_entry(key));
            self.unlink(&keys).await?;
            self.masters
                .change(|map| map.set_stale(slot..next.unwrap_or(SLOTS), false));
            from = next;
        }
        Ok(())
    }

    /// Drops keys.
    pub(super) async fn unlink(&self, keys: &[String]) -> Result<(), CacheError> {
        let unlink = |key: &String| {
            let mut unlink = redis::cmd("UNLINK");
            unlink.arg(key);
            Routed::new(key, unlink)
        };
        let commands = keys.iter().map(unlink).collect();
        self.run(commands, Purpose::Upkeep).await.map(drop)
    }

    /// Returns the keys of some slots from `first` on, about `count` of them, and the slot after these. Every master is asked,
    /// because the keys of a slot that moves are on two of them.
    pub(super) async fn keys_from(
        &self,
        first: Slot,
        count: usize,
    ) -> Result<(Vec<String>, Option<Slot>), CacheError> {
        let view = self.masters.refresh().await?;
        let end = first.saturating_add(SLOTS_COUNTED).min(SLOTS);
        let count_keys = |slot: Slot| {
            let mut command = redis::cmd("CLUSTER");
            command.arg("COUNTKEYSINSLOT").arg(slot);
            command
        };
        let counted = ask_all(&view, (first..end).map(count_keys)).await?;
        let (mut slots, mut last, mut keys) = (Vec::new(), first, 0);
        for slot in first..end {
            let of_slot = |counts: &Vec<Value>| match counts.get(usize::from(slot - first)) {
                Some(Value::Int(keys)) => usize::try_from(*keys).unwrap_or_default(),
                _ => 0,
            };
            let in_slot: usize = counted.iter().map(of_slot).sum();
            if keys > 0 && keys + in_slot > count {
                break;
            }
            keys += in_slot;
            last = slot;
            if in_slot > 0 {
                slots.push(slot);
            }
        }
        let mut found = Vec::new();
        for slots in slots.chunks(SLOTS_PER_CALL) {
            let commands = slots.iter().map(|slot| keys_in_slot(*slot));
            for reply in ask_all(&view, commands).await?.into_iter().flatten() {
                found.extend(answer::value::<Vec<String>>(reply)?);
            }
        }
        let next = last + 1;
        Ok((found, (next < SLOTS).then_some(next)))
    }

    /// Returns the state of each master.
    pub(super) fn masters(&self) -> Vec<MasterState> {
        let view = self.masters.current();
        let masters = view.map.masters().iter().zip(&view.servers);
        let master = |(number, (address, server)): (usize, (&Address, &Arc<RedisConnection>))| {
            let ranges = view.map.ranges_of(number);
            let ranges: Vec<String> = ranges
                .iter()
                .map(|range| format!("{}-{}", range.start(), range.end()))
                .collect();
            MasterState {
                address: address.to_string(),
                slots: ranges.join(","),
                is_up: !server.is_away(),
            }
        };
        masters.enumerate().map(master).collect()
    }
}

/// The error of a probe.
enum Failure {
    /// A server answered with it.
    Answered(CacheError),
    /// A server did not answer.
    Silent(CacheError),
}

/// Tries a write on each master.
async fn probe(view: &View) -> Result<(), Failure> {
    let unserved = view.map.unserved();
    if unserved > 0 {
        let why = format!("{unserved} of {SLOTS} slots of the cluster have no master");
        return Err(Failure::Answered(CacheError::Unavailable(why)));
    }
    let writes = view.servers.iter().zip(&view.probe_keys);
    let writes = writes.map(|(server, key)| async move {
        let mut write = Pipeline::with_capacity(1);
        write.add_command(write_probe(key));
        server.try_send(&write).await
    });
    let mut failures = Vec::new();
    let mut is_silent = false;
    for (address, written) in view.map.masters().iter().zip(join_all(writes).await) {
        let error = match written.map(|mut values| values.pop()) {
            Ok(Some(Value::ServerError(error))) => error.to_string(),
            Ok(_) => continue,
            Err(error) => {
                is_silent = true;
                error.to_string()
            }
        };
        failures.push(format!("{address}: {error}"));
    }
    if failures.is_empty() {
        return Ok(());
    }
    let error = CacheError::Unavailable(format!(
        "{} of {} masters of the cluster fail: {}",
        failures.len(),
        view.servers.len(),
        failures.join("; ")
    ));
    Err(match is_silent {
        true => Failure::Silent(error),
        false => Failure::Answered(error),
    })
}

/// Sends the same commands to every master.
async fn ask_all(
    view: &View,
    commands: impl Iterator<Item = Cmd>,
) -> Result<Vec<Vec<Value>>, CacheError> {
    let mut pipeline = Pipeline::new();
    for command in commands {
        pipeline.add_command(command);
    }
    let asked = view.servers.iter().map(|server| server.try_send(&pipeline));
    join_all(asked).await.into_iter().collect()
}

fn keys_in_slot(slot: Slot) -> Cmd {
    let mut command = redis::cmd("CLUSTER");
    command.arg("GETKEYSINSLOT").arg(slot).arg(ALL_KEYS);
    command
}

/// Returns the stale slots whose masters answer.
fn droppable(view: &View) -> Vec<Slot> {
    let mut slots = view.map.stale_slots();
    slots.retain(|slot| {
        let owner = view.map.owner(*slot);
        owner.is_some_and(|owner| !view.servers[owner].is_away())
    });
    slots
}
