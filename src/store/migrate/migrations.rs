//! The migrations of one database: which are pending, and running the next one under the lease.

use std::collections::BTreeSet;
use std::marker::PhantomData;
use std::ops::DerefMut;
use std::sync::Arc;
use std::time::Duration;

use diesel::Connection;
use diesel::migration::{Migration, MigrationSource};
use diesel_async::{AsyncConnection, AsyncConnectionCore};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness};

use super::lease::MigrationLease;
use crate::store::endpoint::Endpoint;
use crate::store::error::StoreError;
use crate::store::session::{IdRow, Session, Sql};

/// A connection that can migrate its database.
pub(in crate::store) trait Migrate: Session + AsyncConnection + 'static {
    /// The migrations of this program.
    const MIGRATIONS: EmbeddedMigrations;

    /// Creates the table `schema_lease` unless it exists.
    const LEASE_TABLE: &'static str;

    /// Whether a migration is one transaction, so that it rolls back if the lease was lost.
    const TRANSACTIONAL: bool;

    /// The connection as Diesel's migration harness runs it: every call blocks its thread.
    type Blocking: From<Self>
        + DerefMut<Target = Self>
        + Connection<Backend = <Self as AsyncConnectionCore>::Backend>
        + MigrationHarness<<Self as AsyncConnectionCore>::Backend>;

    /// Connects. A migration on this connection waits for the locks of running transactions.
    fn connect(endpoint: &Endpoint) -> impl Future<Output = Result<Self, StoreError>> + Send;
}

/// The migrations of the database at a URL.
pub(in crate::store) struct Migrations<C> {
    endpoint: Arc<Endpoint>,
    timeout: Duration,
    connection: PhantomData<fn() -> C>,
}

impl<C: Migrate> Migrations<C> {
    /// Names the database. `timeout` limits each attempt to connect.
    pub(in crate::store) fn new(endpoint: Arc<Endpoint>, timeout: Duration) -> Self {
        Self {
            endpoint,
            timeout,
            connection: PhantomData,
        }
    }

    async fn connect(&self) -> Result<C, StoreError> {
        tokio::time::timeout(self.timeout, C::connect(&self.endpoint))
            .await
            .map_err(|_| StoreError::TimedOut(self.timeout))?
    }

    /// Runs work on a new connection, within the time of one call.
    pub(super) async fn on_connection<T>(
        &self,
        work: impl AsyncFnOnce(&mut C) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let work = async { work(&mut self.connect().await?).await };
        tokio::time::timeout(2 * self.timeout, work)
            .await
            .map_err(|_| StoreError::TimedOut(2 * self.timeout))?
    }

    /// Returns the versions of this program's migrations that the database lacks. Writes nothing.
    pub(in crate::store) async fn pending(&self) -> Result<Vec<String>, StoreError> {
        let applied = self.on_connection(async |session| applied(session).await);
        let applied = applied.await?;
        let own: Vec<Box<dyn Migration<C::Backend>>> = C::MIGRATIONS
            .migrations()
            .map_err(|error| StoreError::Migration(error.to_string()))?;
        let mut versions: Vec<String> = own
            .iter()
            .map(|migration| migration.name().version().to_string())
            .collect();
        versions.sort();
        versions.retain(|version| !applied.contains(version));
        Ok(versions)
    }

    /// Runs the next migration under the lease. Returns its name, or `None` if none is left.
    pub(super) async fn run_next(
        &self,
        lease: &MigrationLease,
    ) -> Result<Option<String>, StoreError> {
        let mut connection = self.connect().await?;
        if !lease.renew(&mut connection).await? {
            return Err(lost());
        }
        let lease = lease.clone();
        // The harness blocks, which this runtime's only thread must not.
        tokio::task::spawn_blocking(move || run_next(connection, &lease))
            .await
            .map_err(|error| StoreError::Migration(error.to_string()))?
    }
}

async fn applied<S: Session>(session: &mut S) -> Result<BTreeSet<String>, StoreError> {
    match session.load(APPLIED.on(session.dialect()), &[]).await {
        Ok(rows) => Ok(rows.into_iter().map(|row: IdRow| row.id).collect()),
        Err(error @ StoreError::Busy(_)) => Err(error),
        Err(error) if !error.was_answered() => Err(error),
        // Without the table, no migration has run.
        Err(_) => Ok(BTreeSet::new()),
    }
}

static APPLIED: Sql =
    Sql::new(|_| "SELECT version AS id FROM __diesel_schema_migrations".to_owned());

fn run_next<C: Migrate>(
    connection: C,
    lease: &MigrationLease,
) -> Result<Option<String>, StoreError> {
    let mut connection = C::Blocking::from(connection);
    let pending = connection
        .pending_migrations(C::MIGRATIONS)
        .map_err(|error| migration_error("list", &*error))?;
    let Some(migration) = pending.into_iter().next() else {
        return Ok(None);
    };
    let name = migration.name().to_string();
    let ran = if C::TRANSACTIONAL {
        Connection::transaction(&mut connection, |connection| {
            connection.run_migration(&*migration)?;
            // The check is the last step before the commit, so a process that lost the lease changes nothing.
            let held =
                tokio::runtime::Handle::current().block_on(lease.renew(&mut **connection))?;
            if held { Ok(()) } else { Err(LeaseLost.into()) }
        })
    } else {
        connection.run_migration(&*migration).map(drop)
    };
    ran.map_err(|error| migration_error(&name, &*error))?;
    Ok(Some(name))
}

/// Returns the error of a process whose lease another process took.
pub(super) fn lost() -> StoreError {
    StoreError::Busy("the migration lease expired, and another process took it".to_owned())
}

/// Returns the error of a failed migration. Diesel gives its cause only as text, so the next attempt finds out whether the
/// database is unreachable.
fn migration_error(
    name: &str,
    error: &(dyn std::error::Error + Send + Sync + 'static),
) -> StoreError {
    if error.is::<LeaseLost>() {
        return lost();
    }
    StoreError::Migration(format!("migration {name}: {error}"))
}

/// The lease was lost before a migration could be committed.
#[derive(Debug, thiserror::Error)]
#[error("the migration lease was lost")]
struct LeaseLost;
