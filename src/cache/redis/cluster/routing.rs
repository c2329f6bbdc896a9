//! Sends commands to a Redis Cluster: each to the master of its slot, in one round trip for each master. Follows moved slots.
//! Called by `RedisClusterCache`, which knows what the commands mean.
//!
//! [0048](../../../../docs/adr/0048-redis-cluster.md) says why this is no work for the cluster client of the `redis` crate.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use redis::{Cmd, Pipeline, ServerErrorKind, Value};

use super::masters::Masters;
use super::slots::{Address, Slot, slot_of};
use crate::cache::CacheError;
use crate::cache::redis::call::RULE;
use crate::cache::redis::connection::RedisConnection;
use crate::config::RedisOptions;

/// How often a command is sent at most, while its slot moves.
const ATTEMPTS: u32 = 8;

/// The pause before a command is sent again whose slot is in between two masters.
const PAUSE: Duration = Duration::from_millis(10);

/// A command with the slot of its keys.
pub(super) struct Routed {
    slot: Slot,
    command: Cmd,
}

impl Routed {
    /// Routes a command by one of its keys.
    pub(super) fn new(key: &str, command: Cmd) -> Self {
        Self {
            slot: slot_of(key),
            command,
        }
    }

    /// Routes a command that has no keys.
    pub(super) const fn to_slot(slot: Slot, command: Cmd) -> Self {
        Self { slot, command }
    }
}

impl From<(String, Cmd)> for Routed {
    /// Routes a command by its key.
    fn from((key, command): (String, Cmd)) -> Self {
        Self::new(&key, command)
    }
}

/// What a command does with entries that may be stale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// It uses them, so it waits until stale ones are dropped.
    Use,
    /// It drops or lists them.
    Upkeep,
}

/// A cluster.
pub(super) struct RedisCluster {
    pub(super) masters: Masters,
}

/// Commands for one server.
struct Batch {
    server: Arc<RedisConnection>,
    address: Address,
    /// Whether the server takes over the slots, so that each command is announced.
    asking: bool,
    pipeline: Pipeline,
    /// The places of the commands among all.
    places: Vec<usize>,
}

/// Where to send a command again.
enum Again {
    /// To the master that this server named, which serves the slot now.
    Moved(Address),
    /// To this server, which takes over the slot.
    Ask(Address),
    /// To the same server, after the other keys of the slot have moved.
    Later,
    /// To the same server, once it knows the script.
    Load,
}

impl RedisCluster {
    /// Creates a cluster whose connections open at their first use.
    ///
    /// # Errors
    /// If the URL is invalid.
    pub(super) fn new(options: &RedisOptions) -> Result<Self, CacheError> {
        Ok(Self {
            masters: Masters::new(options)?,
        })
    }

    /// Sends commands to the masters of their slots, those for one master in one round trip. Returns their replies in order.
    ///
    /// # Errors
    /// If a command fails. Others may have run.
    pub(super) async fn run(
        &self,
        commands: Vec<Routed>,
        purpose: Purpose,
    ) -> Result<Vec<Value>, CacheError> {
        if commands.is_empty() {
            return Ok(Vec::new());
        }
        let mut replies = vec![Value::Nil; commands.len()];
        let slots: Vec<Slot> = commands.iter().map(|command| command.slot).collect();
        let mut batches = self.batches(commands, purpose).await?;
        for attempt in 0..ATTEMPTS {
            let sent = join_all(batches.iter().map(|batch| batch.send(purpose))).await;
            let mut again = Vec::new();
            for (number, values) in sent.into_iter().enumerate() {
                let batch = &batches[number];
                // Each command follows its ASKING.
                let values = values?.into_iter().skip(usize::from(batch.asking));
                let values = values.step_by(1 + usize::from(batch.asking));
                for (nth, (place, value)) in batch.places.iter().zip(values).enumerate() {
                    match value {
                        Value::ServerError(error) => {
                            let how = how_again(&error, &batch.address)?;
                            again.push((*place, number, nth, how));
                        }
                        value => replies[*place] = value,
                    }
                }
            }
            if again.is_empty() {
                return Ok(replies);
            }
            let is_late = again.iter().any(|(.., how)| matches!(how, Again::Later));
            batches = self.batches_again(&batches, again, &slots, purpose).await?;
            if is_late {
                tokio::time::sleep(PAUSE * (attempt + 1)).await;
            }
        }
        Err(CacheError::Unavailable(
            "the slots of some keys keep moving between the masters of the cluster".to_owned(),
        ))
    }

