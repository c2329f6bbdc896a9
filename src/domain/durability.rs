//! The durability of an accepted like, which responses and metrics report.

use serde::Serialize;
use utoipa::ToSchema;

/// The place where an accepted like is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// JetStream has acknowledged its event.
    Broker,
    /// The database has committed it to the ledger.
    Database,
}

impl Durability {
    /// Returns its name in JSON and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Broker => "broker",
            Self::Database => "database",
        }
    }
}
