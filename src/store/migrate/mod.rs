//! Brings the tables up to date: one process at a time, under a lease that it renews while it migrates.

mod deployment;
mod former;
mod migrations;
mod scripts;

use std::borrow::Cow;
use std::time::Duration;

use uuid::Uuid;

pub(super) use self::former::include_former_types;
use self::migrations::lost;
pub(super) use self::migrations::{Migrate, Migrations};
pub(super) use self::scripts::{Script, scripts};
use super::error::StoreError;
use super::gate::{Gate, Waiting};
use super::lease::{LeaseKind, RowLease};
use super::processes::process_name;
use super::session::{Connected, Session};
use crate::telemetry::{DatabaseAwaited, Migrated, MigrationAwaited};

/// The lease under which a process migrates.
const LEASE: LeaseKind = LeaseKind {
    name: Cow::Borrowed("migrations"),
    seconds: 15,
};

/// The interval at which the holder renews the lease.
const RENEW_EVERY: Duration = Duration::from_secs(4);

/// The interval at which a waiting process tries again.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// The longest pause between two attempts to reach the database.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// The number of failed attempts after which the process gives up. The server may still run a statement of a killed
/// holder, and the first attempt of its successor can collide with it.
const ATTEMPTS: u32 = 4;

/// How one attempt ended.
enum Attempt {
    /// The tables are up to date.
    Current,
    /// Another process holds the lease.
    HeldBy(String),
}

/// Brings the tables up to date. Waits while another process holds the lease. With a `gate`, it also waits for an
/// unreachable database, and tells the gate the reason.
pub(super) async fn run<C: Migrate>(
    migrations: &Migrations<C>,
    url: &str,
    gate: Option<&Gate>,
) -> Result<Vec<String>, StoreError>
where
    Connected<Box<C>>: Session,
{
    let holder = holder();
    let mut ran = Vec::new();
    let mut said: Option<String> = None;
    let mut failures = 0;
    let mut pause = LOOK_EVERY;
    loop {
        let before = ran.len();
        let attempt = attempt(migrations, &holder, &mut ran).await;
        if ran.len() > before {
            failures = 0;
        }
        let waiting = match attempt {
            Ok(Attempt::Current) => return Ok(ran),
            Ok(Attempt::HeldBy(other)) => {
                pause = LOOK_EVERY;
                Waiting::ForMigrations(format!("{other} holds the migration lease"))
            }
            // Another process locks the file or the rows for a moment.
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
            Err(error) => {
                if matches!(error, StoreError::Migration(_)) {
                    // What cannot be undone is found by the next start.
                    let _ = migrations.undo(&holder, &ran).await;
                }
                return Err(error);
            }
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

async fn attempt<C: Migrate>(
    migrations: &Migrations<C>,
    holder: &str,
    ran: &mut Vec<String>,
) -> Result<Attempt, StoreError>
where
    Connected<Box<C>>: Session,
{
    if migrations.pending().await?.is_empty() {
        return Ok(Attempt::Current);
    }
    migrations.prepare().await?;
    let acquired = migrations
        .on_connection(async |session| RowLease::acquire(session, &LEASE, holder).await)
        .await?;
    let lease = match acquired {
        Ok(lease) => lease,
        Err(other) => return Ok(Attempt::HeldBy(other)),
    };
    let migrating = async {
        while let Some(name) = migrations.run_next(&lease).await? {
            Migrated { migration: &name }.emit();
            ran.push(name);
        }
        Ok(Attempt::Current)
    };
    let outcome = tokio::select! {
        outcome = migrating => outcome,
        () = renew(migrations, &lease) => Err(lost()),
    };
    // A lease that cannot be released expires.
    let _ = migrations
        .on_connection(async |session| lease.release(session).await)
        .await;
    outcome
}

/// Renews the lease until it is lost.
async fn renew<C: Migrate>(migrations: &Migrations<C>, lease: &RowLease)
where
    Connected<Box<C>>: Session,
{
    loop {
        tokio::time::sleep(RENEW_EVERY).await;
        let held = migrations
            .on_connection(async |session| lease.renew(session).await)
            .await;
        // A failed renewal is tried again: if it fails for too long, the lease is lost.
        if matches!(held, Ok(false)) {
            return;
        }
    }
}

/// Returns a unique name for this process.
fn holder() -> String {
    format!("{} ({})", process_name(), Uuid::now_v7().simple())
}
