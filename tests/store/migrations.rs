//! The tables are the same on every database, and migrating them is nobody's race.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use likewise::store;

use super::bench::{Bench, options};
use crate::support::database::Database;
use crate::support::servers::Kind;
use crate::support::service::Setup;
use crate::support::wait;

const KINDS: [Option<Kind>; 3] = [None, Some(Kind::MariaDb), Some(Kind::Postgres)];

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

#[test]
fn each_database_has_the_same_tables_and_columns() {
    let [sqlite, mariadb, postgres] = KINDS.map(|kind| Bench::new(kind).database().columns());
    assert!(sqlite.contains(&("sync_events".to_owned(), "fencing_token".to_owned())));
    assert_eq!(sqlite, mariadb);
    assert_eq!(sqlite, postgres);
}

#[test]
fn migrating_again_runs_nothing() {
    for kind in KINDS {
        let bench = Bench::new(kind);
        bench.record(&[super::bench::like(1, 1)]);
        let again = wait(store::migrate(&options(bench.database())));
        assert_eq!(again.expect("migrations"), Vec::<String>::new(), "{kind:?}");
        assert_eq!(bench.ask(|store| store.open_rows()), 1);
    }
}

#[test]
fn processes_that_migrate_at_once_all_succeed() {
    for kind in [Kind::MariaDb, Kind::Postgres] {
        let setup = Setup::new().on(&Database::hosted(kind));
        let processes = [(); 3].map(|()| setup.launch(&["migrate"]));
        let ran = processes.map(|process| process.finish());
        assert!(
            ran.iter().all(|ran| ran.code == Some(0)),
            "{kind:?}: {ran:#?}"
        );
        let migrated = ran.iter().filter(|ran| ran.stdout.contains("migrated "));
        assert_eq!(migrated.count(), 1, "{kind:?}: {ran:#?}");
        assert!(setup.database().sizes().iter().all(|(_, rows)| *rows == 0));
    }
}

/// Where each statement is committed on its own, it may be done and not noted.
#[test]
fn a_migration_that_was_killed_before_it_was_noted_is_run_again() {
    let bench = Bench::new(Some(Kind::MariaDb));
    let (database, noted) = (bench.database(), "__diesel_schema_migrations");
    let all = database.number(&format!("SELECT COUNT(*) FROM {noted}"));
    let rows = bench.record(&[super::bench::like(1, 1)]);
    let before = database.columns();
    for left in 0..all {
        let last = all - left;
        database.execute(&[&format!(
            "DELETE FROM {noted} ORDER BY version DESC LIMIT {last}"
        )]);
        let again = wait(store::migrate(&options(database))).expect("migrations");
        assert_eq!(again.len() as i64, last);
    }
    assert_eq!(database.columns(), before);
    let indexes = "SELECT COUNT(*) FROM information_schema.statistics \
        WHERE table_schema = DATABASE() AND index_name LIKE 'sync_events_due%' AND seq_in_index = 1";
    assert_eq!(database.number(indexes), 1);
    bench.sync(&rows);
    bench.verified();
}
