//! The masters of a Redis Cluster: the connection to each, and the map of their slots, which servers are asked for. Called by
//! `routing.rs`, which sends commands to them, and by `upkeep.rs`.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use rand::seq::IndexedRandom;
use redis::{Client, ConnectionAddr, ConnectionInfo, Pipeline, Value};

use super::slots::{Address, SLOTS, SlotMap};
use crate::cache::CacheError;
use crate::cache::redis::answer;
use crate::cache::redis::connection::{RedisConnection, client};
use crate::cache::redis::keys::PREFIX;
use crate::config::RedisOptions;

/// The number of servers that are asked for the slots. One of them may be cut off from the others.
const ASKED: usize = 3;

/// The masters of a cluster.
pub(super) struct Masters {
    /// The servers that the settings name.
    seeds: Vec<Address>,
    /// Credentials and TLS, which all servers have in common.
    info: ConnectionInfo,
    timeout: Duration,
    state: Mutex<State>,
    /// Set when no server answered the last time, so that not every call waits for the time-out.
    unreachable: AtomicBool,
    /// Held while the masters are asked for at the first use.
    first_look: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    view: Arc<View>,
    servers: HashMap<Address, Arc<RedisConnection>>,
    /// Whether the cluster was down before it was first seen. Its earlier state is unknown.
    missed: bool,
}

/// The masters as they are known at one moment.
#[derive(Default)]
pub(super) struct View {
    pub(super) map: SlotMap,
    /// The connection to each master of the map.
    pub(super) servers: Vec<Arc<RedisConnection>>,
    /// A key in a slot of each master.
    pub(super) probe_keys: Vec<String>,
}

