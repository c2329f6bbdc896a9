//! The tables are the same on every database, and concurrent migrations are safe.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::thread::{JoinHandle, spawn};

use diesel::connection::SimpleConnection;
use diesel::{Connection, SqliteConnection};
use likewise::store::{self, Store, StoreError};

use super::fixture::{Bench, options};
use crate::support::database::Database;
use crate::support::servers::Kind;
use crate::support::service::{Process, Setup, Signal};
use crate::support::{PATIENCE, until_seen, wait};

matrix!([sqlite, mariadb, postgres]: concurrent_starts_on_a_new_database_become_ready,
    older_release_starts_beside_a_newer_one);

matrix!(&[sqlite, mariadb, postgres]: second_migration_runs_nothing,
    unreadable_migrations_are_no_missing_migrations,
    held_lease_delays_migrations_until_it_expires);

matrix!(&[mariadb, postgres]: concurrent_migrations_all_succeed);

#[test]
fn each_database_has_the_same_migrations() {
    let folders = ["sqlite", "mysql", "postgres"].map(|database| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("migrations")
            .join(database);
        let entries = fs::read_dir(folder).expect("migrations");
        let names = entries.map(|entry| entry.expect("an entry").file_name());
        names.collect::<BTreeSet<_>>()
    });
    assert!(!folders[0].is_empty());
    assert_eq!(folders[0], folders[1]);
    assert_eq!(folders[0], folders[2]);
}

/// The service lists its migrations, and derives the likes table of each resource type from that of the videos. Its
/// files for comments are for the diesel command line.
#[test]
fn each_migration_is_listed_and_comments_follow_videos() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let listed = fs::read_to_string(folder.join("src/store/migrate/scripts.rs")).expect("a list");
    for database in ["sqlite", "mysql", "postgres"] {
        let folder = folder.join("migrations").join(database);
        for entry in fs::read_dir(&folder).expect("migrations") {
            let name = entry.expect("an entry").file_name();
            let name = name.to_str().expect("UTF-8");
            let is_derived = name.ends_with("_create_comment_likes");
            let is_listed = listed.contains(&format!("\"{name}\""));
            assert_ne!(is_listed, is_derived, "{name}");
        }
        for file in ["up.sql", "down.sql"] {
            let read = |name| {
                let sql = fs::read_to_string(folder.join(name).join(file)).expect(file);
                let code = sql.lines().filter(|line| !line.starts_with("--"));
                code.collect::<Vec<_>>().join("\n")
            };
            let video = read("2026-11-25-000008_create_video_likes");
            let comment = read("2026-11-25-000009_create_comment_likes");
            let derived = video.replace("video", "comment");
            assert_eq!(comment, derived, "{database}/{file}");
        }
    }
}

#[test]
fn each_database_has_the_same_tables_and_columns() {
    let [sqlite, mariadb, postgres] = [None, Some(Kind::MariaDb), Some(Kind::Postgres)]
        .map(|kind| Bench::new(kind).database().columns());
    assert!(sqlite.contains(&("sync_events".to_owned(), "fencing_token".to_owned())));
    // Without partial indexes, MariaDB needs columns that keep failed rows and counted behaviors apart.
    let own = [
        ("sync_events", "failure_status"),
        ("user_behaviors", "counted_resource_id"),
    ];
    let is_own = |(table, column): &(String, String)| own.contains(&(table, column));
    let of_mariadb: Vec<_> = mariadb.into_iter().filter(|one| !is_own(one)).collect();
    assert_eq!(sqlite, of_mariadb);
    assert_eq!(sqlite, postgres);
}

fn second_migration_runs_nothing(bench: &Bench) {
    bench.record(&[super::fixture::like(1.into(), 1)]);
    let again = wait(store::migrate(&options(bench.database())));
    assert_eq!(again.expect("migrations"), Vec::<String>::new());
    assert_eq!(bench.ask(Store::open_rows), 1);
}

fn unreadable_migrations_are_no_missing_migrations(bench: &Bench) {
    bench.execute(&["ALTER TABLE likewise_schema_migrations RENAME COLUMN name TO renamed"]);
    let connected = wait(store::connect(&options(bench.database())));
    let error = connected.err().expect("the table cannot be read");
    assert!(!matches!(error, StoreError::Migration(_)), "{error}");
}

fn concurrent_migrations_all_succeed(setup: &Setup) {
    let processes = [(); 3].map(|()| setup.launch(&["migrate"]));
    let ran = processes.map(|process| process.finish());
    assert!(ran.iter().all(|ran| ran.code == Some(0)), "{ran:#?}");
    let migrated = ran.iter().filter(|ran| ran.stdout.contains("migrated "));
    assert_eq!(migrated.count(), 1, "{ran:#?}");
    assert!(setup.database().sizes().iter().all(|(_, rows)| *rows == 0));
}

