//! A Redis Cluster on loopback: three masters, whose slots tests move, and a replica that takes over from the first one.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use redis::{Cmd, Connection, FromRedisValue};

use super::servers::{Kind, Server};
use super::{PATIENCE, until, until_seen};

/// The number of masters.
pub const MASTERS: usize = 3;

/// The number of slots of every cluster.
const SLOTS: usize = 16_384;

/// The milliseconds without a sign of a node after which the others take it for failed, in a cluster that is not to
/// fail over. A busy machine may stop a node for seconds.
const NODE_TIMEOUT: &str = "60000";

/// A running cluster.
pub struct RedisCluster {
    /// The masters at the start, and then their replica, if there is one.
    pub nodes: Vec<Server>,
}

impl RedisCluster {
    /// Starts a cluster without replicas, whose nodes bear it if one hangs for a while.
    #[track_caller]
    pub fn start() -> Self {
        let cluster = Self::of_masters();
        for node in &cluster.nodes {
            let () = ask(
                node,
                &["CONFIG", "SET", "cluster-node-timeout", NODE_TIMEOUT],
            );
        }
        cluster
    }

    #[track_caller]
    fn of_masters() -> Self {
        let nodes: Vec<Server> = (0..MASTERS).map(|_| Server::cluster_node()).collect();
        let cluster = Self { nodes };
        for (number, node) in cluster.nodes.iter().enumerate() {
            let (first, last) = slots_of(number);
            let () = ask(
                node,
                &["CLUSTER", "SET-CONFIG-EPOCH", &(number + 1).to_string()],
            );
            let range = [first.to_string(), last.to_string()];
            let () = ask(node, &["CLUSTER", "ADDSLOTSRANGE", &range[0], &range[1]]);
        }
        for node in &cluster.nodes[1..] {
            cluster.meet(node);
        }
        cluster.until_whole();
        cluster
    }

    /// Starts a cluster whose first master has a replica.
    #[track_caller]
    pub fn with_replica() -> Self {
        let mut cluster = Self::of_masters();
        let replica = Server::cluster_node();
        cluster.meet(&replica);
        let master: String = ask(&cluster.nodes[0], &["CLUSTER", "MYID"]);
        until("the replica to know its master", PATIENCE, || {
            try_ask::<()>(&replica, &["CLUSTER", "REPLICATE", &master])
                .inspect_err(|_| cluster.meet(&replica))
        });
        cluster.nodes.push(replica);
        cluster.until_whole();
        until_seen(
            "the replica to be connected",
            || info(&cluster.nodes[MASTERS], "replication"),
            |info| info.contains("master_link_status:up"),
        );
        cluster
    }

