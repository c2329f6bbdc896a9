//! A store on a database of its own, and events for it.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use likewise::config::{StoreOptions, TlsOptions};
use likewise::domain::{
    Action, BehaviorEvent, BehaviorType, IdKinds, LedgerRow, Pair, Resource, ResourceType,
    ResourceTypes, Source, UserId, Verdict, Version,
};
use likewise::store::{self, FailedAttempt, Lease, Recorded, Store, StoreError};
use rand::RngExt;
use rand::rngs::SmallRng;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use uuid::Uuid;

use crate::support::database::Database;
use crate::support::matrix::Backends;
use crate::support::servers::Kind;
use crate::support::{PATIENCE, runtime, until};

/// A worker: a store with connections of its own. Fields are dropped in this order.
pub struct Bench {
    store: Arc<Store>,
    runtime: Runtime,
    database: Database,
    _folder: Option<TempDir>,
}

impl Bench {
    /// Creates a bench on a new database, SQLite if `kind` is `None`.
    #[track_caller]
    pub fn new(kind: Option<Kind>) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let database = match kind {
            Some(kind) => Database::hosted(kind),
            None => Database::sqlite(folder.path()),
        };
        let migrated = crate::support::wait(store::migrate(&options(&database)));
        assert!(!migrated.expect("migrations").is_empty());
        Self {
            _folder: Some(folder),
            ..Self::on(&database)
        }
    }

    /// Creates a bench on a database that has its tables.
    #[track_caller]
    pub fn on(database: &Database) -> Self {
        Self::within(database, options(database).timeout)
    }

    /// As [`on`](Self::on), with this time limit for each call.
    #[track_caller]
    pub fn within(database: &Database, timeout: Duration) -> Self {
        let runtime = runtime();
        let options = StoreOptions {
            timeout,
            ..options(database)
        };
        let store = until("the database to accept connections", PATIENCE, || {
            runtime.block_on(store::connect(&options))
        });
        Self {
            store,
            runtime,
            database: database.clone(),
            _folder: None,
        }
    }

    /// Returns the database, for plain SQL.
    pub const fn database(&self) -> &Database {
        &self.database
    }

    /// Returns the store.
    pub fn store(&self) -> Arc<Store> {
        Arc::clone(&self.store)
    }

    /// Asks the store something that needs no database.
    pub fn with<T>(&self, ask: impl FnOnce(&Store) -> T) -> T {
        ask(self.store.as_ref())
    }

    /// Runs work on the store's runtime.
    pub fn wait<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    /// Returns the store's answer or its error.
    pub fn attempt<'a, T, F>(&'a self, ask: impl FnOnce(&'a Store) -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        self.runtime.block_on(ask(self.store.as_ref()))
    }

    /// Returns the store's answer.
    #[track_caller]
    pub fn ask<'a, T, F>(&'a self, ask: impl FnOnce(&'a Store) -> F) -> T
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        match self.attempt(ask) {
            Ok(answer) => answer,
            Err(error) => panic!("{error}"),
        }
    }

    /// Records events; their ledger rows are under a lease of a minute from now.
    #[track_caller]
    pub fn record(&self, events: &[BehaviorEvent]) -> Vec<LedgerRow> {
        let Recorded {
            rows, conflicts, ..
        } = self.try_record(events);
        assert_eq!(conflicts, [0; 0], "conflicting events");
        rows
    }

    /// As [`record`](Self::record), with the events that conflict.
    #[track_caller]
    pub fn try_record(&self, events: &[BehaviorEvent]) -> Recorded {
        let events: Vec<_> = events.iter().collect();
        self.ask(|store| store.record(&events, lease_at(Utc::now())))
    }

    /// Syncs rows.
    #[track_caller]
    pub fn sync(&self, rows: &[LedgerRow]) -> store::Settled {
        self.ask(|store| store.sync(rows, Utc::now()))
    }

    /// Records and syncs events.
    #[track_caller]
    pub fn complete(&self, events: &[BehaviorEvent]) {
        self.sync(&self.record(events));
    }

    /// Claims due rows.
    #[track_caller]
    pub fn claim(&self, now: DateTime<Utc>, limit: usize) -> Vec<LedgerRow> {
        self.ask(|store| store.claim(lease_at(now), limit)).rows
    }

    /// Runs statements in the database.
    #[track_caller]
    pub fn execute(&self, statements: &[&str]) {
        self.database.execute(statements);
    }

    /// Fails if any deadlock between workers was broken. On PostgreSQL each costs a second of waiting.
    #[track_caller]
    pub fn had_no_deadlock(&self) {
        if let Database::Postgres(_) = &self.database {
            let deadlocks = "SELECT deadlocks FROM pg_stat_database \
                WHERE datname = current_database()";
            assert_eq!(self.database.number(deadlocks), 0, "deadlocks");
        }
    }

    /// Fails unless every guarantee that the data can show holds.
    #[track_caller]
    pub fn verified(&self) {
        let verification = self.ask(|store| store.verify(3));
        assert!(verification.holds(), "{verification:#?}");
    }
}

