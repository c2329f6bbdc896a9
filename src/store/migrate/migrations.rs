//! The migrations of one database: which are pending, running the next one under the lease, and undoing a first migration
//! that failed.

use std::collections::BTreeSet;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::LEASE;
use super::deployment;
use super::scripts::{Migration, Script};
use crate::store::dialect::Column::Word;
use crate::store::endpoint::Endpoint;
use crate::store::error::StoreError;
use crate::store::lease::RowLease;
use crate::store::schema::Schema;
use crate::store::session::{Connected, IdRow, Mode, Session, Sql};
use crate::store::statement::Param;

/// A connection that can migrate its database.
pub(in crate::store) trait Migrate: Sized + Send + 'static
where
    Connected<Box<Self>>: Session,
{
    /// The migrations of this program, in the order in which they run.
    const SCRIPTS: &'static [Script];

    /// Creates the tables of the lease and of the migrations, unless they exist.
    const OWN_TABLES: [&'static str; 2];

    /// Whether a migration is one transaction, so that it rolls back if the lease was lost.
    const TRANSACTIONAL: bool;

    /// Connects. A migration on this connection waits for the locks of running transactions.
    fn connect(endpoint: &Endpoint) -> impl Future<Output = Result<Self, StoreError>> + Send;
}

/// The names of [`Migrate::OWN_TABLES`], in the same order.
const OWN_NAMES: [&str; 2] = ["likewise_schema_migrations", "likewise_schema_lease"];

/// The migrations of a deployment in its database.
pub(in crate::store) struct Migrations<C> {
    endpoint: Arc<Endpoint>,
    schema: &'static Schema,
    timeout: Duration,
    all: Vec<Migration>,
    /// Whether this process created the schema of PostgreSQL.
    created_schema: AtomicBool,
    connection: PhantomData<fn() -> C>,
}

impl<C: Migrate> Migrations<C>
where
    Connected<Box<C>>: Session,
{
    /// Names the database and the schema of its tables. `timeout` limits each attempt to connect.
    pub(in crate::store) fn new(
        endpoint: Arc<Endpoint>,
        schema: &'static Schema,
        timeout: Duration,
    ) -> Self {
        Self {
            endpoint,
            schema,
            timeout,
            all: Migration::all(C::SCRIPTS, schema),
            created_schema: AtomicBool::new(false),
            connection: PhantomData,
        }
    }

    async fn connect(&self) -> Result<Connected<Box<C>>, StoreError> {
        let connected = tokio::time::timeout(self.timeout, C::connect(&self.endpoint)).await;
        let connected = connected.map_err(|_| StoreError::TimedOut(self.timeout))??;
        Ok(Connected::new(Box::new(connected), self.schema))
    }

    /// Runs work on a new connection, within the time of one call.
    pub(super) async fn on_connection<T>(
        &self,
        work: impl AsyncFnOnce(&mut Connected<Box<C>>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let limit = 2 * self.timeout;
        let work = async { work(&mut self.connect().await?).await };
        tokio::time::timeout(limit, work)
            .await
            .map_err(|_| StoreError::TimedOut(limit))?
    }

    /// Returns the names of the migrations that the database lacks. Writes nothing.
    ///
    /// # Errors
    /// If the database cannot be reached, or its ids are of other kinds.
    pub(in crate::store) async fn pending(&self) -> Result<Vec<String>, StoreError> {
        let applied = self.on_connection(async |session| {
            let applied = applied(session).await?;
            if applied.contains(&self.all[0].name) {
                deployment::check(session).await?;
            }
            Ok(applied)
        });
        let applied = applied.await?;
        let names = self.all.iter().map(|migration| migration.name.clone());
        Ok(names.filter(|name| !applied.contains(name)).collect())
    }

    /// Returns whether the database has none of this deployment's tables.
    ///
    /// # Errors
    /// If it has a table of the same name that no migration created.
    pub(super) async fn is_first(&self) -> Result<bool, StoreError> {
        let found = self.on_connection(async |session| tables(session).await);
        let found = found.await?;
        if found.contains(&self.schema.named(OWN_NAMES[0])) {
            return Ok(false);
        }
        let taken = self.all.iter().flat_map(Migration::tables);
        let taken: Vec<_> = taken.filter(|table| found.contains(*table)).collect();
        if taken.is_empty() {
            return Ok(true);
        }
        Err(StoreError::Misconfigured(format!(
            "the database has tables of the same names that Likewise did not create: {}; set \
             LIKEWISE_TABLE_PREFIX, such as likes_, or use another database; nothing was changed",
            taken.join(", ")
        )))
    }

    /// Creates the schema and the tables of the lease and of the migrations, unless they exist.
    pub(super) async fn prepare(&self) -> Result<(), StoreError> {
        self.on_connection(async |session| {
            if let Some(schema) = &self.endpoint.schema
                && !has_schema(session).await?
            {
                let created = session.batch(&format!("CREATE SCHEMA \"{schema}\"")).await;
                if created.is_err() && !has_schema(session).await? {
                    return created;
                }
                self.created_schema
                    .store(created.is_ok(), Ordering::Relaxed);
            }
            for (name, create) in OWN_NAMES.iter().zip(C::OWN_TABLES) {
                let created = session.batch(&self.schema.named(create)).await;
                // If two processes create a table at once, one may fail: the table must exist afterwards.
                if created.is_err() && !tables(session).await?.contains(&self.schema.named(name)) {
                    return created;
                }
            }
            RowLease::prepare(session, &LEASE).await
        })
        .await
    }

    /// Runs the next migration under the lease. Returns its name, or `None` if none is left.
    pub(super) async fn run_next(&self, lease: &RowLease) -> Result<Option<String>, StoreError> {
        let mut session = self.connect().await?;
        if !lease.renew(&mut session).await? {
            return Err(lost());
        }
        let applied = applied(&mut session).await?;
        let mut all = self.all.iter();
        let Some(migration) = all.find(|migration| !applied.contains(&migration.name)) else {
            return Ok(None);
        };
        let ran = if C::TRANSACTIONAL {
            session.begin(Mode::Write).await?;
            let ran = self.run_fenced(&mut session, migration, lease).await;
            session.end(ran).await
        } else {
            self.run(&mut session, migration).await
        };
        match ran {
            Ok(()) => Ok(Some(migration.name.clone())),
            Err(error @ StoreError::Busy(_)) => Err(error),
            Err(error) if !error.was_answered() => Err(error),
            Err(error) => Err(StoreError::Migration(format!(
                "migration {}: {error}",
                migration.name
            ))),
        }
    }

    /// Runs a migration in a transaction. The check is the last step before the commit, so a process that lost the lease
    /// changes nothing.
    async fn run_fenced<S: Session>(
        &self,
        session: &mut S,
        migration: &Migration,
        lease: &RowLease,
    ) -> Result<(), StoreError> {
        self.run(session, migration).await?;
        match lease.renew(session).await? {
            true => Ok(()),
            false => Err(lost()),
        }
    }

    async fn run<S: Session>(
        &self,
        session: &mut S,
        migration: &Migration,
    ) -> Result<(), StoreError> {
        for statement in Migration::statements(&migration.up) {
            session.batch(&statement).await?;
        }
        if migration.name == self.all[0].name {
            deployment::write(session).await?;
        }
        let params = [Param::rows(&[(&migration.name,)])];
        session.execute(NOTE.on(session.schema()), &params).await?;
        Ok(())
    }

    /// Drops every table of this deployment: after a first migration that failed, so that it leaves nothing.
    pub(super) async fn undo(&self) -> Result<(), StoreError> {
        self.on_connection(async |session| {
            for migration in self.all.iter().rev() {
                for statement in Migration::statements(&migration.down) {
                    // A table that the failed migration did not create cannot be dropped.
                    let _ = session.batch(&statement).await;
                }
            }
            for table in OWN_NAMES {
                let drop = format!("DROP TABLE IF EXISTS {table}");
                session.batch(&session.schema().named(&drop)).await?;
            }
            if let Some(schema) = &self.endpoint.schema
                && self.created_schema.load(Ordering::Relaxed)
            {
                session.batch(&format!("DROP SCHEMA \"{schema}\"")).await?;
            }
            Ok(())
        })
        .await
    }
}

/// Returns the names of the migrations that ran; none without their table.
async fn applied<S: Session>(session: &mut S) -> Result<BTreeSet<String>, StoreError> {
    match session.load(APPLIED.on(session.schema()), &[]).await {
        Ok(rows) => Ok(rows.into_iter().map(|row: IdRow| row.id).collect()),
        Err(error @ StoreError::Busy(_)) => Err(error),
        Err(error) if !error.was_answered() => Err(error),
        Err(error) => {
            let name = session.schema().named(OWN_NAMES[0]);
            match tables(session).await?.contains(&name) {
                true => Err(error),
                // Without the table, no migration has run.
                false => Ok(BTreeSet::new()),
            }
        }
    }
}

static APPLIED: Sql = Sql::new(|_| "SELECT name AS id FROM likewise_schema_migrations".to_owned());

/// Parameters: rows `(name)` of migrations that ran.
static NOTE: Sql = Sql::new(|d| {
    format!(
        "INSERT INTO likewise_schema_migrations (name, run_on) \
         SELECT r.name, {} FROM {} WHERE true {}",
        d.clock(0),
        d.rows("$1", &[Word("name")]),
        d.on_conflict("likewise_schema_migrations", &["name"], &[])
    )
});

/// Returns the names of all tables and views.
async fn tables<S: Session>(session: &mut S) -> Result<BTreeSet<String>, StoreError> {
    let rows: Vec<IdRow> = session.load(TABLES.on(session.schema()), &[]).await?;
    Ok(rows.into_iter().map(|row| row.id).collect())
}

static TABLES: Sql = Sql::new(|d| d.tables().to_owned());

async fn has_schema<S: Session>(session: &mut S) -> Result<bool, StoreError> {
    let schemas = session.total(SCHEMAS.on(session.schema()), &[]).await?;
    Ok(schemas > 0)
}

/// The schema that PostgreSQL creates tables in, if it exists.
static SCHEMAS: Sql = Sql::new(|_| {
    "SELECT 'schemas' AS label, COUNT(*) AS total FROM pg_namespace WHERE nspname = current_schema()"
        .to_owned()
});

/// Returns the error of a process whose lease another process took.
pub(super) fn lost() -> StoreError {
    StoreError::Busy("the migration lease expired, and another process took it".to_owned())
}
