//! Facts in the NATS stream.

use std::collections::BTreeMap;
use std::time::Instant;

use async_nats::jetstream;
use async_nats::jetstream::stream::{Config, StorageType};
use likewise::config::PartialConfig;
use likewise::domain::{self, CurrentDeployment, Fact, FactKind, Resource, Version};
use likewise::nats::{Broker, Published};
use rand::RngExt;
use uuid::Uuid;

use super::{are_in_order, facts_in_stream, first_arrivals, in_stream, tell_the_database};
use crate::nats::Publisher;
use crate::support::checks::pipeline_drains;
use crate::support::crowd::{Crowd, Pair};
use crate::support::database::Database;
use crate::support::redis_and_nats::Stack;
use crate::support::servers::{Kind, Server};
use crate::support::service::{Service, Setup};
use crate::support::{PATIENCE, runtime, seed, until, until_seen};

matrix!([mariadb_stack, postgres_stack]: facts_are_the_committed_changes);

const CROWD: Crowd = Crowd {
    first_user: 1,
    threads: 4,
    users: 5,
    videos: 4,
};

fn url(service: &Service) -> String {
    service.setup().setting("LIKEWISE_NATS_URL")
}

#[track_caller]
fn facts_tell_the_database(service: &Service) {
    let url = url(service);
    until("facts to tell the database", PATIENCE, || {
        let facts = first_arrivals(&facts_in_stream(&url)?);
        tell_the_database(&facts, service.database())
    });
    are_in_order(&first_arrivals(&facts_in_stream(&url).expect("facts")));
    service.database().until_count("likewise_outbox", 0);
}

/// In each round every pair gets one request, or none, and the round is committed before the next. So the changes are
/// known.
fn facts_are_the_committed_changes(setup: Setup) {
    let mut rng = seed::rng("facts");
    let service = setup.set("LIKEWISE_FACTS_STREAM", "true").start();
    let client = service.client();
    let mut liked: BTreeMap<Pair, bool> = BTreeMap::new();
    let mut changes: BTreeMap<Pair, Vec<&str>> = BTreeMap::new();
    for _ in 0..6 {
        for pair @ (user, video) in (1..=4).flat_map(|user| [(user, 7), (user, 8)]) {
            let like = match rng.random_range(0..3) {
                0 => continue,
                draw => draw == 1,
            };
            if like {
                client.like(user, video);
            } else {
                client.unlike(user, video);
            }
            if liked.insert(pair, like).unwrap_or(false) != like {
                let fact = if like { "liked" } else { "unliked" };
                changes.entry(pair).or_default().push(fact);
            }
        }
        pipeline_drains(&service);
    }
    facts_tell_the_database(&service);
    let mut seen: BTreeMap<Pair, Vec<String>> = BTreeMap::new();
    for (subject, id, fact) in in_stream(&url(&service)).expect("messages") {
        assert_eq!(subject, format!("likewise.facts.video.{}", fact.fact));
        assert_eq!(id, fact.event_id);
        seen.entry(fact.pair()).or_default().push(fact.fact);
    }
    let changes: BTreeMap<_, Vec<String>> = changes
        .into_iter()
        .map(|(pair, facts)| (pair, facts.into_iter().map(str::to_owned).collect()))
        .collect();
    assert_eq!(seen, changes);
    let metrics = service.client().get("/metrics").text;
    assert!(
        metrics.contains("likewise_facts_delivered_total{receiver=\"stream\"}"),
        "{metrics}"
    );
}

#[test]
fn kill_9_and_an_outage_of_nats_lose_no_fact() {
    let mut rng = seed::rng("facts after kill");
    let mut stack = Stack::start();
    let server = Server::start(Kind::MariaDb);
    let setup = stack
        .setup()
        .on(&Database::first_of(&server))
        .set("LIKEWISE_FACTS_STREAM", "true");
    let mut service = setup.start();
    for round in 0..3 {
        let running = CROWD.start(&service, &mut rng);
        running.wait_for(150);
        if round == 1 {
            stack.nats.stop();
            running.wait_for(300);
            stack.nats.run();
            running.stop();
        } else {
            service = service.kill().start();
            running.stop();
        }
    }
    pipeline_drains(&service);
    facts_tell_the_database(&service);
}

#[test]
fn another_worker_takes_over_from_a_killed_one() {
    let mut rng = seed::rng("facts of two workers");
    let stack = Stack::start();
    let server = Server::start(Kind::Postgres);
    let database = Database::first_of(&server);
    let start = || {
        let setup = stack.setup().on(&database);
        // Small batches, so that both get some.
        let setup = setup.set("LIKEWISE_BATCH_SIZE", 8);
        setup.set("LIKEWISE_FACTS_STREAM", "true").start()
    };
    let (first, second) = (start(), start());
    let leased = |service: &Service| {
        let details = service.client().actor("fact_publisher").details;
        details["receivers"][0]["leased"] == true
    };
    let running = CROWD.start(&second, &mut rng);
    running.wait_for(300);
    running.stop();
    pipeline_drains(&second);
    facts_tell_the_database(&second);
    let first_publishes = until("one worker to report its lease", PATIENCE, || {
        match (leased(&first), leased(&second)) {
            // A worker that hung for longer than its lease has not noticed yet.
            (true, true) => Err("both say that they publish"),
            (false, false) => Err("none publishes"),
            (first, _) => Ok(first),
        }
    });
    let (killed, left) = match first_publishes {
        true => (first, second),
        false => (second, first),
    };
    drop(killed.kill());
    for user in 101..=110 {
        left.client().like(user, 1);
    }
    pipeline_drains(&left);
    facts_tell_the_database(&left);
}

