//! The dependencies of Likewise, under their names in logs and metrics.

use utoipa::ToSchema;

/// A dependency of Likewise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ToSchema)]
#[schema(rename_all = "lowercase")]
pub enum Dependency {
    /// The store.
    Database,
    /// The cache.
    Cache,
    /// NATS JetStream.
    Broker,
    /// A receiver of webhooks.
    Webhook,
}

impl Dependency {
    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Database => "database",
            Self::Cache => "cache",
            Self::Broker => "broker",
            Self::Webhook => "webhook",
        }
    }
}
