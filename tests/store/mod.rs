//! One suite for every database: what `Store` promises, each promise on a database of its own.

/// Makes a test of each function for each database, which it is given with a store on it.
macro_rules! on_every_database {
    (@$database:ident, $kind:expr, $($test:ident),*) => {
        mod $database {
            $(
                #[test]
                fn $test() {
                    super::$test(&$crate::store::bench::Bench::new($kind));
                }
            )*
        }
    };
    ($($test:ident),* $(,)?) => {
        on_every_database!(@sqlite, None, $($test),*);
        on_every_database!(@mariadb, Some($crate::support::servers::Kind::MariaDb), $($test),*);
        on_every_database!(@postgres, Some($crate::support::servers::Kind::Postgres), $($test),*);
    };
}

mod bench;
mod bulk;
mod connections;
mod idempotency;
mod ledger;
mod lists;
mod maintenance;
mod migrations;
mod operations;
mod plans;
mod quarantine;
mod reading;
mod record;
mod sync;
mod verify;