/// A process that was stopped for longer than its lease wakes after its successor has published.
#[test]
fn stream_rejects_messages_of_a_former_publisher() {
    let nats = Server::start(Kind::Nats);
    let setup = Setup::new().set("LIKEWISE_NATS_URL", nats.url());
    let file = setup.folder().join("likewise.toml");
    let text = format!("nats_url = {:?}\nfacts_stream = true\n", nats.url());
    std::fs::write(&file, text).expect("a file");
    let settings = PartialConfig::default().load(&file).expect("settings");
    let stream = settings.facts.stream.expect("a stream");
    let fact = |version: i64| Fact {
        event_id: Uuid::now_v7(),
        kind: FactKind::Liked,
        pair: domain::Pair {
            resource: Resource::video(7),
            user_id: version.into(),
        },
        like_count: 1,
        version: Version(version),
        trace: None,
    };
    let (older, newer) = (fact(1), fact(2));
    runtime().block_on(async {
        let nats = settings.nats.expect("NATS");
        let connect = async || {
            let connected = Broker::connect(nats.clone(), CurrentDeployment::default()).await;
            connected.expect("a broker")
        };
        let (former, successor) = (connect().await, connect().await);
        former.wait_until_connected(PATIENCE).await;
        successor.wait_until_connected(PATIENCE).await;
        let (end, differences) = former.facts_stream(&stream).await.expect("a stream");
        assert_eq!((end, differences), (0, Vec::new()));
        let (successors_end, _) = successor.facts_stream(&stream).await.expect("a stream");
        let publish = async |broker: &Broker, fact: &Fact, end: u64| {
            let sent = broker.publish_fact(fact, false, end).await;
            sent.expect("it is sent").acknowledged().await
        };
        let stored = publish(&successor, &newer, successors_end).await;
        assert!(matches!(stored, Published::Stored(1)), "{stored:?}");
        let refused = publish(&former, &older, end).await;
        assert!(matches!(refused, Published::Overtaken), "{refused:?}");
        let (end, _) = former.facts_stream(&stream).await.expect("a stream");
        let repeated = publish(&former, &newer, end).await;
        assert!(matches!(repeated, Published::Repeated), "{repeated:?}");
    });
    assert_eq!(facts_in_stream(&nats.url()).expect("facts").len(), 1);
}

#[test]
fn facts_wait_while_the_stream_is_not_durable() {
    let stack = Stack::start();
    let context = || async {
        let client = async_nats::connect(stack.nats.url()).await;
        jetstream::new(client.expect("a connection"))
    };
    runtime().block_on(async {
        let config = Config {
            name: "LIKEWISE_FACTS".to_owned(),
            subjects: vec!["likewise.facts.>".to_owned()],
            storage: StorageType::Memory,
            ..Config::default()
        };
        let created = context().await.create_stream(config).await;
        created.expect("a stream");
    });
    let setup = stack.setup().set("LIKEWISE_FACTS_STREAM", "true");
    let service = setup.start();
    service.client().like(42, 7);
    let failing = || service.client().get("/readyz").json()["failing"].to_string();
    until_seen("the reason to be reported", failing, |failing| {
        failing.contains("delivering facts")
    });
    let error = service.client().actor("fact_publisher").last_error;
    let error = error.expect("an error");
    assert!(error.contains("storage is \"memory\""), "{error}");
    pipeline_drains(&service);
    let waiting = service.database().count("likewise_outbox");
    assert_eq!(waiting, 1);
    let delete_stream = || {
        runtime().block_on(async {
            let deleted = context().await.delete_stream("LIKEWISE_FACTS").await;
            deleted.expect("the stream is deleted");
        });
    };
    delete_stream();
    facts_tell_the_database(&service);

    // A fact that no stream acknowledges waits until there is one again.
    delete_stream();
    service.client().like(43, 7);
    until("the fact in a new stream", PATIENCE, || {
        let facts = facts_in_stream(&url(&service))?;
        let users: Vec<_> = facts.iter().map(|fact| fact.user_id).collect();
        (users == [43]).then_some(()).ok_or(format!("{users:?}"))
    });
}

#[test]
fn no_fact_is_stored_without_a_receiver() {
    let service = Setup::new().start();
    service.client().like(42, 7);
    pipeline_drains(&service);
    let rows = service.database().count("likewise_outbox");
    assert_eq!(rows, 0);
    let actors = service.client().actors();
    assert!(actors.iter().all(|actor| actor.name != "fact_publisher"));
    let refused = Setup::new()
        .set("LIKEWISE_FACTS_STREAM", "true")
        .run(&["serve"]);
    assert_eq!(refused.code, Some(1));
    refused.reports("LIKEWISE_NATS_URL");
}

#[test]
fn each_commit_wakes_the_publisher() {
    let stack = Stack::start();
    let setup = stack.setup().set("LIKEWISE_FACTS_STREAM", "true");
    let service = setup.start();
    service.client().like(1, 1);
    facts_tell_the_database(&service);
    let told = || {
        let messages = service.client().actor("fact_publisher").messages;
        let mut told = messages
            .iter()
            .filter(|one| one["type"] == "FactsCommitted");
        told.next().and_then(|one| one["done"].as_i64())
    };
    let publisher = Publisher::of(&stack.nats);
    let mut facts = publisher.subscribe("likewise.facts.>");
    let mut waits = Vec::new();
    for user in 2..12 {
        let liked = Instant::now();
        service.client().like(user, 1);
        // An earlier fact may be repeated.
        while publisher.next(&mut facts).1["user_id"] != user {}
        waits.push(liked.elapsed());
        // One commit of each user, after which the publisher does not wait for its timer.
        until_seen("the publisher to be told", &told, |told| {
            *told >= Some(user)
        });
    }
    waits.sort_unstable();
    crate::support::say(format_args!("from like to fact: {waits:?}"));
}
