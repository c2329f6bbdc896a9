//! No watcher misses the last count, whatever is away, restarts or is killed meanwhile.

use super::watch;
use crate::support::database::Database;
use crate::support::servers::{Kind, Server};
use crate::support::service::{Service, Setup};
use crate::support::sse::EventSource;
use crate::support::{PATIENCE, until};

/// A process with an api and a worker of its own.
const ALL: [&str; 1] = ["serve"];

#[test]
fn count_arrives_although_nats_was_away() {
    let mut nats = Server::start(Kind::Nats);
    let redis = Server::start(Kind::Redis);
    let setup = Setup::new()
        .on(&Database::hosted(Kind::MariaDb))
        .set("LIKEWISE_NATS_URL", nats.url())
        .set("LIKEWISE_REDIS_URL", redis.url());
    let first = setup.start_as(&ALL);
    let second = first.setup().beside().start_as(&ALL);
    let (here, there) = (watch(&first, 7), watch(&second, 7));
    first.client().like(1, 7);
    there.until_count(7, 1);
    nats.kill();
    // Without NATS, the process that accepts a like records it, and the other one finds it in the database.
    first.client().like(2, 7);
    here.until_count(7, 2);
    there.until_count(7, 2);
    nats.run();
    first.client().like(3, 7);
    second.client().like(4, 7);
    here.until_count(7, 4);
    there.until_count(7, 4);
    first.stop();
    second.stop();
}

#[test]
fn count_of_a_process_without_nats_arrives_at_another() {
    let first = Setup::new().on(&Database::hosted(Kind::Postgres)).start();
    let second = first.setup().beside().start();
    let source = watch(&second, 7);
    source.until_count(7, 0);
    first.client().like(1, 7);
    source.until_count(7, 1);
    // A killed process announces nothing more.
    first.client().like(2, 7);
    first.kill();
    source.until_count(7, 2);
    second.stop();
}

/// Watches a video. On a busy machine, the database may first be too slow for its short limit.
#[track_caller]
fn watch_at_last(service: &Service, video: i64) -> EventSource {
    let path = format!("/v1/videos/{video}/likes/live");
    until("the watch to be accepted", PATIENCE, || {
        let source = EventSource::open(service.address(), &path, &[]);
        let received = source.received();
        match received.status {
            200 => Ok(source),
            _ => Err(format!("{received:?}")),
        }
    })
}

#[test]
fn watcher_waits_while_the_database_is_away() {
    let mut server = Server::start(Kind::MariaDb);
    let service = Setup::new()
        .on(&Database::first_of(&server))
        .set("LIKEWISE_READ_TIMEOUT_SECONDS", 1)
        .start();
    let client = service.client();
    let source = watch_at_last(&service, 7);
    source.until_count(7, 0);
    server.kill();
    // An open stream stays open. A new one that needs the database is refused for a while.
    let refused = client.until_status("/v1/videos/8/likes/live", 503);
    assert_eq!(refused.problem(), "unavailable");
    server.run();
    let _ = crate::support::until_seen(
        "a like to be accepted",
        || client.try_like("PUT", 1, 7).map(|answer| answer.status),
        |status| *status == Ok(200),
    );
    source.until_count(7, 1);
    watch_at_last(&service, 8).until_count(8, 0);
    service.stop();
}
