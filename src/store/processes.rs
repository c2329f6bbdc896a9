//! The running processes and what each is set up with. `actors/processes.rs` calls it.

use diesel::prelude::QueryableByName;
use diesel::sql_types::Text as SqlText;

use super::dialect::Column::{Number, Text, Word};
use super::error::StoreError;
use super::session::{Session, Sql};
use super::statement::Param;
use super::{Store, read, transact};

/// A running process.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub struct ProcessRecord {
    /// Its id, new at each start.
    #[diesel(sql_type = SqlText)]
    pub id: String,
    /// The name of its machine.
    #[diesel(sql_type = SqlText)]
    pub host: String,
    /// Its role.
    #[diesel(sql_type = SqlText)]
    pub role: String,
    /// Its version of Likewise.
    #[diesel(sql_type = SqlText)]
    pub version: String,
    /// The cache that it is set up with.
    #[diesel(sql_type = SqlText)]
    pub cache: String,
    /// The broker that it is set up with.
    #[diesel(sql_type = SqlText)]
    pub broker: String,
    /// The receivers of facts that it is set up with.
    #[diesel(sql_type = SqlText)]
    pub facts: String,
    /// The resource types that it serves, in alphabetical order.
    #[diesel(sql_type = SqlText)]
    pub resource_types: String,
}

/// Returns the name of this process for people: its machine and its number there.
#[must_use]
pub fn process_name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{:.64} process {}", host.trim(), std::process::id())
}

/// The age at which a process without a heartbeat counts as gone, in seconds.
const GONE_AFTER: i64 = 45;

impl Store {
    /// Notes that this process runs, and returns the others that ran within the last 45 seconds.
    ///
    /// # Errors
    /// If the database cannot be reached.
    pub async fn note_process(
        &self,
        own: &ProcessRecord,
    ) -> Result<Vec<ProcessRecord>, StoreError> {
        let epoch = self.erasures.epoch();
        transact!(self, |session| note(session, own, epoch))
    }

    /// Returns the number of running processes that do not know the erasures of this epoch yet.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn processes_behind(&self, epoch: i64) -> Result<i64, StoreError> {
        let params = [Param::Number(epoch)];
        read!(self, self.timeout, |session| session
            .total(BEHIND.on(session.schema()), &params))
    }

    /// Returns the processes that ran within the last 45 seconds.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn running_processes(&self) -> Result<Vec<ProcessRecord>, StoreError> {
        let nobody = [Param::Text(String::new())];
        read!(self, self.timeout, |session| async {
            session.load(OTHERS.on(session.schema()), &nobody).await
        })
    }

    /// Notes that this process ends.
    ///
    /// # Errors
    /// If the database cannot be reached.
    pub async fn forget_process(&self, id: &str) -> Result<(), StoreError> {
        transact!(self, |session| forget(session, id))
    }
}

async fn note<S: Session>(
    session: &mut S,
    own: &ProcessRecord,
    epoch: i64,
) -> Result<Vec<ProcessRecord>, StoreError> {
    let schema = session.schema();
    let row = (
        &own.id,
        &own.host,
        &own.role,
        &own.version,
        &own.cache,
        &own.broker,
        epoch,
        &own.facts,
        &own.resource_types,
    );
    session
        .execute(NOTE.on(schema), &[Param::rows(&[row])])
        .await?;
    session.execute(CLEAN_UP.on(schema), &[]).await?;
    let own_id = [Param::Text(own.id.clone())];
    session.load(OTHERS.on(schema), &own_id).await
}

async fn forget<S: Session>(session: &mut S, id: &str) -> Result<(), StoreError> {
    let id = [Param::Text(id.to_owned())];
    session.execute(FORGET.on(session.schema()), &id).await?;
    Ok(())
}

static NOTE: Sql = Sql::new(|d| {
    let now = d.clock(0);
    format!(
        "INSERT INTO likewise_processes (id, host, role, version, cache, broker, erasure_epoch, facts, \
         resource_types, seen_at) SELECT r.id, r.host, r.role, r.version, r.cache, r.broker, r.epoch, \
         r.facts, r.resource_types, {now} FROM {} WHERE true {}",
        d.rows(
            "$1",
            &[
                Word("id"),
                Text("host"),
                Word("role"),
                Text("version"),
                Text("cache"),
                Text("broker"),
                Number("epoch"),
                Text("facts"),
                Text("resource_types")
            ]
        ),
        d.on_conflict(
            "likewise_processes",
            &["id"],
            &[
                ("seen_at", now.clone()),
                ("erasure_epoch", d.incoming("erasure_epoch"))
            ]
        )
    )
});

/// Deletes processes that ended without a word.
static CLEAN_UP: Sql = Sql::new(|d| {
    format!(
        "DELETE FROM likewise_processes WHERE seen_at < {}",
        d.clock(-3_600)
    )
});

static OTHERS: Sql = Sql::new(|d| {
    format!(
        "SELECT id, host, role, version, cache, broker, facts, resource_types \
         FROM likewise_processes WHERE id <> $1 AND seen_at > {} ORDER BY id",
        d.clock(-GONE_AFTER)
    )
});

/// Parameters: the epoch.
static BEHIND: Sql = Sql::new(|d| {
    format!(
        "SELECT 'behind' AS label, COUNT(*) AS total FROM likewise_processes \
         WHERE seen_at > {} AND erasure_epoch < $1",
        d.clock(-GONE_AFTER)
    )
});

static FORGET: Sql = Sql::new(|_| "DELETE FROM likewise_processes WHERE id = $1".to_owned());
