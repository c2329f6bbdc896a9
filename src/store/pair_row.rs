//! The pair of a row: the columns that behaviors and ledger rows name alike. Reads, audits and `ledger_row.rs` load it, and exports show it.

use diesel::prelude::QueryableByName;
use diesel::sql_types::Text;
use serde::Serialize;

use super::error::StoreError;
use super::ids::AnyId;
use super::text::word;
use crate::domain::{Id, Pair, Resource};

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
    /// Returns the pair of a row of this table.
    ///
    /// # Errors
    /// If the resource type is not known.
    pub(super) fn pair(&self, table: &'static str) -> Result<Pair, StoreError> {
        Ok(Pair {
            resource: Resource {
                resource_type: word(&self.resource_type, table)?,
                id: self.resource_id.clone(),
            },
            user_id: self.user_id.clone(),
        })
    }
}
