//! A process that starts during an outage of its database waits for it, and is ready as soon as the database answers.

use serde_json::json;

use crate::support::checks::ledger_closes;
use crate::support::database::Database;
use crate::support::redis_and_nats::Stack;
use crate::support::servers::{Kind, Server};
use crate::support::service::{Service, Setup};

fn becomes_ready(service: &Service) {
    service.client().until_status("/readyz", 200);
}

matrix!([mariadb, postgres]: api_and_worker_started_without_database_recover);

fn api_and_worker_started_without_database_recover(kind: Kind) {
    let stack = Stack::start();
    let mut server = Server::start(kind);
    let database = Database::first_of(&server);
    server.kill();
    let setup = stack.setup().on(&database);
    let api = setup.beside().start_as(&["serve", "--role", "api"]);
    let worker = setup.start_as(&["serve", "--role", "worker"]);

    assert_eq!(worker.client().get("/healthz").status, 200);
    let answer = worker.client().get("/readyz");
    assert_eq!(answer.status, 503, "{answer:?}");
    let said = answer.json();
    assert_eq!(said["parts"]["database"]["state"], "down", "{said:#}");
    assert_eq!(said["waiting_for"], "database", "{said:#}");
    assert_eq!(
        said["reasons"],
        json!(["the process waits for the database"])
    );
    // With one dependency down, likes are still accepted.
    becomes_ready(&api);
    for video in 1..=20 {
        assert_eq!(api.client().like(1, video).durability, "broker");
    }

    // So does a process that is also a worker, whose subscriber does not know its consumer yet.
    let both = worker.setup().beside().start();
    for user in 2..=21 {
        assert_eq!(both.client().like(user, 1).durability, "broker");
    }
    assert_eq!(both.client().actor("nats_subscriber").errors, 0);

    server.run();
    becomes_ready(&worker);
    becomes_ready(&both);
    becomes_ready(&api);
    ledger_closes(&database);
    database.until_count("video_likes WHERE deleted_at IS NULL", 40);
    for service in [&api, &worker, &both] {
        let logged = service.log();
        let said = logged.matches("waiting for the database").count();
        assert_eq!(said, 1, "{logged}");
    }
    drop((api, both));
    worker.stop().verify(60).holds();
}

matrix!([mariadb, postgres]: wrong_credentials_fail_startup_at_once);

fn wrong_credentials_fail_startup_at_once(kind: Kind) {
    let database = Database::hosted(kind);
    let (scheme, rest) = database.url().split_once("://").map_or_else(
        || panic!("a URL without a scheme"),
        |(scheme, rest)| (scheme.to_owned(), rest.to_owned()),
    );
    let (_, host) = rest.rsplit_once('@').expect("a user");
    let (host, _) = host.rsplit_once('/').expect("a database");
    for url in [
        format!("{scheme}://nobody:wrong@{host}/likewise"),
        format!("{scheme}://likewise@{host}/no_such_database"),
    ] {
        let setup = Setup::new().set("LIKEWISE_DATABASE_URL", &url);
        let ran = setup.run(&["serve"]);
        assert_eq!(ran.code, Some(1), "{url}: {ran:?}");
        assert!(
            ran.stderr.contains("LIKEWISE_DATABASE_URL"),
            "{url}: {ran:?}"
        );
        assert!(!ran.stderr.contains("wrong@"), "{ran:?}");
    }
}
