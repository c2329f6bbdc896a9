//! The scopes of service tokens.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, de};

/// A permission of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Like and unlike for any user.
    WriteAny,
    /// Read the likes of any user.
    Read,
    /// Read `/admin` and `/metrics`.
    AdminRead,
    /// Operate through `/admin`.
    AdminOperate,
    /// Erase and export users and resources.
    Erase,
}

impl Scope {
    /// Every scope.
    pub const ALL: [Self; 5] = [
        Self::WriteAny,
        Self::Read,
        Self::AdminRead,
        Self::AdminOperate,
        Self::Erase,
    ];

    /// Its name in files and challenges.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::WriteAny => "likes:write:any",
            Self::Read => "likes:read",
            Self::AdminRead => "admin:read",
            Self::AdminOperate => "admin:operate",
            Self::Erase => "data:erase",
        }
    }

    /// Whether it concerns `/admin`.
    #[must_use]
    pub const fn is_admin(self) -> bool {
        matches!(self, Self::AdminRead | Self::AdminOperate)
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// No scope has this name.
#[derive(Debug, thiserror::Error)]
#[error("there is no such scope; the scopes are {}", Scope::ALL.map(Scope::as_str).join(", "))]
pub struct UnknownScope;

impl FromStr for Scope {
    type Err = UnknownScope;

    fn from_str(text: &str) -> Result<Self, UnknownScope> {
        let mut all = Self::ALL.into_iter();
        all.find(|scope| scope.as_str() == text).ok_or(UnknownScope)
    }
}

impl<'de> Deserialize<'de> for Scope {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}
