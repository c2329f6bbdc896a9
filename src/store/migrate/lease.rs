//! The migration lease: one row of `likewise_schema_lease`, taken by compare-and-swap and timed by the database's clock.
//!
//! It works the same on every database, needs no advisory lock, and expires if its holder is killed.

use diesel::prelude::QueryableByName;
use diesel::sql_types::{BigInt, Text};

use crate::store::error::StoreError;
use crate::store::session::{Param, Session, Sql};

/// The duration of a lease that its holder does not renew, in seconds.
const LEASE_SECONDS: i64 = 15;

/// A lease that a process holds.
#[derive(Debug, Clone, QueryableByName)]
pub(super) struct MigrationLease {
    /// The name of the process; empty if nobody holds the lease.
    #[diesel(sql_type = Text)]
    holder: String,
    /// The fencing token, which increases with each lease.
    #[diesel(sql_type = BigInt)]
    epoch: i64,
}

impl MigrationLease {
    /// Creates the row of the lease, unless it exists.
    pub(super) async fn prepare<S: Session>(session: &mut S) -> Result<(), StoreError> {
        if Self::read(session).await?.is_none() {
            session.execute(SEED.on(session.schema()), &[]).await?;
        }
        Ok(())
    }

    /// Acquires the lease if it is free or expired; otherwise returns its holder.
    pub(super) async fn acquire<S: Session>(
        session: &mut S,
        holder: &str,
    ) -> Result<Result<Self, String>, StoreError> {
        let params = [Param::Text(holder.to_owned())];
        session
            .execute(ACQUIRE.on(session.schema()), &params)
            .await?;
        Ok(match Self::read(session).await? {
            Some(lease) if lease.holder == holder => Ok(lease),
            Some(lease) if lease.holder.is_empty() => {
                Err("a process that has just ended".to_owned())
            }
            Some(lease) => Err(lease.holder),
            None => Err("a process that is still preparing it".to_owned()),
        })
    }

    /// Renews the lease. Returns whether this process still holds it.
    pub(super) async fn renew<S: Session>(&self, session: &mut S) -> Result<bool, StoreError> {
        session
            .execute(RENEW.on(session.schema()), &self.params())
            .await?;
        let current = Self::read(session).await?;
        Ok(current
            .is_some_and(|current| current.holder == self.holder && current.epoch == self.epoch))
    }

    /// Releases the lease.
    pub(super) async fn release<S: Session>(&self, session: &mut S) -> Result<(), StoreError> {
        session
            .execute(RELEASE.on(session.schema()), &self.params())
            .await?;
        Ok(())
    }

    async fn read<S: Session>(session: &mut S) -> Result<Option<Self>, StoreError> {
        let rows: Vec<Self> = session.load(READ.on(session.schema()), &[]).await?;
        Ok(rows.into_iter().next())
    }

    fn params(&self) -> [Param; 2] {
        [Param::Text(self.holder.clone()), Param::Number(self.epoch)]
    }
}

static READ: Sql = Sql::new(|_| {
    "SELECT holder, epoch FROM likewise_schema_lease WHERE name = 'migrations'".to_owned()
});

static SEED: Sql = Sql::new(|d| {
    format!(
        "INSERT INTO likewise_schema_lease (name, holder, epoch, expires_at) \
         SELECT r.name, '', 0, {} FROM (SELECT 'migrations' AS name) AS r WHERE true {}",
        d.clock(0),
        d.on_conflict("likewise_schema_lease", &["name"], &[])
    )
});

/// Parameters: the holder.
static ACQUIRE: Sql = Sql::new(|d| {
    let (now, end) = (d.clock(0), d.clock(LEASE_SECONDS));
    format!(
        "UPDATE likewise_schema_lease SET holder = $1, epoch = epoch + 1, expires_at = {end} \
         WHERE name = 'migrations' AND (holder = '' OR expires_at <= {now})"
    )
});

/// Parameters: the holder and the epoch.
static RENEW: Sql = Sql::new(|d| {
    let end = d.clock(LEASE_SECONDS);
    format!("UPDATE likewise_schema_lease SET expires_at = {end} WHERE {HELD}")
});

/// Parameters: the holder and the epoch.
static RELEASE: Sql =
    Sql::new(|_| format!("UPDATE likewise_schema_lease SET holder = '' WHERE {HELD}"));

const HELD: &str = "name = 'migrations' AND holder = $1 AND epoch = $2";