/// Where each statement commits on its own, a migration may be applied and not recorded.
#[test]
fn migration_killed_before_its_record_runs_again() {
    let bench = Bench::new(Some(Kind::MariaDb));
    let (database, noted) = (bench.database(), "likewise_schema_migrations");
    let all = database.count(noted);
    let rows = bench.record(&[super::fixture::like(1.into(), 1)]);
    let indexes = "SELECT CONCAT_WS('.', table_name, index_name, seq_in_index, column_name) \
        FROM information_schema.statistics WHERE table_schema = DATABASE() ORDER BY 1";
    let before = (database.columns(), database.texts(indexes));
    for left in 0..all {
        let last = all - left;
        database.execute(&[&format!(
            "DELETE FROM {noted} ORDER BY name DESC LIMIT {last}"
        )]);
        let again = wait(store::migrate(&options(database))).expect("migrations");
        assert_eq!(again.len() as i64, last);
    }
    assert_eq!((database.columns(), database.texts(indexes)), before);
    bench.sync(&rows);
    bench.verified();
}

fn concurrent_starts_on_a_new_database_become_ready(setup: Setup) {
    let others = [(); 3].map(|()| setup.beside());
    let database = setup.database().clone();
    let setups = std::iter::once(setup).chain(others);
    let starts: Vec<_> = setups.map(|setup| spawn(|| setup.start())).collect();
    // All run until the last is ready: the file is in the folder of the first.
    let services = starts.into_iter().map(JoinHandle::join);
    let services: Vec<_> = services.map(|service| service.expect("a start")).collect();
    for service in &services {
        service.client().until_status("/readyz", 200);
    }
    let free = database.count("likewise_schema_lease WHERE holder = ''");
    assert_eq!(free, 1, "{database:?}");
}

/// Waits until a process logs that it waits for this holder of the lease.
fn waits_for(process: &mut Process, holder: &str) {
    let said = format!("{holder} holds the migration lease");
    let logged = || {
        assert_eq!(process.exit_status(), None, "{}", process.logged());
        process.logged()
    };
    until_seen("the process to wait for the lease", logged, |logged| {
        logged.contains(&said)
    });
}

fn held_lease_delays_migrations_until_it_expires(setup: &Setup) {
    if let Database::Sqlite(path) = setup.database() {
        fs::write(path, "").expect("a file");
    }
    let database = setup.database();
    database.execute(&[
        "CREATE TABLE likewise_schema_lease (name VARCHAR(64) NOT NULL PRIMARY KEY, \
         holder VARCHAR(255) NOT NULL, epoch BIGINT NOT NULL, expires_at TIMESTAMP NOT NULL)",
        "INSERT INTO likewise_schema_lease (name, holder, epoch, expires_at) \
         VALUES ('migrations', 'somebody', 7, '2037-01-01 00:00:00')",
    ]);
    let mut process = setup.launch(&["migrate"]);
    waits_for(&mut process, "somebody");
    assert_eq!(process.exit_status(), None);
    database.execute(&["UPDATE likewise_schema_lease SET expires_at = '2026-01-01 00:00:00'"]);
    let ran = process.finish();
    ran.exits(0);
    // The process logs the wait once. Its fencing token is higher than the previous one.
    assert_eq!(ran.stderr.matches("holds the migration lease").count(), 1);
    ran.prints("migrated ");
    let epoch = database.number("SELECT epoch FROM likewise_schema_lease");
    assert_eq!(epoch, 8);
    setup.verify(0).holds();
}

/// Deletes the record of the last migration and keeps its table, as if the migration was killed before it was recorded.
fn forget_last_migration(database: &Database) {
    database.execute(&[
        "DELETE FROM likewise_schema_migrations WHERE name LIKE '%_create_idempotency_keys'",
    ]);
}

const NOTED: &str = "likewise_schema_migrations WHERE name LIKE '%_create_idempotency_keys'";

/// Reverts the last migration.
fn revert_last_migration(database: &Database) {
    forget_last_migration(database);
    database.execute(&["DROP TABLE likewise_idempotency_keys"]);
}

#[test]
fn killed_migrator_is_replaced_by_another() {
    let setup = Setup::new().on(&Database::hosted(Kind::MariaDb));
    setup.run(&["migrate"]).exits(0);
    let database = setup.database();
    revert_last_migration(database);
    let held = database.hold_table_name("likewise_idempotency_keys");
    let mut killed = setup.launch(&["migrate"]);
    let waiting = "information_schema.processlist \
    WHERE db = DATABASE() AND state LIKE 'Waiting for table metadata lock%'";
    until_seen(
        "the migration to wait for the table",
        || database.count(waiting),
        |waiting| *waiting > 0,
    );
    killed.signal(Signal::KILL);
    killed.wait(PATIENCE);
    let expires = |at: &str| {
        let sql = format!("UPDATE likewise_schema_lease SET expires_at = '{at}'");
        database.execute(&[&sql]);
    };
    // It does not expire before the next one starts, however slow the machine is.
    expires("2037-01-01 00:00:00");
    let next = setup.launch(&["migrate"]);
    let named = format!("process {} ", killed.id());
    until_seen(
        "the process to wait for the one that was killed",
        || next.logged(),
        |logged| logged.contains(&named) && logged.contains("holds the migration lease"),
    );
    expires("2026-01-01 00:00:00");
    drop(held);
    let ran = next.finish();
    ran.exits(0);
    assert_eq!(database.count(NOTED), 1);
    assert_eq!(
        database.count("likewise_idempotency_keys WHERE version > 0"),
        0
    );
    setup.verify(0).holds();
}

