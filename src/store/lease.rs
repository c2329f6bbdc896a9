//! Leases: rows of `likewise_schema_lease`, taken by compare-and-swap and timed by the database's clock. Migrations
//! (`migrate/`) and the delivery of facts (`outbox.rs`) run under one.
//!
//! They work the same on every database, need no advisory lock, and expire if their holder is killed.

use std::borrow::Cow;

use diesel::prelude::QueryableByName;
use diesel::sql_types::{BigInt, Text};

use super::dialect::Column::Word;
use super::error::StoreError;
use super::session::Session;
use super::statement::{Param, Statement};

/// What a lease is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LeaseKind {
    /// Its name: at most 64 ASCII characters.
    pub(super) name: Cow<'static, str>,
    /// The duration of a lease that its holder does not renew, in seconds.
    pub(super) seconds: i64,
}

/// A lease that a process holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowLease {
    kind: LeaseKind,
    holder: String,
    /// The fencing token, which increases with each lease.
    epoch: i64,
}

/// The row of a lease.
#[derive(Debug, QueryableByName)]
struct LeaseRow {
    /// The name of the process; empty if nobody holds the lease.
    #[diesel(sql_type = Text)]
    holder: String,
    #[diesel(sql_type = BigInt)]
    epoch: i64,
}

impl RowLease {
    /// Creates the row of the lease, unless it exists.
    pub(super) async fn prepare<S: Session>(
        session: &mut S,
        kind: &LeaseKind,
    ) -> Result<(), StoreError> {
        if read(session, kind).await?.is_none() {
            let name = [Param::rows(&[(&kind.name,)])];
            let seed = seed(session);
            session.execute(&seed, &name).await?;
        }
        Ok(())
    }

    /// Acquires the lease if it is free or expired; otherwise returns its holder.
    pub(super) async fn acquire<S: Session>(
        session: &mut S,
        kind: &LeaseKind,
        holder: &str,
    ) -> Result<Result<Self, String>, StoreError> {
        let params = [
            Param::Text(kind.name.to_string()),
            Param::Text(holder.to_owned()),
        ];
        let acquire = acquire(session, kind);
        session.execute(&acquire, &params).await?;
        Ok(match read(session, kind).await? {
            Some(lease) if lease.holder == holder => Ok(Self {
                kind: kind.clone(),
                holder: lease.holder,
                epoch: lease.epoch,
            }),
            Some(lease) if lease.holder.is_empty() => {
                Err("a process that has just ended".to_owned())
            }
            Some(lease) => Err(lease.holder),
            None => Err("a process that is still preparing it".to_owned()),
        })
    }

    /// Renews the lease. Returns whether this process still holds it.
    pub(super) async fn renew<S: Session>(&self, session: &mut S) -> Result<bool, StoreError> {
        let renew = renew(session, &self.kind);
        session.execute(&renew, &self.params()).await?;
        let current = read(session, &self.kind).await?;
        Ok(current
            .is_some_and(|current| current.holder == self.holder && current.epoch == self.epoch))
    }

    /// Releases the lease.
    pub(super) async fn release<S: Session>(&self, session: &mut S) -> Result<(), StoreError> {
        let release = release(session);
        session.execute(&release, &self.params()).await?;
        Ok(())
    }

    fn params(&self) -> [Param; 3] {
        [
            Param::Text(self.kind.name.to_string()),
            Param::Text(self.holder.clone()),
            Param::Number(self.epoch),
        ]
    }
}

async fn read<S: Session>(
    session: &mut S,
    kind: &LeaseKind,
) -> Result<Option<LeaseRow>, StoreError> {
    let sql = "SELECT holder, epoch FROM likewise_schema_lease WHERE name = $1";
    let statement = session.schema().statement(sql);
    let name = [Param::Text(kind.name.to_string())];
    let rows: Vec<LeaseRow> = session.load(&statement, &name).await?;
    Ok(rows.into_iter().next())
}

/// Parameters: rows `(name)`.
fn seed<S: Session>(session: &S) -> Statement {
    let d = session.schema();
    d.statement(format!(
        "INSERT INTO likewise_schema_lease (name, holder, epoch, expires_at) \
         SELECT r.name, '', 0, {} FROM {} WHERE true {}",
        d.clock(0),
        d.rows("$1", &[Word("name")]),
        d.on_conflict("likewise_schema_lease", &["name"], &[])
    ))
}

/// Parameters: the name and the holder.
fn acquire<S: Session>(session: &S, kind: &LeaseKind) -> Statement {
    let d = session.schema();
    let (now, end) = (d.clock(0), d.clock(kind.seconds));
    d.statement(format!(
        "UPDATE likewise_schema_lease SET holder = $2, epoch = epoch + 1, expires_at = {end} \
         WHERE name = $1 AND (holder = '' OR expires_at <= {now})"
    ))
}

/// Parameters: the name, the holder and the epoch.
fn renew<S: Session>(session: &S, kind: &LeaseKind) -> Statement {
    let d = session.schema();
    let end = d.clock(kind.seconds);
    d.statement(format!(
        "UPDATE likewise_schema_lease SET expires_at = {end} WHERE {HELD}"
    ))
}

/// Parameters: the name, the holder and the epoch.
fn release<S: Session>(session: &S) -> Statement {
    let sql = format!("UPDATE likewise_schema_lease SET holder = '' WHERE {HELD}");
    session.schema().statement(sql)
}

const HELD: &str = "name = $1 AND holder = $2 AND epoch = $3";
