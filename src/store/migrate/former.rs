//! The read models of resource types that the settings named before. Their tables stay, and an erasure must reach them.

use super::migrations::applied;
use crate::domain::ResourceType;
use crate::store::error::StoreError;
use crate::store::schema::likes_table;
use crate::store::session::Session;
use crate::store::source_table;

/// The columns of a read model, besides the one with the resource's id.
const COLUMNS: [&str; 5] = [
    "user_id",
    "version",
    "created_at",
    "deleted_at",
    "voided_at",
];

/// Makes a session know the read models of former resource types as well. A table that is gone, or that another program has
/// created anew, is none.
pub(in crate::store) async fn include_former_types<S: Session>(
    session: &mut S,
) -> Result<(), StoreError> {
    let schema = session.schema();
    let noted = applied(session).await?;
    let word = |name: &str| {
        let word = name.strip_prefix("create_")?.strip_suffix("_likes")?;
        let resource_type = ResourceType::declare(word).ok()?;
        (!schema.resource_types().contains(resource_type)).then_some(resource_type)
    };
    let noted: Vec<ResourceType> = noted.iter().filter_map(|name| word(name)).collect();
    let all = schema.with_types(&noted);
    let mut former = Vec::new();
    for resource_type in noted {
        let (table, id) = likes_table(resource_type);
        let found = source_table::columns(session, &all.named(&table)).await?;
        let has = |column: &str| found.iter().any(|one| one.name == column);
        if has(&id) && COLUMNS.into_iter().all(has) {
            former.push(resource_type);
        }
    }
    session.use_schema(schema.with_types(&former));
    Ok(())
}
