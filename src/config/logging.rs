//! How the log is written.

use std::path::Path;

use super::{LogFormat, PartialConfig};

impl PartialConfig {
    /// Returns the form of the log before the settings are loaded, because loading them may already fail. What is wrong
    /// with the settings file at `path` is left to [`load`](Self::load).
    #[must_use]
    pub fn log_format_at_start(&self, path: &Path) -> LogFormat {
        self.log_format
            .or_else(|| Self::from_file(path).ok()?.log_format)
            .unwrap_or_default()
    }
}
