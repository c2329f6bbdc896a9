//! Bringing the tables up to date: one process at a time, under a lease that it renews while it migrates.
//!
//! The lease is a row of `likewise_schema_lease`, taken by compare-and-swap and timed by the database's own clock. It
//! works alike on every database, needs no advisory lock, and outlives no process that was killed.

use std::time::Duration;

use uuid::Uuid;

use super::StoreFuture;
use super::error::StoreError;
use super::gate::{Gate, Waiting};
use super::schema::Schema;
use super::session::Statement;
use crate::telemetry::{DatabaseAwaited, Migrated, MigrationAwaited};

/// How long a lease lasts unless its holder renews it, in seconds.
pub(super) const LEASE_SECONDS: i64 = 15;

/// How often the holder renews it.
const RENEW_EVERY: Duration = Duration::from_secs(4);

/// How often a waiting process looks again.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// The longest pause between two attempts to reach the database.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// How often a migration may fail before the process gives up. A holder that was killed may leave a statement
/// behind that the server still runs, and the first attempt of its successor can collide with it.
const ATTEMPTS: u32 = 4;

/// A lease that this process holds.
#[derive(Debug, Clone)]
pub(super) struct MigrationLease {
    /// The name of this process.
    pub(super) holder: String,
    /// The fencing token: each lease has a higher one than the last.
    pub(super) epoch: i64,
}

/// The statements of the lease, for one dialect.
pub(super) struct LeaseStatements {
    /// The versions of the migrations that the database has.
    pub(super) applied: Statement,
    /// Makes the one row.
    pub(super) seed: Statement,
    /// The row.
    pub(super) read: Statement,
    /// Takes the lease if it is free or expired. Parameters: the holder.
    pub(super) acquire: Statement,
    /// Prolongs the lease. Parameters: the holder, the epoch.
    pub(super) renew: Statement,
    /// Gives the lease back. Parameters: the holder, the epoch.
    pub(super) release: Statement,
}

impl LeaseStatements {
    pub(super) fn new(d: &Schema) -> Self {
        let (now, end) = (d.clock(0), d.clock(LEASE_SECONDS));
        let held = "name = 'migrations' AND holder = $1 AND epoch = $2";
        Self {
            applied: d.statement("SELECT version AS id FROM __diesel_schema_migrations"),
            seed: d.statement(format!(
                "INSERT INTO likewise_schema_lease (name, holder, epoch, expires_at) \
                 SELECT r.name, '', 0, {now} FROM (SELECT 'migrations' AS name) AS r WHERE true {}",
                d.on_conflict("likewise_schema_lease", &["name"], &[])
            )),
            read: d.statement("SELECT holder, epoch FROM likewise_schema_lease WHERE name = 'migrations'"),
            acquire: d.statement(format!(
                "UPDATE likewise_schema_lease SET holder = $1, epoch = epoch + 1, expires_at = {end} \
                 WHERE name = 'migrations' AND (holder = '' OR expires_at <= {now})"
            )),
            renew: d.statement(format!("UPDATE likewise_schema_lease SET expires_at = {end} WHERE {held}")),
            release: d.statement(format!("UPDATE likewise_schema_lease SET holder = '' WHERE {held}")),
        }
    }
}

/// A database that can be migrated.
pub(super) trait Target: Send + Sync {
    /// The versions of this program's migrations that the database lacks. Writes nothing.
    fn pending(&self) -> StoreFuture<'_, Vec<String>>;

    /// Makes the table of the lease, unless it is there.
    fn prepare(&self) -> StoreFuture<'_, ()>;

    /// Takes the lease if it is free or expired; otherwise answers who holds it.
    fn acquire<'a>(&'a self, holder: &'a str) -> StoreFuture<'a, Result<MigrationLease, String>>;

    /// Prolongs the lease. Answers whether this process still holds it.
    fn renew<'a>(&'a self, lease: &'a MigrationLease) -> StoreFuture<'a, bool>;

    /// Gives the lease back.
    fn release<'a>(&'a self, lease: &'a MigrationLease) -> StoreFuture<'a, ()>;

