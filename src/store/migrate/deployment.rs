//! The deployment: one row that the first migration writes down. It names the deployment, and holds the kinds of its ids,
//! which never change.

use diesel::prelude::QueryableByName;
use diesel::sql_types::Text;
use uuid::Uuid;

use crate::domain::{Deployment, IdKind, IdKinds};
use crate::store::dialect::Column::Word;
use crate::store::error::StoreError;
use crate::store::session::{Session, Sql};
use crate::store::statement::Param;

/// The row of `likewise_deployment`.
#[derive(Debug, QueryableByName)]
struct DeploymentRow {
    #[diesel(sql_type = Text)]
    user_ids: String,
    #[diesel(sql_type = Text)]
    resource_ids: String,
}

/// Writes the row, unless it exists.
pub(super) async fn write<S: Session>(session: &mut S) -> Result<(), StoreError> {
    let IdKinds { users, resources } = session.schema().kinds();
    let id = Uuid::now_v7().to_string();
    let generation = Deployment::new_generation();
    let params = [Param::rows(&[(id, generation, users, resources)])];
    session.execute(WRITE.on(session.schema()), &params).await?;
    Ok(())
}

/// Checks that the ids are still of the kinds that the row has.
///
/// # Errors
/// If they are not, or the row cannot be read. Without a row, the first migration has not run yet.
pub(super) async fn check<S: Session>(session: &mut S) -> Result<(), StoreError> {
    let kinds = session.schema().kinds();
    let rows: Vec<DeploymentRow> = session.load(READ.on(session.schema()), &[]).await?;
    let Some(row) = rows.first() else {
        return Ok(());
    };
    for (setting, stored, set) in [
        ("LIKEWISE_USER_IDS", &row.user_ids, kinds.users),
        ("LIKEWISE_RESOURCE_IDS", &row.resource_ids, kinds.resources),
    ] {
        if stored.parse::<IdKind>().ok() != Some(set) {
            return Err(StoreError::Misconfigured(format!(
                "{setting} is {set}, but the tables were created for {stored}: the kind of the ids is fixed at the \
                 first migration; set {setting}={stored}, or use another database or LIKEWISE_TABLE_PREFIX"
            )));
        }
    }
    Ok(())
}

/// Parameters: rows `(id, generation, user_ids, resource_ids)`.
static WRITE: Sql = Sql::new(|d| {
    format!(
        "INSERT INTO likewise_deployment (name, id, generation, beat, user_ids, resource_ids, \
         created_at) SELECT 'likewise', r.id, r.generation, 0, r.user_ids, r.resource_ids, {} FROM {} WHERE true {}",
        d.clock(0),
        d.rows(
            "$1",
            &[
                Word("id"),
                Word("generation"),
                Word("user_ids"),
                Word("resource_ids")
            ]
        ),
        d.on_conflict("likewise_deployment", &["name"], &[])
    )
});

static READ: Sql = Sql::new(|_| {
    "SELECT user_ids, resource_ids FROM likewise_deployment WHERE name = 'likewise'".to_owned()
});
