//! `likewise migrate`.

use crate::support::service::Setup;

#[test]
fn migrate_is_idempotent() {
    let setup = Setup::new();
    let first = setup.run(&["migrate"]);
    assert_eq!(first.code, Some(0), "{first:?}");
    assert!(first.stdout.contains("migrated "), "{first:?}");
    assert!(first.stdout.contains("is up to date"), "{first:?}");
    assert!(setup.database().sizes().iter().all(|(_, rows)| *rows == 0));
    setup.verify(0).holds();

    let second = setup.run(&["migrate"]);
    assert_eq!(second.code, Some(0), "{second:?}");
    assert!(!second.stdout.contains("migrated "), "{second:?}");
    assert!(second.stdout.contains("is up to date"), "{second:?}");

    // The service finds its tables, and their rows survive another migration.
    let service = setup.start();
    service.client().like(1, 1);
    let setup = service.stop();
    assert_eq!(setup.run(&["migrate"]).code, Some(0));
    assert_eq!(setup.database().count("user_behaviors"), 1);
}

#[test]
fn unknown_database_kind_is_named() {
    let setup = Setup::new().set("LIKEWISE_DATABASE_URL", "oracle://somewhere");
    let ran = setup.run(&["migrate"]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(
        ran.stderr.contains("no database of kind 'oracle'"),
        "{ran:?}"
    );
}

#[test]
fn missing_folder_is_named() {
    let setup = Setup::new().set(
        "LIKEWISE_DATABASE_URL",
        "sqlite://no/such/folder/likewise.db",
    );
    let ran = setup.run(&["migrate"]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.stderr.contains("no/such/folder/likewise.db"), "{ran:?}");
}
