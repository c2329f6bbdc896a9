//! Rows and parameters of repairs.

use diesel::prelude::QueryableByName;
use diesel::sql_types::{BigInt, Text};

use super::rows::id_text;
use crate::domain::{LedgerRow, Resource, ResourceType, Step};

/// What is appended to the history of an event that was put back.
#[allow(clippy::type_complexity, reason = "the columns of a batch")]
pub(super) fn restored_columns(
    row: &LedgerRow,
) -> (String, &'static str, i32, i64, Option<&str>, &'static str) {
    (
        id_text(row.event_id),
        Step::Restored.as_str(),
        row.retry_count,
        row.fencing_token,
        None,
        "audit",
    )
}

/// An event id.
#[derive(Debug, QueryableByName)]
pub(super) struct IdRow {
    #[diesel(sql_type = Text)]
    pub(super) bound: String,
}

/// How many users like a resource.
#[derive(Debug, QueryableByName)]
pub(super) struct LikesRow {
    #[diesel(sql_type = BigInt)]
    resource_id: i64,
    #[diesel(sql_type = BigInt)]
    total: i64,
}

impl LikesRow {
    pub(super) const fn likes(&self, resource_type: ResourceType) -> (Resource, i64) {
        let resource = Resource {
            resource_type,
            id: self.resource_id,
        };
        (resource, self.total)
    }
}