    /// Groups commands by the masters of their slots.
    async fn batches(
        &self,
        commands: Vec<Routed>,
        purpose: Purpose,
    ) -> Result<Vec<Batch>, CacheError> {
        let view = self.masters.view().await?;
        let mut batches: Vec<Option<Batch>> = Vec::new();
        batches.resize_with(view.servers.len(), || None);
        for (place, Routed { slot, command }) in commands.into_iter().enumerate() {
            if purpose == Purpose::Use && view.map.is_stale(slot) {
                return Err(CacheError::Away);
            }
            let master = view.map.owner(slot).ok_or_else(|| no_master(slot))?;
            let batch = batches[master].get_or_insert_with(|| Batch {
                server: Arc::clone(&view.servers[master]),
                address: view.map.masters()[master].clone(),
                asking: false,
                pipeline: Pipeline::new(),
                places: Vec::new(),
            });
            batch.pipeline.add_command(command);
            batch.places.push(place);
        }
        Ok(batches.into_iter().flatten().collect())
    }

    /// Groups the commands that have to be sent again, from the places, the batches and the places in them.
    async fn batches_again(
        &self,
        before: &[Batch],
        again: Vec<(usize, usize, usize, Again)>,
        slots: &[Slot],
        purpose: Purpose,
    ) -> Result<Vec<Batch>, CacheError> {
        let mut batches: BTreeMap<(Address, bool), Batch> = BTreeMap::new();
        let (mut moved, mut loaded) = (Vec::new(), BTreeSet::new());
        for (place, number, nth, how) in again {
            let old = &before[number];
            let (address, asking) = match how {
                Again::Moved(address) => {
                    moved.push((slots[place], address.clone()));
                    (address, false)
                }
                Again::Ask(address) => (address, true),
                Again::Later => (old.address.clone(), old.asking),
                Again::Load => {
                    if loaded.insert(number) {
                        old.server.load(RULE).await?;
                    }
                    (old.address.clone(), old.asking)
                }
            };
            let stride = 1 + usize::from(old.asking);
            let command = old.pipeline.cmd_iter().nth(nth * stride + stride - 1);
            let command = command.cloned().unwrap_or_default();
            let batch = batches
                .entry((address.clone(), asking))
                .or_insert_with(|| Batch {
                    server: self.masters.connect(&address),
                    address: address.clone(),
                    asking,
                    pipeline: Pipeline::new(),
                    places: Vec::new(),
                });
            if asking {
                batch.pipeline.cmd("ASKING");
            }
            batch.pipeline.add_command(command);
            batch.places.push(place);
        }
        if !moved.is_empty() {
            let view = self.masters.change(|map| {
                for (slot, address) in &moved {
                    map.follow(*slot, address.clone());
                }
            });
            let mut moved = moved.iter();
            if purpose == Purpose::Use && moved.any(|(slot, _)| view.map.is_stale(*slot)) {
                return Err(CacheError::Away);
            }
        }
        Ok(batches.into_values().collect())
    }
}

impl Batch {
    async fn send(&self, purpose: Purpose) -> Result<Vec<Value>, CacheError> {
        match purpose {
            Purpose::Use => self.server.send(&self.pipeline).await,
            Purpose::Upkeep => self.server.try_send(&self.pipeline).await,
        }
        .map_err(|error| self.address.names(error))
    }
}

impl Address {
    /// Parses the address in a redirection.
    fn in_redirection(details: Option<&str>, from: &Self) -> Option<Self> {
        let (_, address) = details?.split_once(' ')?;
        let (host, port) = address.trim().rsplit_once(':')?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        Some(Self {
            // A server that does not know the host means its own.
            host: match host {
                "" => from.host.clone(),
                host => host.to_owned(),
            },
            port: port.parse().ok()?,
        })
    }
}

/// Returns where a command has to be sent again after this answer.
fn how_again(error: &redis::ServerError, from: &Address) -> Result<Again, CacheError> {
    let target = || Address::in_redirection(error.details(), from);
    let again = match error.kind() {
        Some(ServerErrorKind::Moved) => target().map(Again::Moved),
        Some(ServerErrorKind::Ask) => target().map(Again::Ask),
        Some(ServerErrorKind::TryAgain) => Some(Again::Later),
        Some(ServerErrorKind::NoScript) => Some(Again::Load),
        _ => None,
    };
    again.ok_or_else(|| {
        let why = format!("{from}: {error}");
        match error.kind() {
            Some(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown) => {
                CacheError::ReadOnly(why)
            }
            _ => CacheError::Unavailable(why),
        }
    })
}

fn no_master(slot: Slot) -> CacheError {
    CacheError::Unavailable(format!("slot {slot} of the cluster has no master"))
}
