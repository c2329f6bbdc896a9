//! The identity of the deployment: reads it, counts heartbeats, and starts a new generation after a restore.
//! `actors/deployment.rs` and the command line call it.

use diesel::prelude::QueryableByName;
use diesel::sql_types::{BigInt, Text};

use super::error::StoreError;
use super::session::{Session, Sql};
use super::statement::Param;
use super::{Store, read, transact};
use crate::domain::Deployment;

/// The row of `likewise_deployment`.
#[derive(Debug, QueryableByName)]
struct IdentityRow {
    #[diesel(sql_type = Text)]
    id: String,
    #[diesel(sql_type = Text)]
    generation: String,
    #[diesel(sql_type = BigInt)]
    beat: i64,
}

impl Store {
    /// Returns the identity of the deployment.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn deployment(&self) -> Result<Deployment, StoreError> {
        let found = read!(self, self.timeout, |session| identity(session));
        found.map(|(deployment, _)| deployment)
    }

    /// Counts a heartbeat. Returns the identity, and the number of heartbeats of all processes so far.
    ///
    /// # Errors
    /// If the database cannot be reached.
    pub async fn beat(&self) -> Result<(Deployment, i64), StoreError> {
        transact!(self, |session| beat(session))
    }

    /// Starts a new generation, unless another process has started one after `known`. Returns the current identity.
    ///
    /// # Errors
    /// If the database cannot be reached.
    pub async fn start_generation(&self, known: &Deployment) -> Result<Deployment, StoreError> {
        transact!(self, |session| start_generation(session, known))
    }
}

pub(super) async fn identity<S: Session>(session: &mut S) -> Result<(Deployment, i64), StoreError> {
    let rows: Vec<IdentityRow> = session.load(READ.on(session.schema()), &[]).await?;
    let unreadable = |reason: &str| StoreError::Unreadable {
        table: "likewise_deployment",
        reason: reason.to_owned(),
    };
    let row = rows.first().ok_or_else(|| unreadable("it has no row"))?;
    let id = row.id.parse();
    let deployment = Deployment {
        id: id.map_err(|_| unreadable("its id is no UUID"))?,
        generation: row.generation.clone(),
    };
    Ok((deployment, row.beat))
}

async fn beat<S: Session>(session: &mut S) -> Result<(Deployment, i64), StoreError> {
    session.execute(BEAT.on(session.schema()), &[]).await?;
    identity(session).await
}

async fn start_generation<S: Session>(
    session: &mut S,
    known: &Deployment,
) -> Result<Deployment, StoreError> {
    let params = [
        Param::Text(Deployment::new_generation()),
        Param::Text(known.generation.clone()),
    ];
    let schema = session.schema();
    session
        .execute(START_GENERATION.on(schema), &params)
        .await?;
    identity(session).await.map(|(deployment, _)| deployment)
}

static READ: Sql = Sql::new(|_| {
    "SELECT id, generation, beat FROM likewise_deployment WHERE name = 'likewise'".to_owned()
});

static BEAT: Sql = Sql::new(|_| {
    "UPDATE likewise_deployment SET beat = beat + 1 WHERE name = 'likewise'".to_owned()
});

/// Parameters: the new generation, the generation that it follows.
static START_GENERATION: Sql = Sql::new(|_| {
    "UPDATE likewise_deployment SET generation = $1 \
     WHERE name = 'likewise' AND generation = $2"
        .to_owned()
});
