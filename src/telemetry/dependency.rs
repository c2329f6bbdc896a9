//! The dependencies of Likewise, as logs and metrics name them.

use utoipa::ToSchema;

/// The parts that Likewise depends on, as logs and metrics name them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ToSchema)]
#[schema(rename_all = "lowercase")]
pub enum Dependency {
    /// The store.
    Database,
    /// The cache.
    Cache,
    /// NATS JetStream.
    Broker,
}

impl Dependency {
    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Database => "database",
            Self::Cache => "cache",
            Self::Broker => "broker",
        }
    }
}
