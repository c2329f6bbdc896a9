//! The migrations of one database: which are pending, running the next one under the lease, and undoing a first migration
//! that failed.

use std::collections::BTreeSet;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::LEASE;
use super::deployment;
use super::scripts::{Migration, Script, Table};
use crate::store::dialect::Column::Word;
use crate::store::endpoint::Endpoint;
use crate::store::error::StoreError;
use crate::store::lease::RowLease;
use crate::store::schema::Schema;
use crate::store::session::{Connected, IdRow, Mode, Session, Sql};
use crate::store::source_table;
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
    /// The tables that this process created, in their order.
    created: Mutex<Vec<String>>,
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
            created: Mutex::default(),
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

    /// Creates the schema and the tables of the lease and of the migrations, unless they exist.
    ///
    /// # Errors
    /// If another program has a table of the same name as one that a migration creates. Nothing is changed then.
    pub(super) async fn prepare(&self) -> Result<(), StoreError> {
        self.on_connection(async |session| {
            self.check_names(session).await?;
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
                let name = self.schema.named(name);
                if tables(session).await?.contains(&name) {
                    continue;
                }
                let created = session.batch(&self.schema.named(create)).await;
                if created.is_ok() {
                    self.created().push(name);
                } else if !tables(session).await?.contains(&name) {
                    // If two processes create a table at once, one may fail: the table must exist afterwards.
                    return created;
                }
            }
            RowLease::prepare(session, &LEASE).await
        })
        .await
    }

    /// Fails if the first migrations would meet tables of other programs. Later ones look under the lease: another process
    /// may be creating tables now.
    async fn check_names<S: Session>(&self, session: &mut S) -> Result<(), StoreError> {
        let found = tables(session).await?;
        if found.contains(&self.schema.named(OWN_NAMES[0])) {
            return Ok(());
        }
        let all = self.all.iter();
        let taken = all.flat_map(|migration| present(&found, migration));
        let taken: Vec<String> = taken.map(|table| table.name).collect();
        match taken.is_empty() {
            true => Ok(()),
            false => Err(names_taken(&taken, true)),
        }
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
        let found = tables(&mut session).await?;
        let taken = taken_names(&mut session, &found, migration).await?;
        if !taken.is_empty() {
            return Err(names_taken(&taken, applied.is_empty()));
        }
        let mut created = Vec::new();
        let ran = if C::TRANSACTIONAL {
            session.begin(Mode::Write).await?;
            let ran = self
                .run_fenced(&mut session, migration, lease, &mut created)
                .await;
            session.end(ran).await
        } else {
            self.run(&mut session, migration, &mut created).await
        };
        if ran.is_ok() || !C::TRANSACTIONAL {
            created.retain(|table| !found.contains(table));
            self.created().append(&mut created);
        }
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
        created: &mut Vec<String>,
    ) -> Result<(), StoreError> {
        self.run(session, migration, created).await?;
        match lease.renew(session).await? {
            true => Ok(()),
            false => Err(lost()),
        }
    }

    /// Runs a migration, and adds the tables that its statements create.
    async fn run<S: Session>(
        &self,
        session: &mut S,
        migration: &Migration,
        created: &mut Vec<String>,
    ) -> Result<(), StoreError> {
        for statement in Migration::statements(&migration.up) {
            session.batch(&statement).await?;
            created.extend(Table::of(&statement).map(|table| table.name));
        }
        if migration.name == self.all[0].name {
            deployment::write(session).await?;
        }
        let params = [Param::rows(&[(&migration.name,)])];
        session.execute(NOTE.on(session.schema()), &params).await?;
        Ok(())
    }

    /// Drops the tables that this process created, under the lease: after a first migration that failed, so that it leaves
    /// nothing. Drops none if another process migrates now, has run a migration, or uses the tables.
    pub(super) async fn undo(&self, holder: &str, ran: &[String]) -> Result<(), StoreError> {
        self.on_connection(async |session| {
            let Ok(lease) = RowLease::acquire(session, &LEASE, holder).await? else {
                return Ok(());
            };
            let own: BTreeSet<String> = ran.iter().cloned().collect();
            if applied(session).await? != own || self.is_used(session).await? {
                return lease.release(session).await;
            }
            // The notes first: tables without a note are found by the next start.
            let forget = "DELETE FROM likewise_schema_migrations";
            session.batch(&self.schema.named(forget)).await?;
            let own_names = OWN_NAMES.map(|name| self.schema.named(name));
            let created = std::mem::take(&mut *self.created());
            let (last, first): (Vec<_>, Vec<_>) = created
                .into_iter()
                .partition(|table| own_names.contains(table));
            for table in first.iter().rev() {
                if !lease.renew(session).await? {
                    return Err(lost());
                }
                session.batch(&format!("DROP TABLE {table}")).await?;
            }
            for table in last.iter().rev() {
                session.batch(&format!("DROP TABLE {table}")).await?;
            }
            // The row of the lease may be gone with its table.
            let _ = lease.release(session).await;
            if let Some(schema) = &self.endpoint.schema
                && self.created_schema.load(Ordering::Relaxed)
            {
                session.batch(&format!("DROP SCHEMA \"{schema}\"")).await?;
            }
            Ok(())
        })
        .await
    }

    /// Returns whether a process has started on the tables that this one created, or recorded something in them.
    async fn is_used<S: Session>(&self, session: &mut S) -> Result<bool, StoreError> {
        let all = IN_USE.map(|table| self.schema.named(table));
        let are_created = {
            let created = self.created();
            all.iter().all(|table| created.contains(table))
        };
        if !are_created {
            return Ok(false);
        }
        Ok(session.total(USED.on(session.schema()), &[]).await? > 0)
    }

    fn created(&self) -> MutexGuard<'_, Vec<String>> {
        self.created.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The tables that a process writes at its start, and with each event.
