//! How the log is written.

use std::fmt;
use std::path::Path;

use clap::ValueEnum;
use serde::Deserialize;

use super::PartialConfig;

/// The form of log lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// A line of text for people.
    #[default]
    Text,
    /// A JSON object a line, for programs.
    Json,
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "text",
            Self::Json => "json",
        })
    }
}

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
