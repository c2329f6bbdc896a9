//! Whether the database works, and what its clock says. The health monitor and a starting process ask both.

use std::time::Instant;

use chrono::{DateTime, TimeDelta, Utc};

use super::Store;
use super::condition::probe;
use super::error::StoreError;
use super::session::{Session, Sql};
use super::transact::on;
use crate::domain::DatabaseClock;

impl Store {
    /// Succeeds if the database has its tables and accepts writes. Asks it also while it counts as away, which it
    /// no longer does afterwards.
    ///
    /// # Errors
    /// If it has no tables, accepts no writes, or cannot be reached.
    pub async fn ping(&self) -> Result<(), StoreError> {
        on!(self, prober, self.timeout, |session| ping(session))?;
        self.condition().close();
        Ok(())
    }

    /// Returns the database's time as this process knows it: the time for leases and for when rows are due.
    #[must_use]
    pub fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    /// Returns how far this process's wall clock is ahead of the database's, negative if behind; `None` if the
    /// database runs in this process, or has not been asked yet.
    #[must_use]
    pub fn clock_skew(&self) -> Option<TimeDelta> {
        self.clock.skew()
    }

    /// Measures the database's clock, for [`now`](Self::now) and [`clock_skew`](Self::clock_skew). Returns the time that
    /// the database told, which is never ahead of its clock.
    ///
    /// # Errors
    /// If the database cannot be reached.
    pub async fn measure_clock(&self) -> Result<DateTime<Utc>, StoreError> {
        if self.schema.in_process() {
            return Ok(self.now());
        }
        on!(self, prober, self.timeout, |session| measure(
            session,
            &self.clock
        ))
    }
}

async fn ping<S: Session>(session: &mut S) -> Result<(), StoreError> {
    let schema = session.schema();
    session.total(PING.on(schema), &[]).await?;
    // A file has one writer at a time, whom a probe would wait for.
    if schema.in_process() {
        return Ok(());
    }
    probe(session).await
}

async fn measure<S: Session>(
    session: &mut S,
    clock: &DatabaseClock,
) -> Result<DateTime<Utc>, StoreError> {
    let (wall, asked) = (Utc::now(), Instant::now());
    let micros = session.total(CLOCK.on(session.schema()), &[]).await?;
    let database =
        DateTime::from_timestamp_micros(micros).ok_or_else(|| StoreError::Unreadable {
            table: "the clock",
            reason: format!("{micros} microseconds since 1970 are no time"),
        })?;
    clock.note(database, wall, asked, Instant::now());
    Ok(database)
}

/// Reads the tables that a like is recorded in, which only a database in working order has.
static PING: Sql = Sql::new(|_| {
    "SELECT 'ping' AS label, COUNT(*) AS total FROM (SELECT b.event_id FROM user_behaviors b \
     LEFT JOIN sync_events e ON e.id = b.event_id LIMIT 1) AS one"
        .to_owned()
});

/// The database's time, in microseconds since 1970.
static CLOCK: Sql = Sql::new(|d| format!("SELECT 'clock' AS label, {} AS total", d.clock_micros()));