#[test]
fn migration_waits_longer_for_locks_than_the_service() {
    let setup = Setup::new().on(&Database::hosted(Kind::Postgres));
    setup.run(&["migrate"]).exits(0);
    let database = setup.database();
    revert_last_migration(database);
    let held = database.hold_table_name("likewise_idempotency_keys");
    let mut process = setup.launch(&["migrate"]);
    let waiting = || {
        assert_eq!(process.exit_status(), None, "{}", process.logged());
        database.count(
            "pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' \
             AND clock_timestamp() - query_start > INTERVAL '7 seconds'",
        )
    };
    until_seen(
        "the migration to wait for seven seconds",
        waiting,
        |waiting| *waiting > 0,
    );
    drop(held);
    let ran = process.finish();
    ran.exits(0);
    assert_eq!(ran.stderr.matches("waiting to").count(), 0, "{ran:?}");
}

fn older_release_starts_beside_a_newer_one(setup: Setup) {
    setup.run(&["migrate"]).exits(0);
    let database = setup.database();
    // The older release ignores migrations and columns that it does not know.
    database.execute(&[
        "INSERT INTO likewise_schema_migrations (name, run_on) \
         VALUES ('2099-01-01-000000_of_the_future', '2030-01-01 00:00:00')",
        "ALTER TABLE sync_events ADD COLUMN of_the_future BIGINT",
    ]);
    let service = setup.start();
    assert!(service.client().like(1, 1).liked);
    crate::support::checks::ledger_closes(service.database());
    service.stop().verify(30).holds();
}

#[test]
fn tables_that_lack_a_migration_are_rejected() {
    let setup = Setup::new();
    setup.run(&["migrate"]).exits(0);
    forget_last_migration(setup.database());
    let ran = setup.run(&["events", "summary"]);
    ran.exits(1)
        .reports("lack 1 migrations")
        .reports("likewise migrate");
}

/// Starts a transaction that keeps every other connection from writing into a new file. It can read the other file.
fn hold_new_file(path: &Path, other: &Path) -> SqliteConnection {
    fs::write(path, "").expect("a file");
    let path = path.to_str().expect("a path in UTF-8");
    let mut held = SqliteConnection::establish(path).expect("the file opens");
    held.batch_execute(&format!(
        "PRAGMA journal_mode = WAL; ATTACH '{}' AS other; BEGIN IMMEDIATE",
        other.display()
    ))
    .expect("the write lock");
    held
}

/// It looked at the database while that was empty, and then waited.
#[test]
fn failed_migration_keeps_tables_of_another_process() {
    let other = Bench::new(None);
    other.record(&[super::fixture::like(1.into(), 1)]);
    let setup = Setup::new().set("LIKEWISE_RESOURCE_TYPES", "video,comment,post");
    let (Database::Sqlite(path), Database::Sqlite(migrated)) = (setup.database(), other.database())
    else {
        panic!("files");
    };
    let mut held = hold_new_file(path, migrated);
    let process = setup.launch(&["migrate"]);
    until_seen(
        "the migration to wait for the file",
        || process.logged(),
        |logged| logged.contains("the database is busy"),
    );
    // Now another process migrates. The product has a table with the name of an index of the posts' likes.
    let listed = |column: &str, condition: &str| {
        let schema = "FROM sqlite_schema WHERE name NOT LIKE 'sqlite%'";
        let sql = format!("SELECT {column} {schema} AND {condition}");
        other.database().texts(&sql)
    };
    let created = listed("sql", "sql IS NOT NULL");
    let copied = listed("name", "type = 'table'")
        .into_iter()
        .map(|table| format!("INSERT INTO main.{table} SELECT * FROM other.{table}"));
    let taken = ["CREATE TABLE post_likes_user (mine BIGINT)", "COMMIT"];
    let taken = taken.map(str::to_owned);
    for sql in created.into_iter().chain(copied).chain(taken) {
        let done = held.batch_execute(&sql);
        done.unwrap_or_else(|error| panic!("{error} in: {sql}"));
    }

    let before = setup.database().columns();
    let failed = process.finish();
    failed.exits(1).reports("create_post_likes");
    assert_eq!(setup.database().columns(), before);
    assert_eq!(setup.database().sizes(), other.database().sizes());
    let noted = [setup.database(), other.database()]
        .map(|database| database.count("likewise_schema_migrations"));
    assert_eq!(noted[0], noted[1]);
}

#[test]
fn failed_migration_is_named_and_stops_the_start() {
    let setup = Setup::new().on(&Database::hosted(Kind::Postgres));
    // Another owner's table has the name of an index.
    let taken = "CREATE TABLE video_likes_user (nothing BIGINT)";
    setup.database().execute(&[taken]);
    let ran = setup.run(&["serve"]);
    ran.exits(1)
        .reports("create_video_likes")
        .reports("already exists");
}
