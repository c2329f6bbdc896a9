//! The settings file, and what is wrong with a TOML file.

use std::io::ErrorKind;
use std::path::Path;

use super::{ConfigError, PartialConfig, names};

/// The settings file in the working directory. It need not exist.
pub const FILE: &str = "likewise.toml";

impl PartialConfig {
    /// Reads the settings file at `path`; without a file there, no setting is given.
    pub(super) fn from_file(path: &Path) -> Result<Self, ConfigError> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => {
                return Err(ConfigError::Unreadable {
                    path: path.display().to_string(),
                    reason: error.to_string(),
                });
            }
        };
        toml::from_str(&text).map_err(|error| ConfigError::Invalid {
            path: path.display().to_string(),
            reason: complaint(&text, &error),
        })
    }
}

/// What is wrong with a TOML file: the line, its key and the reason. The line itself is not quoted, because it may
/// hold a secret.
pub(crate) fn complaint(text: &str, error: &toml::de::Error) -> String {
    let start = error.span().map_or(0, |span| span.start).min(text.len());
    let number = text.as_bytes()[..start]
        .iter()
        .filter(|byte| **byte == b'\n')
        .count();
    let line = text.lines().nth(number).unwrap_or_default();
    let key = line.split('=').next().unwrap_or_default().trim();
    let is_key = |text: &str| {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
        line.contains('=') && text.len() <= 40 && text.bytes().all(plain)
    };
    let key = if is_key(key) { key } else { "" };
    let message = error.message();
    let message = names::unknown_key(message).unwrap_or_else(|| message.to_owned());
    format!("line {} {key}: {message}", number + 1)
}
