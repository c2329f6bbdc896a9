//! What the statements of `bounded.rs` look for.

use chrono::{DateTime, Utc};

/// The rows that the statements look for.
#[derive(Debug, Clone)]
pub struct Sample {
    /// Now.
    pub now: DateTime<Utc>,
    /// The time and id of a ledger row.
    pub place: (DateTime<Utc>, String),
    /// A user with a few events.
    pub user_id: i64,
    /// A range of users or resources.
    pub numbers: (i64, i64),
    /// A range of event ids.
    pub ids: (String, String),
}
