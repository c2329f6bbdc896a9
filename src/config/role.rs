//! The role of a process.

use std::fmt;

use serde::Deserialize;

/// What a process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Both of the others.
    All,
    /// Accepts likes and publishes them.
    Api,
    /// Consumes events from NATS, records them and updates the read models.
    Worker,
}

impl Role {
    /// The word for it in settings and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Api => "api",
            Self::Worker => "worker",
        }
    }

    /// Whether it serves the like API.
    #[must_use]
    pub const fn is_api(self) -> bool {
        matches!(self, Self::All | Self::Api)
    }

    /// Whether it consumes events from NATS and claims due ledger rows.
    #[must_use]
    pub const fn is_worker(self) -> bool {
        matches!(self, Self::All | Self::Worker)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