impl Masters {
    /// Creates connections that open at their first use, from `redis+cluster://USER:PASSWORD@HOST:PORT,HOST:PORT`.
    ///
    /// # Errors
    /// If the URL is invalid.
    pub(super) fn new(options: &RedisOptions) -> Result<Self, CacheError> {
        let unusable =
            |reason: &str| CacheError::Unavailable(format!("LIKEWISE_REDIS_URL: {reason}"));
        let (scheme, rest) = options
            .url
            .split_once("+cluster://")
            .ok_or_else(|| unusable("a cluster's URL begins with redis+cluster://"))?;
        let (credentials, rest) = match rest.rsplit_once('@') {
            Some((credentials, rest)) => (format!("{credentials}@"), rest),
            None => (String::new(), rest),
        };
        let (hosts, tail) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let mut seeds = Vec::new();
        let mut info = None;
        for host in hosts.split(',') {
            if host.is_empty() {
                return Err(unusable("a cluster's URL lists HOST:PORT,HOST:PORT"));
            }
            let client = client(&format!("{scheme}://{credentials}{host}{tail}"), options)?;
            let found = client.get_connection_info().clone();
            if found.redis_settings().db() != 0 {
                return Err(unusable("a cluster has database 0 only"));
            }
            let (ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. }) =
                found.addr()
            else {
                return Err(unusable("a cluster's servers are HOST:PORT"));
            };
            seeds.push(Address {
                host: host.clone(),
                port: *port,
            });
            info = Some(found);
        }
        Ok(Self {
            seeds,
            info: info.ok_or_else(|| unusable("it names no server"))?,
            timeout: options.timeout,
            state: Mutex::default(),
            unreachable: AtomicBool::new(false),
            first_look: tokio::sync::Mutex::new(()),
        })
    }

    /// Asks servers which masters there are, and takes over the answer.
    pub(super) async fn refresh(&self) -> Result<Arc<View>, CacheError> {
        let (near, far): (Vec<_>, Vec<_>) = self
            .candidates()
            .into_iter()
            .partition(|(_, server)| !server.is_away());
        let chosen: Vec<_> = near.sample(&mut rand::rng(), ASKED).cloned().collect();
        let mut answers = ask_for_slots(&chosen).await;
        if answers.iter().all(Result::is_err) {
            let others: Vec<_> = near.into_iter().chain(far).collect();
            answers = ask_for_slots(&others).await;
        }
        let mut failure = None;
        let mut best: Option<Answer> = None;
        for answer in answers {
            match answer {
                // A server that is cut off from the others knows an older state.
                Ok(answer) if best.as_ref().is_none_or(|best| best.rank < answer.rank) => {
                    best = Some(answer);
                }
                Ok(_) => {}
                Err(error) => failure = Some(error),
            }
        }
        self.unreachable.store(best.is_none(), Ordering::Relaxed);
        match best {
            Some(Answer { map, .. }) => Ok(self.adopt(map)),
            None => {
                let mut state = self.lock();
                state.missed |= state.view.servers.is_empty();
                Err(failure.unwrap_or(CacheError::Away))
            }
        }
    }

    /// Returns the masters and the servers that the settings name.
    fn candidates(&self) -> Vec<(Address, Arc<RedisConnection>)> {
        let mut state = self.lock();
        let masters = state.view.map.masters().iter();
        let addresses: BTreeSet<Address> = masters.chain(&self.seeds).cloned().collect();
        let candidate = |address: Address| {
            let server = self.server(&mut state, &address);
            (address, server)
        };
        addresses.into_iter().map(candidate).collect()
    }

    /// Takes over the masters that a server listed.
    fn adopt(&self, mut map: SlotMap) -> Arc<View> {
        let mut state = self.lock();
        map.succeed(&state.view.map);
        if std::mem::take(&mut state.missed) {
            map.set_stale(0..SLOTS, true);
        }
        if map == state.view.map {
            return Arc::clone(&state.view);
        }
        let view = self.show(&mut state, map);
        let kept: BTreeSet<&Address> = view.map.masters().iter().chain(&self.seeds).collect();
        state.servers.retain(|address, _| kept.contains(address));
        view
    }

    /// Changes the map.
    pub(super) fn change(&self, change: impl FnOnce(&mut SlotMap)) -> Arc<View> {
        let mut state = self.lock();
        let mut map = state.view.map.clone();
        change(&mut map);
        self.show(&mut state, map)
    }

    fn show(&self, state: &mut State, map: SlotMap) -> Arc<View> {
        let masters = map.masters().iter();
        let servers = masters.map(|address| self.server(state, address)).collect();
        let probe_keys = match map.has_owners_of(&state.view.map) {
            true => state.view.probe_keys.clone(),
            false => map.probe_keys(PREFIX),
        };
        state.view = Arc::new(View {
            map,
            servers,
            probe_keys,
        });
        Arc::clone(&state.view)
    }

    /// Returns the connection to a server.
    pub(super) fn connect(&self, address: &Address) -> Arc<RedisConnection> {
        self.server(&mut self.lock(), address)
    }

    fn server(&self, state: &mut State, address: &Address) -> Arc<RedisConnection> {
        let server = state.servers.entry(address.clone()).or_insert_with(|| {
            let (host, port) = (address.host.clone(), address.port);
            let addr = match self.info.addr() {
                ConnectionAddr::TcpTls {
                    insecure,
                    tls_params,
                    ..
                } => ConnectionAddr::TcpTls {
                    host,
                    port,
                    insecure: *insecure,
                    tls_params: tls_params.clone(),
                },
                _ => ConnectionAddr::Tcp(host, port),
            };
            let info = self.info.clone().set_addr(addr);
            let client = Client::open(info).expect("the settings of a valid client");
            Arc::new(RedisConnection::new(client, self.timeout))
        });
        Arc::clone(server)
    }

    /// Returns the masters, unless no server answered the last time. Servers are asked for them at the first use.
    pub(super) async fn view(&self) -> Result<Arc<View>, CacheError> {
        let look = || {
            let is_unreachable = self.unreachable.load(Ordering::Relaxed);
            (!is_unreachable)
                .then(|| self.current())
                .ok_or(CacheError::Away)
        };
        let view = look()?;
        if !view.servers.is_empty() {
            return Ok(view);
        }
        // Other calls wait for the first one.
        let _first = self.first_look.lock().await;
        let view = look()?;
        if view.servers.is_empty() {
            return self.refresh().await;
        }
        Ok(view)
    }

    /// Returns the masters as they are known now; none before a server has answered.
    pub(super) fn current(&self) -> Arc<View> {
        Arc::clone(&self.lock().view)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Address {
    /// Adds the address to an error of its server.
    pub(super) fn names(&self, error: CacheError) -> CacheError {
        match error {
            CacheError::Unavailable(why) => CacheError::Unavailable(format!("{self}: {why}")),
            CacheError::ReadOnly(why) => CacheError::ReadOnly(format!("{self}: {why}")),
            other => other,
        }
    }
}

/// What a server knows of its cluster.
struct Answer {
    map: SlotMap,
    /// Whether the server reaches most others, and how new its state is. Larger is better.
    rank: (bool, u64),
}

async fn ask_for_slots(
    servers: &[(Address, Arc<RedisConnection>)],
) -> Vec<Result<Answer, CacheError>> {
    join_all(servers.iter().map(|(address, server)| async move {
        let mut ask = Pipeline::with_capacity(2);
        ask.cmd("CLUSTER").arg("INFO");
        ask.cmd("CLUSTER").arg("SLOTS");
        let values = server.try_send(&ask).await;
        let values = values.map_err(|error| address.names(error))?;
        let [info, slots] = <[Value; 2]>::try_from(values)
            .map_err(|_| CacheError::Unavailable(format!("{address}: half an answer")))?;
        if let Value::ServerError(error) = info {
            return Err(CacheError::Unavailable(format!(
                "{address}: {error}: LIKEWISE_REDIS_URL begins with redis:// or rediss:// unless the servers are a \
                 Redis Cluster"
            )));
        }
        let info: String = answer::value(info)?;
        let field = |name: &str| info.lines().find_map(|line| line.strip_prefix(name));
        let epoch = field("cluster_current_epoch:").and_then(|epoch| epoch.trim().parse().ok());
        let is_ok = field("cluster_state:").is_some_and(|state| state.trim() == "ok");
        let map = SlotMap::parse(&slots, address).filter(|map| !map.masters().is_empty());
        Ok(Answer {
            map: map.ok_or_else(|| {
                CacheError::Unavailable(format!("{address}: no master of the cluster has slots"))
            })?,
            rank: (is_ok, epoch.unwrap_or_default()),
        })
    }))
    .await
}
