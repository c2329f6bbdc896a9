//! What an operator decides about likes that do not count, as those of a fraud. `admin/moderation.rs` calls it.

use serde::{Deserialize, Serialize};

use super::words::words;

/// A decision of an operator about the like of a pair. It is a behavior of the log, but no like event: no client and no
/// publisher can send it. The newest decision about a pair holds, whatever the user does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Moderation {
    /// The like does not count. Its user still sees it.
    Void,
    /// The like counts again.
    Restore,
}

words!(
    Moderation,
    "moderation",
    [Void = "void", Restore = "restore"]
);
