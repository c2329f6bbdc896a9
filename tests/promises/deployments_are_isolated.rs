//! A cache or stream of another database, or of the time before a backup was restored, is never read.

use crate::support::backup::Backup;
use crate::support::checks::pipeline_drains;
use crate::support::database::Database;
use crate::support::servers::{Kind, Server};
use crate::support::service::{Service, Setup};
use crate::support::until_seen;

matrix!([mariadb_stack, postgres_stack]:
    two_databases_share_redis_and_nats,
    restored_backup_takes_later_events_from_stream,
);

matrix!([embedded, mariadb, postgres]: restored_backup_starts_with_empty_cache);

fn behaviors(service: &Service) -> i64 {
    service.database().count("user_behaviors")
}

fn generation(database: &Database) -> String {
    database.texts("SELECT generation FROM likewise_deployment")[0].clone()
}

/// Waits for two more heartbeats, so that the first of them is in the cache.
fn beats_twice(database: &Database) {
    let beat = || database.number("SELECT beat FROM likewise_deployment");
    let before = beat();
    until_seen("two heartbeats", beat, |now| *now >= before + 2);
}

#[track_caller]
fn logs(service: &Service, text: &str) {
    service.until_logged(text);
}

/// A new database on the same server, or a new file.
fn another_database(of: &Database) -> Database {
    match of {
        Database::Sqlite(path) => Database::sqlite(&path.with_extension("other")),
        Database::MariaDb(_) => Database::hosted(Kind::MariaDb),
        Database::Postgres(_) => Database::hosted(Kind::Postgres),
    }
}

fn two_databases_share_redis_and_nats(setup: Setup) {
    let first = setup.start();
    for user in 1..=3 {
        assert_eq!(first.client().like(user, 7).durability, "broker");
    }
    pipeline_drains(&first);

    let other = first.setup().beside();
    let database = another_database(first.database());
    let second = other.on(&database).start();
    let read = second.client().read(1, 7);
    assert_eq!((read.liked, read.like_count), (false, Some(0)));
    logs(&second, "Redis also holds the cache of another database");
    logs(&second, "the stream belongs to another database as well");
    assert_eq!(second.client().like(9, 7).durability, "broker");
    assert_eq!(first.client().like(4, 7).durability, "broker");
    for service in [&first, &second] {
        pipeline_drains(service);
    }
    assert_eq!((behaviors(&first), behaviors(&second)), (4, 1));
    assert_eq!(first.client().read(1, 7).like_count, Some(4));
    assert_eq!(second.client().read(9, 7).like_count, Some(1));
    // Each resumes where it stopped.
    let second = second.stop().start();
    assert_eq!(second.client().like(10, 7).like_count, Some(2));
    pipeline_drains(&second);
    assert_eq!((behaviors(&first), behaviors(&second)), (4, 2));
    for service in [first, second] {
        service.stop().verify(60).holds();
    }
}

fn restored_backup_takes_later_events_from_stream(setup: Setup) {
    let service = setup.start();
    for user in 1..=5 {
        service.client().like(user, 7);
    }
    pipeline_drains(&service);
    let backup = Backup::of(service.database());
    for user in 6..=10 {
        service.client().like(user, 7);
    }
    service.client().unlike(1, 7);
    pipeline_drains(&service);
    beats_twice(service.database());
    let before = generation(service.database());
    let setup = service.stop();
    backup.restore();
    assert_eq!(setup.database().count("user_behaviors"), 5);

    let service = setup.start();
    logs(
        &service,
        "the database is in an earlier state than cache or stream",
    );
    assert_ne!(generation(service.database()), before);
    pipeline_drains(&service);
    assert_eq!(behaviors(&service), 11);
    let read = service.client().read(1, 7);
    assert_eq!((read.liked, read.like_count), (false, Some(9)));
    let setup = service.stop();
    setup.verify(60).holds();
    // The next start is an ordinary one.
    let renewed = generation(setup.database());
    let service = setup.start();
    assert_eq!(generation(service.database()), renewed);
    assert!(
        !service.log().contains("earlier state"),
        "{}",
        service.log()
    );
}

#[test]
fn stream_alone_notices_a_restored_backup() {
    let nats = Server::start(Kind::Nats);
    let service = Setup::new().set("LIKEWISE_NATS_URL", nats.url()).start();
    service.client().like(1, 7);
    pipeline_drains(&service);
    let backup = Backup::of(service.database());
    service.client().like(2, 7);
    pipeline_drains(&service);
    // A starting process lets the consumer remember its heartbeat.
    let service = service.stop().start();
    beats_twice(service.database());
    let setup = service.stop();
    backup.restore();
    let service = setup.start();
    logs(
        &service,
        "the database is in an earlier state than cache or stream",
    );
    pipeline_drains(&service);
    assert_eq!(service.client().read(2, 7).like_count, Some(2));
    service.stop().verify(60).holds();
}

#[test]
fn unreadable_heartbeat_is_not_replaced_by_an_earlier_one() {
    let redis = Server::start(Kind::Redis);
    let permit = |rule: &str| {
        let client = redis::Client::open(redis.url()).expect("a URL");
        let mut connection = client.get_connection().expect("a connection");
        let set = redis::cmd("ACL")
            .arg("SETUSER")
            .arg("default")
            .arg(rule)
            .exec(&mut connection);
        set.expect("a rule");
    };
    let service = Setup::new().set("LIKEWISE_REDIS_URL", redis.url()).start();
    let backup = Backup::of(service.database());
    // More heartbeats than the process counts while it cannot read the latest.
    service
        .database()
        .execute(&["UPDATE likewise_deployment SET beat = beat + 1000"]);
    beats_twice(service.database());
    let setup = service.stop();
    backup.restore();
    permit("-get");
    let service = setup.start();
    beats_twice(service.database());
    permit("+get");
    logs(
        &service,
        "the database is in an earlier state than cache or stream",
    );
    service.stop();
}

fn restored_backup_starts_with_empty_cache(setup: Setup) {
    let redis = Server::start(Kind::Redis);
    let is_file = matches!(setup.database(), Database::Sqlite(_));
    // A file is restored while nothing uses it; a database on a server, also while a service works.
    let service = setup.set("LIKEWISE_REDIS_URL", redis.url()).start();
    let client = service.client();
    client.like(1, 7);
    pipeline_drains(&service);
    let backup = Backup::of(service.database());
    client.like(2, 7);
    pipeline_drains(&service);
    assert_eq!(client.read(2, 7).like_count, Some(2));
    beats_twice(service.database());
    let service = if is_file {
        let setup = service.stop();
        backup.restore();
        setup.start()
    } else {
        backup.restore();
        service
    };
    logs(
        &service,
        "the database is in an earlier state than cache or stream",
    );
    service.client().until_read(2, 7, (false, Some(1)));
    let shown = service.setup().run(&["deployment", "show"]);
    let generation = generation(service.database());
    shown.prints(&generation);
    let renewed = service.setup().run(&["deployment", "renew", "--json"]);
    renewed.exits(0);
    assert!(!renewed.stdout.contains(&generation), "{renewed:?}");
    logs(&service, "the deployment has a new generation");
    service.stop().verify(60).holds();
}
