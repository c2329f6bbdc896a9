//! The values of settings as they are written in the settings file, without secrets.

use std::path::PathBuf;

/// What is shown instead of a secret.
pub(super) const HIDDEN: &str = "***";

/// A value as it is written in the settings file.
pub(super) trait Shown {
    /// The value.
    fn shown(&self) -> String;
}

impl Shown for PathBuf {
    fn shown(&self) -> String {
        self.display().to_string()
    }
}

impl Shown for super::Secret {
    fn shown(&self) -> String {
        HIDDEN.to_owned()
    }
}

macro_rules! shown {
    ($($type:ty),+) => {
        $(impl Shown for $type {
            fn shown(&self) -> String {
                self.to_string()
            }
        })+
    };
}

shown!(
    String,
    bool,
    u32,
    u64,
    usize,
    i32,
    i64,
    crate::domain::IdKind,
    super::JsonIds,
    super::LogFormat,
    std::net::SocketAddr,
    super::AuthMode,
    super::Role,
    super::TlsMode
);
