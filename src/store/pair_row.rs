//! The pair of a row: the columns that behaviors and ledger rows name alike. Reads, audits and `ledger_row.rs` load it, and exports show it.

use diesel::prelude::QueryableByName;
use diesel::sql_types::Text;
use serde::Serialize;

use super::error::StoreError;
use super::ids::AnyId;
use crate::domain::{Id, Pair, Resource, ResourceType};

/// The user and the resource of a row.
#[derive(Debug, Serialize, QueryableByName)]
pub(super) struct PairRow {
    #[diesel(sql_type = AnyId)]
    user_id: Id,
    #[diesel(sql_type = Text)]
    resource_type: String,
    #[diesel(sql_type = AnyId)]
    resource_id: Id,
}

impl PairRow {
    /// Returns the pair of a row of this table. Its resource type may be one that only other processes serve, or that the
    /// settings no longer name.
    ///
    /// # Errors
    /// If the resource type is malformed.
    pub(super) fn pair(&self, table: &'static str) -> Result<Pair, StoreError> {
        let resource_type = ResourceType::declare(&self.resource_type);
        let resource_type = resource_type.map_err(|error| StoreError::Unreadable {
            table,
            reason: error.to_string(),
        })?;
        Ok(Pair {
            resource: Resource {
                resource_type,
                id: self.resource_id.clone(),
            },
            user_id: self.user_id.clone(),
        })
    }
}
