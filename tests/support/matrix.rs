//! Runs one test body on several sets of backends. `matrix!` makes a test of each combination, named
//! `module::test::backends`, so that `cargo test some_test::mariadb` runs one of them.

use super::database::Database;
use super::servers::Kind;
use super::service::Setup;

/// Defines a test of each function on each of the named [`Backends`]:
///
/// ```ignore
/// matrix!([embedded, mariadb_stack]: kill_9_loses_nothing, sigint_drains);
///
/// fn kill_9_loses_nothing(setup: Setup) { ... }
/// ```
///
/// A function takes any type that implements `From<Backends>`. After `&`, it takes a reference to one.
macro_rules! matrix {
    ([$($backends:ident),+]: $($test:ident),+ $(,)?) => {
        matrix!(@tests () [$($backends),+] $($test),+);
    };
    (&[$($backends:ident),+]: $($test:ident),+ $(,)?) => {
        matrix!(@tests (&) [$($backends),+] $($test),+);
    };
    (@tests $by:tt $list:tt $($test:ident),+) => {
        $( matrix!(@test $by $list $test); )+
    };
    (@test $by:tt [$($backends:ident),+] $test:ident) => {
        mod $test {
            $(
                #[test]
                fn $backends() {
                    let backends = $crate::support::matrix::Backends::named(stringify!($backends));
                    matrix!(@call $by super::$test, backends);
                }
            )+
        }
    };
    (@call () $test:path, $backends:ident) => {
        $test($backends.into())
    };
    (@call (&) $test:path, $backends:ident) => {
        $test(&$backends.into())
    };
}

/// The backends of a service.
#[derive(Debug, Clone, Copy)]
pub struct Backends {
    /// The name in the test.
    pub name: &'static str,
    /// The kind of the database server; SQLite if there is none.
    pub database: Option<Kind>,
    /// Whether the service has a Redis and a NATS of its own.
    pub has_redis_and_nats: bool,
}

impl Backends {
    /// The backends with this name.
    ///
    /// # Panics
    /// If there are none.
    pub fn named(name: &'static str) -> Self {
        let (database, has_redis_and_nats) = match name {
            "embedded" | "sqlite" => (None, false),
            "mariadb" => (Some(Kind::MariaDb), false),
            "postgres" => (Some(Kind::Postgres), false),
            "mariadb_stack" => (Some(Kind::MariaDb), true),
            "postgres_stack" => (Some(Kind::Postgres), true),
            _ => panic!("no backends are called {name}"),
        };
        Self {
            name,
            database,
            has_redis_and_nats,
        }
    }
}

impl From<Backends> for Setup {
    #[track_caller]
    fn from(backends: Backends) -> Self {
        match backends.database {
            Some(kind) if backends.has_redis_and_nats => Self::on_parts(kind),
            Some(kind) => Self::new().on(&Database::hosted(kind)),
            None => Self::new(),
        }
    }
}

impl From<Backends> for Kind {
    fn from(backends: Backends) -> Self {
        backends.database.expect("a database server")
    }
}