    /// Returns a cluster that the tests of this process share. They name their keys apart.
    #[track_caller]
    pub fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<RedisCluster>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let cluster = Arc::new(Self::start());
            *shared = Arc::downgrade(&cluster);
            cluster
        })
    }

    /// Returns the URL for `LIKEWISE_REDIS_URL`, with all nodes.
    pub fn url(&self) -> String {
        let hosts: Vec<String> = self
            .nodes
            .iter()
            .map(|node| format!("127.0.0.1:{}", node.cluster_ports().0))
            .collect();
        format!("redis+cluster://{}", hosts.join(","))
    }

    /// Returns the number of the master that serves a key at the start.
    pub fn owner(&self, key: &str) -> usize {
        let slot = self.slot(key);
        let owner = (0..MASTERS).find(|number| slot <= slots_of(*number).1);
        owner.expect("a slot")
    }

    /// Returns the slot of a key.
    pub fn slot(&self, key: &str) -> usize {
        ask(&self.nodes[MASTERS - 1], &["CLUSTER", "KEYSLOT", key])
    }

    /// Moves the slot of a key to another master. Calls `meanwhile` before and after its keys have moved, while both masters
    /// share the slot.
    #[track_caller]
    pub fn move_slot(&self, key: &str, from: usize, to: usize, meanwhile: impl Fn()) {
        let slot = self.slot(key).to_string();
        let (source, target) = (&self.nodes[from], &self.nodes[to]);
        let source_id: String = ask(source, &["CLUSTER", "MYID"]);
        let target_id: String = ask(target, &["CLUSTER", "MYID"]);
        let () = ask(
            target,
            &["CLUSTER", "SETSLOT", &slot, "IMPORTING", &source_id],
        );
        let () = ask(
            source,
            &["CLUSTER", "SETSLOT", &slot, "MIGRATING", &target_id],
        );
        meanwhile();
        let port = target.cluster_ports().0.to_string();
        let keys: Vec<String> = ask(source, &["CLUSTER", "GETKEYSINSLOT", &slot, "100000"]);
        for key in keys {
            let migrate = ["MIGRATE", "127.0.0.1", &port, &key, "0", "5000", "REPLACE"];
            let _: String = ask(source, &migrate);
        }
        meanwhile();
        for node in [target, source] {
            let () = ask(node, &["CLUSTER", "SETSLOT", &slot, "NODE", &target_id]);
        }
    }

    /// Returns whether a node serves slots as a master, as another node sees it.
    pub fn is_master(&self, number: usize, seen_by: usize) -> bool {
        let nodes: String = ask(&self.nodes[seen_by], &["CLUSTER", "NODES"]);
        let address = format!(":{}@", self.nodes[number].cluster_ports().0);
        nodes
            .lines()
            .any(|line| line.contains(&address) && line.contains("master") && line.contains("-"))
    }

    /// Lets a node know the first one, and so all. On a busy machine their handshake may fail, and then they forget it.
    fn meet(&self, node: &Server) {
        let (port, bus) = self.nodes[0].cluster_ports();
        let (port, bus) = (port.to_string(), bus.to_string());
        let () = ask(node, &["CLUSTER", "MEET", "127.0.0.1", &port, &bus]);
    }

    /// Waits until every node is connected to all others and knows a master of each slot. While one is not, lets them meet
    /// again.
    #[track_caller]
    fn until_whole(&self) {
        for node in &self.nodes {
            until("the cluster to be whole", PATIENCE, || {
                let info: String = ask(node, &["CLUSTER", "INFO"]);
                let known: String = ask(node, &["CLUSTER", "NODES"]);
                let has_all_slots = info.contains("cluster_state:ok")
                    && info.contains(&format!("cluster_slots_ok:{SLOTS}\r"));
                let has_all_nodes = known.lines().count() == self.nodes.len();
                if has_all_slots && has_all_nodes && known.lines().all(is_in_touch) {
                    return Ok(());
                }
                if !has_all_nodes {
                    for other in &self.nodes[1..] {
                        self.meet(other);
                    }
                }
                Err(format!("{info}{known}"))
            });
        }
    }
}

/// Returns whether a line of `CLUSTER NODES` is of a node that answers. A node counts as known during its handshake, which may
/// still fail; without the others it would never vote for a replica.
fn is_in_touch(line: &str) -> bool {
    let fields: Vec<&str> = line.split(' ').collect();
    let mut flags = fields[2].split(',');
    let is_well = |flag: &str| matches!(flag, "myself" | "master" | "slave");
    fields[7] == "connected" && flags.all(is_well)
}

/// Returns the first and the last slot of a master at the start.
fn slots_of(master: usize) -> (usize, usize) {
    let first = |master: usize| SLOTS * master / MASTERS;
    (first(master), first(master + 1) - 1)
}

/// Returns a connection to one server.
#[track_caller]
pub fn connection(node: &Server) -> Connection {
    assert_eq!(node.kind(), Kind::Redis);
    let client = redis::Client::open(node.url()).expect("a URL");
    client.get_connection().expect("a connection")
}

fn command(words: &[&str]) -> Cmd {
    let mut command = redis::cmd(words[0]);
    command.arg(&words[1..]);
    command
}

/// Sends a command to one server.
#[track_caller]
pub fn ask<T: FromRedisValue>(node: &Server, words: &[&str]) -> T {
    let answer = command(words).query(&mut connection(node));
    answer.unwrap_or_else(|error| panic!("{words:?}: {error}"))
}

fn try_ask<T: FromRedisValue>(node: &Server, words: &[&str]) -> Result<T, String> {
    let answer = command(words).query(&mut connection(node));
    answer.map_err(|error: redis::RedisError| error.to_string())
}

fn info(node: &Server, section: &str) -> String {
    ask(node, &["INFO", section])
}
