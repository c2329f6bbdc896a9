//! A service on a Redis Cluster keeps every guarantee while slots move and while a master is killed.

use serde_json::Value;

use crate::support::checks::{diary_is_kept, everything_holds, pipeline_drains};
use crate::support::crowd::Crowd;
use crate::support::database::Database;
use crate::support::redis_cluster::{MASTERS, RedisCluster};
use crate::support::servers::{Kind, Server};
use crate::support::service::{Service, Setup};
use crate::support::{PATIENCE, seed, until, until_equal, until_seen};

/// Creates a setup on MariaDB, NATS and a cluster.
fn setup(cluster: &RedisCluster, nats: &Server) -> Setup {
    Setup::new()
        .on(&Database::hosted(Kind::MariaDb))
        .set("LIKEWISE_REDIS_URL", cluster.url())
        .set("LIKEWISE_NATS_URL", nats.url())
        .set("LIKEWISE_LEASE_SECONDS", 3)
}

/// Returns what `/readyz` shows of the cluster.
fn cache_of(service: &Service) -> Value {
    service.client().get("/readyz").json()["parts"]["cache"].take()
}

/// Returns the states of the masters in `/readyz`.
fn states(cache: &Value) -> Vec<&str> {
    let masters = cache["masters"].as_array().expect("masters");
    masters
        .iter()
        .map(|master| master["state"].as_str().expect("a state"))
        .collect()
}

#[test]
fn likes_complete_while_slots_move() {
    let mut rng = seed::rng("moving slots");
    let (cluster, nats) = (RedisCluster::start(), Server::start(Kind::Nats));
    let api = setup(&cluster, &nats).start_as(&["serve", "--role", "api"]);
    let worker = api
        .setup()
        .beside()
        .start_as(&["serve", "--role", "worker"]);
    assert_eq!(cache_of(&api)["kind"], "Redis Cluster");
    let running = Crowd::USUAL.start(&api, &mut rng);
    running.wait_for(100);
    for number in 1..=4 {
        for key in [format!("{{video:{number}}}"), format!("{{{number}}}")] {
            let from = cluster.owner(&key);
            cluster.move_slot(&key, from, (from + 1) % MASTERS, || running.wait_for(10));
        }
    }
    running.wait_for(100);
    let diary = running.stop();
    assert!(diary.not_acknowledged().is_empty(), "{diary:?}");
    pipeline_drains(&api);
    everything_holds(&api);
    diary_is_kept(api.database(), &diary);
    let like = api.client().like(1_000, 1);
    assert!(like.cached && like.like_count.is_some(), "{like:?}");
    let cache = cache_of(&api);
    assert_eq!(states(&cache), ["up"; MASTERS], "{cache}");
    pipeline_drains(&api);
    api.setup().run(&["audit"]).exits(0);
    // An operator drops everything, and reads rebuild it.
    api.setup().run(&["rebuild", "cache"]).exits(0);
    everything_holds(&api);
    worker.stop();
    api.stop();
}

#[test]
fn killed_master_loses_no_like() {
    let mut rng = seed::rng("killed master");
    let (mut cluster, nats) = (RedisCluster::with_replica(), Server::start(Kind::Nats));
    // The suspended replica costs no more than a second of a look at the cluster.
    let setup = setup(&cluster, &nats).set("LIKEWISE_REDIS_TIMEOUT_SECONDS", 1);
    let service = setup.start();
    let running = Crowd::USUAL.start(&service, &mut rng);
    running.wait_for(100);
    until_seen(
        "likes to be cached",
        || service.client().like(1_000, 1),
        |like| like.cached,
    );
    // While its replica is suspended, nobody takes over, so the outage lasts until the test has seen it.
    cluster.nodes[MASTERS].suspend();
    cluster.nodes[0].kill();
    until_seen(
        "the killed master to be shown",
        || cache_of(&service),
        |cache| cache["state"] == "down" && states(cache).contains(&"down"),
    );
    running.wait_for(50);
    service.client().until_status("/readyz", 200);
    cluster.nodes[MASTERS].resume();
    until("the replica to be promoted", PATIENCE, || {
        let cache = cache_of(&service);
        let is_up = cache["state"] == "up" && states(&cache) == ["up"; MASTERS];
        is_up.then_some(()).ok_or(cache)
    });
    // The service may have learned of it from another node.
    until_equal("a node to know the new master", true, || {
        cluster.is_master(MASTERS, 1)
    });
    until_seen(
        "likes to be cached",
        || service.client().like(1_000, 1),
        |like| like.cached,
    );
    // The old master comes back as a replica of the new one.
    cluster.nodes[0].run();
    running.wait_for(200);
    let diary = running.stop();
    assert!(diary.not_acknowledged().is_empty(), "{diary:?}");
    pipeline_drains(&service);
    everything_holds(&service);
    diary_is_kept(service.database(), &diary);
    service.stop();
}
