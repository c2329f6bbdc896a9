//! How a message in quarantine was resolved: `likewise_quarantined_events.resolution`.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::words::words;

/// How a message in quarantine was resolved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Resolution {
    /// It was published again.
    Republished,
    /// It was discarded.
    Discarded,
}

words!(
    Resolution,
    "resolution of a message",
    [Republished = "republished", Discarded = "discarded"]
);
