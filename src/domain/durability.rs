//! Where an accepted like is durable when its request is answered: answers and metrics name it.

use serde::Serialize;
use utoipa::ToSchema;

/// Where an accepted like is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// JetStream has acknowledged its event.
    Broker,
    /// The database has committed it to the ledger.
    Database,
}

impl Durability {
    /// The word for it in JSON and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Broker => "broker",
            Self::Database => "database",
        }
    }
}
