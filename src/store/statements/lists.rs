//! The statements of lists. Each page is a range of an index, read backwards.

use super::Statement;
use crate::domain::ResourceType;
use crate::store::dialect::Dialect;
use crate::store::schema::likes_table;

/// The statements over the lists of one resource type.
pub(in crate::store) struct ListsStatements {
    /// Parameters: the resource, the version and the user below which to begin, the most rows.
    pub(in crate::store) likers: Statement,
    /// Parameters: the user, the version and the resource below which to begin, the most rows.
    pub(in crate::store) liked_by: Statement,
    /// Parameters: the user, the most rows, how many to pass over.
    pub(in crate::store) liked_by_from: Statement,
    /// Parameters: the user.
    pub(in crate::store) liked_total: Statement,
    /// Parameters: the like count and the resource below which to begin, the most rows.
    pub(in crate::store) most_liked: Statement,
}

impl ListsStatements {
    pub(super) fn new(d: &dyn Dialect, resource_type: ResourceType) -> Self {
        let (table, id) = likes_table(resource_type);
        let columns = format!(
            "SELECT l.user_id, l.{id} AS resource_id, l.version, {} AS liked FROM {table} l \
             WHERE l.deleted_at IS NULL",
            d.number("1")
        );
        // The first bound names the range: of the comparison of both columns alone, MySQL makes none.
        let page = |key: &str, tie: &str| {
            format!(
                "{columns} AND l.{key} = $1 AND l.version <= $2 \
                 AND (l.version < $2 OR l.{tie} < $3) \
                 ORDER BY l.version DESC, l.{tie} DESC LIMIT $4"
            )
            .into()
        };
        Self {
            likers: page(id, "user_id"),
            liked_by: page("user_id", id),
            liked_by_from: format!(
                "{columns} AND l.user_id = $1 ORDER BY l.version DESC, l.{id} DESC \
                 LIMIT $2 OFFSET $3"
            )
            .into(),
            liked_total: format!(
                "SELECT 'liked' AS label, COUNT(*) AS total FROM {table} l \
                 WHERE l.deleted_at IS NULL AND l.user_id = $1"
            )
            .into(),
            most_liked: format!(
                "SELECT c.resource_type, c.resource_id, c.like_count, c.revision \
                 FROM like_counts c WHERE c.resource_type = '{resource_type}' \
                 AND c.like_count > 0 AND c.like_count <= $1 \
                 AND (c.like_count < $1 OR c.resource_id < $2) \
                 ORDER BY c.like_count DESC, c.resource_id DESC LIMIT $3"
            )
            .into(),
        }
    }
}
