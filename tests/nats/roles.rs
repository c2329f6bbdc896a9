//! Separate roles: one process accepts likes, others record them.

use crate::support::checks::{diary_is_kept, everything_holds, stored_once};
use crate::support::crowd::Crowd;
use crate::support::database::Database;
use crate::support::redis_and_nats::Stack;
use crate::support::servers::{Kind, Server};
use crate::support::service::{Service, Signal};
use crate::support::{PATIENCE, seed, until_seen};

const CROWD: Crowd = Crowd::USUAL;

/// An api and two workers on the same servers.
struct Parted {
    // Dropped first, before their dependencies.
    api: Service,
    workers: [Service; 2],
    stack: Stack,
    _database: Server,
}

impl Parted {
    fn start() -> Self {
        let stack = Stack::start();
        let server = Server::start(Kind::MariaDb);
        let database = Database::first_of(&server);
        let start = |role: &str| {
            // Small batches, so that both workers get some.
            let setup = stack.setup().on(&database).set("LIKEWISE_BATCH_SIZE", 8);
            setup.start_as(&["serve", "--role", role])
        };
        Self {
            api: start("api"),
            workers: [start("worker"), start("worker")],
            stack,
            _database: server,
        }
    }
}

#[test]
fn api_and_two_workers_share_the_work() {
    let mut rng = seed::rng("roles");
    let Parted {
        api,
        workers: [first, second],
        ..
    } = &Parted::start();
    let running = CROWD.start(api, &mut rng);
    running.wait_for(300);
    for worker in [first, second] {
        let processed = || worker.client().actor("nats_subscriber").processed;
        until_seen("each worker to take its share", processed, |processed| {
            *processed > 0
        });
    }
    let diary = running.stop();
    assert!(diary.not_acknowledged().is_empty());
    everything_holds(api);
    diary_is_kept(api.database(), &diary);
}

#[test]
fn each_role_serves_its_own_routes() {
    let Parted {
        api,
        workers: [worker, _],
        ..
    } = &Parted::start();
    for method in ["GET", "PUT", "DELETE"] {
        let answer = worker.client().try_like(method, 1, 1).expect("an answer");
        assert_eq!(answer.status, 404, "{method}: {answer:?}");
        answer.problem();
    }
    assert!(api.client().like(1, 1).liked);
    for service in [api, worker] {
        for path in ["/healthz", "/readyz", "/metrics"] {
            let answer = service.client().get(path);
            assert_eq!(answer.status, 200, "{path}: {answer:?}");
        }
    }
    let has = |service: &Service, name: &str| {
        let actors = service.client().actors();
        actors.iter().any(|actor| actor.name == name)
    };
    assert!(has(api, "event_publisher") && !has(api, "nats_subscriber"));
    assert!(has(worker, "nats_subscriber") && !has(worker, "event_publisher"));
    assert!(has(worker, "retry_scheduler") && !has(api, "retry_scheduler"));
}

#[test]
fn every_role_drains_under_load() {
    let mut rng = seed::rng("roles drain");
    let Parted {
        mut api,
        workers: [first, second],
        stack,
        _database,
    } = Parted::start();
    let running = CROWD.start(&api, &mut rng);
    running.wait_for(100);
    // One worker stops, and the other takes over.
    first.stop();
    running.wait_for(100);
    // The api stops, and its acknowledged likes stay.
    api.signal(Signal::INT);
    let status = api.wait(PATIENCE);
    assert!(status.success(), "the api stopped with {status}");
    let diary = running.stop();
    let events = diary.acknowledged();
    assert!(events.len() >= 150, "{} acknowledged", events.len());
    second.setup().verify(60).holds();
    stored_once(second.database(), events);
    diary_is_kept(second.database(), &diary);
    second.stop();
    drop(stack);
}
