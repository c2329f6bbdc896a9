//! Processes on one database notice that they are set up differently.

use crate::support::database::Database;
use crate::support::servers::{Kind, Server};
use crate::support::service::{Service, Setup};
use crate::support::{until_equal, until_seen};

#[track_caller]
fn warnings(service: &Service, wanted: usize) -> String {
    let warnings = || service.client().get("/readyz").json()["warnings"].clone();
    let found = until_seen("the processes to notice each other", warnings, |found| {
        found.as_array().map_or(0, Vec::len) == wanted
    });
    found.to_string()
}

#[test]
fn processes_warn_of_different_redis_and_nats() {
    for kind in [Kind::MariaDb, Kind::Postgres] {
        let (redis, nats) = (Server::start(Kind::Redis), Server::start(Kind::Nats));
        let database = Database::hosted(kind);
        let setup = || Setup::new().on(&database);
        let full = setup()
            .set("LIKEWISE_REDIS_URL", redis.url())
            .set("LIKEWISE_NATS_URL", nats.url())
            .start();
        let poor = setup().start();
        for (service, seen) in [
            (&full, "here Redis, there none"),
            (&poor, "here none, there NATS stream"),
        ] {
            let said = warnings(service, 2);
            assert!(said.contains(seen), "{said}");
            assert_eq!(service.logged("another process on this database").len(), 2);
        }
        poor.stop();
        assert_eq!(warnings(&full, 0), "null");
        assert_eq!(full.logged("are set up alike again").len(), 1);
        full.stop();
        let left = database.rows("SELECT COUNT(*) FROM likewise_processes");
        assert_eq!(left[0][0].number(), 0);
    }
}

#[test]
fn processes_warn_of_different_resource_types() {
    let database = Database::hosted(Kind::Postgres);
    let serving = |types: &str| {
        let setup = Setup::new().on(&database);
        setup.set("LIKEWISE_RESOURCE_TYPES", types).start()
    };
    let (few, more) = (serving("video,comment"), serving("video,comment,post"));
    for (service, seen) in [
        (&few, "here comment, video, there comment, post, video"),
        (&more, "here comment, post, video, there comment, video"),
    ] {
        let said = warnings(service, 1);
        assert!(said.contains(seen), "{said}");
    }
    // The order of the setting is no difference.
    more.stop();
    let same = serving("comment,video");
    assert_eq!(warnings(&same, 0), "null");
    assert_eq!(warnings(&few, 0), "null");
}

#[test]
fn startup_without_redis_and_nats_names_both_settings() {
    let (mut redis, mut nats) = (Server::start(Kind::Redis), Server::start(Kind::Nats));
    redis.kill();
    nats.kill();
    let service = Setup::new()
        .set("LIKEWISE_REDIS_URL", redis.url())
        .set("LIKEWISE_NATS_URL", nats.url())
        .start();
    for said in [
        "dependency=cache setting=LIKEWISE_REDIS_URL",
        "dependency=broker setting=LIKEWISE_NATS_URL",
    ] {
        until_equal("the log to say so", 1, || service.logged(said).len());
    }
    // The health monitor probes the dependencies after the start.
    let states = || {
        let parts = service.client().get("/readyz").json()["parts"].clone();
        ["cache", "broker"].map(|part| parts[part]["state"].clone())
    };
    until_equal(
        "both to be shown as down",
        ["down", "down"].map(serde_json::Value::from),
        states,
    );
    service.stop();
}
