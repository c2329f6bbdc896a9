//! `likewise migrate`.

use crate::support::service::Setup;

#[test]
fn migrate_is_idempotent() {
    let setup = Setup::new();
    let first = setup.run(&["migrate"]);
    first.exits(0).prints("migrated ").prints("is up to date");
    assert!(setup.database().sizes().iter().all(|(_, rows)| *rows == 0));
    setup.verify(0).holds();

    let second = setup.run(&["migrate"]);
    second.exits(0);
    assert!(!second.stdout.contains("migrated "), "{second:?}");
    second.prints("is up to date");

    // The service finds its tables, and their rows survive another migration.
    let service = setup.start();
    service.client().like(1, 1);
    let setup = service.stop();
    setup.run(&["migrate"]).exits(0);
    assert_eq!(setup.database().count("user_behaviors"), 1);
}

#[test]
fn unknown_database_kind_is_named() {
    let setup = Setup::new().set("LIKEWISE_DATABASE_URL", "oracle://somewhere");
    let ran = setup.run(&["migrate"]);
    ran.exits(1).reports("no database of kind 'oracle'");
}

#[test]
fn missing_folder_is_named() {
    let setup = Setup::new().set(
        "LIKEWISE_DATABASE_URL",
        "sqlite://no/such/folder/likewise.db",
    );
    let ran = setup.run(&["migrate"]);
    ran.exits(1).reports("no/such/folder/likewise.db");
}
