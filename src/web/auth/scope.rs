//! What a service token allows.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, de};

/// One thing that a service may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Like and unlike in the name of any user.
    WriteAny,
    /// Read the likes of any user.
    Read,
    /// See what `/admin` and `/metrics` show.
    AdminRead,
    /// Do what `/admin` offers.
    AdminOperate,
}

impl Scope {
    /// Every scope.
    pub const ALL: [Self; 4] = [
        Self::WriteAny,
        Self::Read,
        Self::AdminRead,
        Self::AdminOperate,
    ];

    /// As it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::WriteAny => "likes:write:any",
            Self::Read => "likes:read",
            Self::AdminRead => "admin:read",
            Self::AdminOperate => "admin:operate",
        }
    }

    /// Whether it is about `/admin`.
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

/// No scope is written like this.
#[derive(Debug, thiserror::Error)]
#[error("there is no such scope; there are {}", Scope::ALL.map(Scope::as_str).join(", "))]
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