impl From<Backends> for Bench {
    #[track_caller]
    fn from(backends: Backends) -> Self {
        Self::new(backends.database)
    }
}

/// The options of a store on this database.
pub fn options(database: &Database) -> StoreOptions {
    StoreOptions {
        url: database.url(),
        tls: TlsOptions::default(),
        max_connections: 4,
        resource_types: ResourceTypes::default(),
        id_kinds: IdKinds::default(),
        table_prefix: String::new(),
        database_schema: None,
        timeout: Duration::from_secs(20),
        fact_receivers: Vec::new(),
    }
}

/// Returns the number of connections that wait for a lock on a table.
#[track_caller]
pub fn waiting_for_table(database: &Database) -> i64 {
    database.count(match database {
        Database::Postgres(_) => {
            "pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        }
        Database::Sqlite(_) | Database::MariaDb(_) => {
            "information_schema.processlist WHERE db = DATABASE() AND state LIKE 'Waiting for table%'"
        }
    })
}

/// The number of failed attempts before a row is dead.
pub const MAX_RETRIES: i32 = 2;

/// A lease of a minute.
pub fn lease_at(now: DateTime<Utc>) -> Lease {
    Lease {
        now,
        duration: Duration::from_secs(60),
        max_retries: MAX_RETRIES,
    }
}

/// A time at which all current leases have expired.
pub fn later() -> DateTime<Utc> {
    now() + TimeDelta::minutes(5)
}

/// Now, at a precision that every database can store.
pub fn now() -> DateTime<Utc> {
    Version::at(Utc::now()).moment()
}

/// The comment with this id.
pub fn comment(id: i64) -> Resource {
    Resource {
        resource_type: ResourceType::COMMENT,
        id: id.into(),
    }
}

/// A pair.
pub fn pair(user_id: UserId, resource: Resource) -> Pair {
    Pair { resource, user_id }
}

/// A like event that this service accepted.
pub fn own(user_id: UserId, resource: Resource, action: Action, version: i64) -> BehaviorEvent {
    let (id, behavior) = (Uuid::now_v7(), action.behavior_type());
    BehaviorEvent::accepted(id, user_id, resource, behavior, Version(version))
}

/// A like of a video that this service accepted.
pub fn like(user_id: UserId, video: i64) -> BehaviorEvent {
    let version = Utc::now().timestamp_micros();
    own(user_id, Resource::video(video), Action::Like, version)
}

/// A behavior that another service published.
pub fn foreign(
    user_id: UserId,
    resource: Resource,
    behavior: BehaviorType,
    version: i64,
    source: &str,
) -> BehaviorEvent {
    let name = format!("{user_id} {resource} {behavior} {version} {source}");
    BehaviorEvent {
        event_id: Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes()),
        user_id,
        resource,
        behavior,
        version: Version(version),
        occurred_at: Version(version).moment(),
        source: Source::Foreign(source.to_owned()),
        stream_sequence: None,
        trace: None,
    }
}

/// A row's failed attempt.
pub fn failed(row: &LedgerRow, verdict: Verdict, error: &str) -> FailedAttempt {
    FailedAttempt {
        row: row.clone(),
        verdict,
        error: error.to_owned(),
    }
}

/// Likes and unlikes of a few pairs, some of them at the same version.
pub fn history(events: usize, rng: &mut SmallRng) -> Vec<BehaviorEvent> {
    let start = Utc::now().timestamp_micros();
    (0..events)
        .map(|_| {
            let id = rng.random_range(1..=6);
            let resource = match rng.random_bool(0.3) {
                true => comment(id),
                false => Resource::video(id),
            };
            let action = match rng.random_bool(0.6) {
                true => Action::Like,
                false => Action::Unlike,
            };
            let user: i64 = rng.random_range(1..=8);
            let version = start + rng.random_range(0..500);
            own(user.into(), resource, action, version)
        })
        .collect()
}