const IN_USE: [&str; 2] = ["likewise_processes", "user_behaviors"];

/// Whether [`IN_USE`] have rows.
static USED: Sql = Sql::new(|_| {
    let [processes, behaviors] = IN_USE.map(|table| {
        format!("SELECT 'rows' AS label, COUNT(*) AS total FROM (SELECT 1 AS one FROM {table} LIMIT 1) AS few")
    });
    format!("{processes} UNION ALL {behaviors}")
});

/// Returns the tables of a migration that are among these.
fn present(found: &BTreeSet<String>, migration: &Migration) -> impl Iterator<Item = Table> {
    let tables = migration.tables();
    tables.filter(|table| found.contains(&table.name))
}

/// Returns the names of those of these tables that a migration creates, but with other columns: another program has created
/// them. Where each statement commits on its own, a migration that was cut off may have left its tables with the right ones.
async fn taken_names<S: Session>(
    session: &mut S,
    found: &BTreeSet<String>,
    migration: &Migration,
) -> Result<Vec<String>, StoreError> {
    let mut taken = Vec::new();
    for table in present(found, migration) {
        let columns = source_table::columns(session, &table.name).await?;
        let columns: BTreeSet<String> = columns.into_iter().map(|column| column.name).collect();
        if columns != table.columns {
            taken.push(table.name);
        }
    }
    Ok(taken)
}

/// Returns the error of a migration whose tables have the names of these.
fn names_taken(tables: &[String], is_first: bool) -> StoreError {
    let advice = match is_first {
        true => "set LIKEWISE_TABLE_PREFIX, such as likes_, or use another database",
        false => "rename them, or choose other words in LIKEWISE_RESOURCE_TYPES",
    };
    StoreError::Misconfigured(format!(
        "the database has tables of the same names that Likewise did not create: {}; {advice}; they were not changed",
        tables.join(", ")
    ))
}

/// Returns the names of the migrations that ran; none without their table.
pub(super) async fn applied<S: Session>(session: &mut S) -> Result<BTreeSet<String>, StoreError> {
    let name = session.schema().named(OWN_NAMES[0]);
    // First: another process may create it meanwhile.
    if !tables(session).await?.contains(&name) {
        return Ok(BTreeSet::new());
    }
    let rows: Vec<IdRow> = session.load(APPLIED.on(session.schema()), &[]).await?;
    Ok(rows.into_iter().map(|row| row.id).collect())
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
