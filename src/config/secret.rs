//! A setting that must not be seen.

use std::fmt;

use serde::{Deserialize, Deserializer, de};

/// Text that neither logs nor error messages show.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Hides this text.
    #[must_use]
    pub const fn new(text: String) -> Self {
        Self(text)
    }

    /// From an environment variable. Secrets have no flag, for everybody on the machine sees those.
    #[must_use]
    pub fn from_environment(variable: &str) -> Option<Self> {
        std::env::var(variable).ok().map(Self)
    }

    /// The text, for what needs it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether there is nothing in it: an empty environment variable is none.
    #[must_use]
    pub fn is_blank(&self) -> bool {
        self.0.trim().is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(hidden)")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // The error of a text that is none would quote what it has found instead.
        String::deserialize(deserializer)
            .map(Self)
            .map_err(|_| de::Error::custom("a secret must be text in quotes"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_hides_the_secret() {
        let secret = Secret::new("hush".to_owned());
        assert!(!format!("{secret:?} {:#?}", Some(&secret)).contains("hush"));
        assert_eq!(secret.expose(), "hush");
    }
}