    /// Runs the next migration under the lease; answers its name, or `None` if none is left.
    fn run_next<'a>(&'a self, lease: &'a MigrationLease) -> StoreFuture<'a, Option<String>>;
}

/// How one attempt ended.
enum Attempt {
    /// The tables are up to date.
    Current,
    /// Another process holds the lease.
    HeldBy(String),
}

/// Brings the tables up to date. While another process holds the lease, waits for it; with a `gate`, waits for
/// a database that cannot be reached as well, and says at the gate what it waits for.
pub(super) async fn run(
    target: &dyn Target,
    url: &str,
    gate: Option<&Gate>,
) -> Result<Vec<String>, StoreError> {
    let holder = holder();
    let mut ran = Vec::new();
    let mut said: Option<String> = None;
    let mut failures = 0;
    let mut pause = LOOK_EVERY;
    loop {
        let before = ran.len();
        let attempt = attempt(target, &holder, &mut ran).await;
        if ran.len() > before {
            failures = 0;
        }
        let waiting = match attempt {
            Ok(Attempt::Current) => return Ok(ran),
            Ok(Attempt::HeldBy(other)) => {
                pause = LOOK_EVERY;
                Waiting::ForMigrations(format!("{other} holds the migration lease"))
            }
            // Another process has the file or the rows for a moment.
            Err(StoreError::Busy(reason)) => {
                pause = LOOK_EVERY;
                Waiting::ForMigrations(format!("the database is busy: {reason}"))
            }
            Err(error) if gate.is_some() && !error.was_answered() => {
                pause = (pause * 2).min(LONGEST_PAUSE);
                Waiting::ForDatabase(error.to_string())
            }
            Err(StoreError::Migration(reason)) if failures + 1 < ATTEMPTS => {
                failures += 1;
                pause = LONGEST_PAUSE;
                Waiting::ForMigrations(reason)
            }
            Err(error) => return Err(error),
        };
        if said.as_deref() != Some(waiting.reason()) {
            match &waiting {
                // The reason may change with each attempt, from refused to unreachable and back.
                Waiting::ForDatabase(_) if said.is_some() => {}
                Waiting::ForDatabase(reason) => DatabaseAwaited { url, reason }.emit(),
                Waiting::ForMigrations(reason) => MigrationAwaited { reason }.emit(),
            }
            said = Some(waiting.reason().to_owned());
        }
        if let Some(gate) = gate {
            gate.wait_for(waiting);
        }
        tokio::time::sleep(pause).await;
    }
}

async fn attempt(
    target: &dyn Target,
    holder: &str,
    ran: &mut Vec<String>,
) -> Result<Attempt, StoreError> {
    if target.pending().await?.is_empty() {
        return Ok(Attempt::Current);
    }
    target.prepare().await?;
    let lease = match target.acquire(holder).await? {
        Ok(lease) => lease,
        Err(other) => return Ok(Attempt::HeldBy(other)),
    };
    let migrating = async {
        while let Some(name) = target.run_next(&lease).await? {
            Migrated { migration: &name }.emit();
            ran.push(name);
        }
        Ok(Attempt::Current)
    };
    let outcome = tokio::select! {
        outcome = migrating => outcome,
        () = renew(target, &lease) => Err(lost()),
    };
    // A lease that cannot be given back expires.
    let _ = target.release(&lease).await;
    outcome
}

/// Renews the lease until it is lost.
async fn renew(target: &dyn Target, lease: &MigrationLease) {
    loop {
        tokio::time::sleep(RENEW_EVERY).await;
        // A renewal that fails is tried again: if it fails for too long, the lease is lost.
        if let Ok(false) = target.renew(lease).await {
            return;
        }
    }
}

/// The error of a process that lost the lease to another.
pub(super) fn lost() -> StoreError {
    StoreError::Busy("the migration lease expired, and another process took it".to_owned())
}

/// A name for this process that no other has.
fn holder() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let (host, id) = (host.trim(), std::process::id());
    format!("{host:.64} process {id} ({})", Uuid::now_v7().simple())
}

/// What went wrong in a migration. Diesel tells the cause in words only: whether the database has gone away,
/// the next attempt finds out.
pub(super) fn migration_error(
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
pub(super) struct LeaseLost;
