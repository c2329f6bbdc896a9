//! The tokens of services and operators: random text, of which only the hash is stored.

use std::sync::Arc;

use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom, SystemRandom};
use serde::Deserialize;
use subtle::ConstantTimeEq;

use super::error::{ADMIN_TOKEN_BYTES, AuthError};
use super::scope::Scope;
use crate::config::Secret;
use crate::config::complaint;

/// The prefix of service tokens, by which secret scanners recognise them.
pub const PREFIX: &str = "lkw_";

/// The name of a caller with the admin token.
pub const ADMIN: &str = "admin";

/// The SHA-256 of a token.
pub(super) type Hash = [u8; 32];

/// Hashes a token.
pub(super) fn hash(token: &[u8]) -> Hash {
    let mut hash = Hash::default();
    hash.copy_from_slice(digest(&SHA256, token).as_ref());
    hash
}

/// A service that may call the API.
#[derive(Debug, PartialEq, Eq)]
pub struct Service {
    /// The name.
    pub name: String,
    /// The scopes.
    pub scopes: Vec<Scope>,
}

impl Service {
    /// Whether it has this scope.
    #[must_use]
    pub fn has(&self, scope: Scope) -> bool {
        self.scopes.contains(&scope)
    }
}

/// The known service tokens.
pub(super) struct ServiceTokens(Vec<(Hash, Arc<Service>)>);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    token: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    sha256: String,
    scopes: Vec<Scope>,
}

impl ServiceTokens {
    /// The tokens of the file with this text, and the admin token.
    pub(super) fn load(file: Option<&str>, admin: Option<&Secret>) -> Result<Self, AuthError> {
        let mut tokens = match file {
            Some(text) => Self::parse(text)?,
            None => Self(Vec::new()),
        };
        if let Some(admin) = admin {
            if admin.expose().len() < ADMIN_TOKEN_BYTES {
                return Err(AuthError::WeakAdminToken);
            }
            let service = Service {
                name: ADMIN.to_owned(),
                scopes: vec![Scope::AdminRead, Scope::AdminOperate, Scope::Erase],
            };
            let hash = hash(admin.expose().as_bytes());
            tokens.0.push((hash, Arc::new(service)));
        }
        Ok(tokens)
    }

    fn parse(text: &str) -> Result<Self, AuthError> {
        let refused = |reason: String| AuthError::Tokens { reason };
        let file: File = toml::from_str(text).map_err(|error| refused(complaint(text, &error)))?;
        let mut tokens = Self(Vec::new());
        for (index, entry) in file.token.into_iter().enumerate() {
            let number = index + 1;
            let refused = |reason: &str| refused(format!("token {number}: {reason}"));
            if !is_name(&entry.name) {
                return Err(refused(NAME_RULE));
            }
            let mut hash = Hash::default();
            hex::decode_to_slice(&entry.sha256, &mut hash)
                .map_err(|_| refused("sha256 must be the token's SHA-256 in 64 hex digits"))?;
            if entry.scopes.is_empty() {
                return Err(refused("it has no scope, so it would allow nothing"));
            }
            let taken = |(other, service): &(Hash, Arc<Service>)| {
                *other == hash || service.name == entry.name
            };
            if tokens.0.iter().any(taken) {
                return Err(refused("another has the same name or the same sha256"));
            }
            let (name, scopes) = (entry.name, entry.scopes);
            tokens.0.push((hash, Arc::new(Service { name, scopes })));
        }
        Ok(tokens)
    }

    /// The service whose token has this hash. It compares all of them, each in constant time, so that the time
    /// of the answer does not reveal how close a guess is.
    pub(super) fn find(&self, hash: &Hash) -> Option<&Arc<Service>> {
        let mut found = None;
        for (known, service) in &self.0 {
            if bool::from(known.ct_eq(hash)) {
                found = Some(service);
            }
        }
        found
    }

    /// Whether any of them has this scope.
    pub(super) fn any_with(&self, scope: Scope) -> bool {
        self.0.iter().any(|(_, service)| service.has(scope))
    }

    /// Whether any of them has an admin scope.
    pub(super) fn any_admin(&self) -> bool {
        let mut services = self.0.iter().map(|(_, service)| service);
        services.any(|service| service.scopes.iter().any(|scope| scope.is_admin()))
    }
}

/// The rule for names of services.
pub const NAME_RULE: &str =
    "a name must have 1 to 64 letters, digits, '.', '_' or '-', and must not be 'admin'";

/// Whether a service may have this name.
#[must_use]
pub fn is_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=64).contains(&name.len()) && name.bytes().all(plain) && name != ADMIN
}

/// A new random token and its hash in hex; `None` if the system has no randomness.
#[must_use]
pub fn fresh() -> Option<(String, String)> {
    let mut random = [0; 32];
    SystemRandom::new().fill(&mut random).ok()?;
    let token = format!("{PREFIX}{}", hex::encode(random));
    let hash = hex::encode(hash(token.as_bytes()));
    Some((token, hash))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, token: &str, scopes: &str) -> String {
        let hash = hex::encode(hash(token.as_bytes()));
        format!("[[token]]\nname = \"{name}\"\nsha256 = \"{hash}\"\nscopes = [{scopes}]\n")
    }

    #[test]
    fn token_is_found_by_its_hash() {
        let text = entry("feed", "lkw_a", "\"likes:read\"")
            + &entry("ops", "lkw_b", "\"admin:read\", \"admin:operate\"");
        let tokens = ServiceTokens::parse(&text).expect("valid");
        let found = tokens.find(&hash(b"lkw_a")).expect("known");
        assert_eq!(
            (found.name.as_str(), found.has(Scope::Read)),
            ("feed", true)
        );
        assert!(!found.has(Scope::AdminRead));
        assert!(tokens.find(&hash(b"lkw_c")).is_none());
        assert!(tokens.any_admin());
        let text = entry("feed", "lkw_a", "\"likes:read\"");
        assert!(!ServiceTokens::parse(&text).expect("valid").any_admin());
    }

    #[test]
    fn short_admin_token_is_rejected() {
        let load = |text: String| ServiceTokens::load(None, Some(&Secret::new(text)));
        let refused = load("x".repeat(ADMIN_TOKEN_BYTES - 1));
        let Err(error @ AuthError::WeakAdminToken) = refused else {
            panic!("it was accepted");
        };
        let error = error.to_string();
        for said in ["LIKEWISE_ADMIN_TOKEN", "16 bytes", "openssl rand -hex 32"] {
            assert!(error.contains(said), "{error}");
        }
        let accepted = load("x".repeat(ADMIN_TOKEN_BYTES)).expect("long enough");
        assert!(accepted.any_admin());
    }

    #[test]
    fn invalid_token_file_is_rejected_without_quoting_it() {
        let pasted = "lkw_0123456789";
        for (text, said) in [
            (entry("admin", "a", "\"likes:read\""), "must not be 'admin'"),
            (entry("", "a", "\"likes:read\""), "a name must have"),
            (entry("a b", "a", "\"likes:read\""), "a name must have"),
            (entry("feed", "a", ""), "no scope"),
            (
                entry("feed", "a", "\"likes:all\""),
                "there is no such scope",
            ),
            (
                entry("a", "a", "\"likes:read\"") + &entry("a", "b", "\"likes:read\""),
                "same name",
            ),
            (
                entry("a", "a", "\"likes:read\"") + &entry("b", "a", "\"likes:read\""),
                "same sha256",
            ),
            (
                format!(
                    "[[token]]\nname = \"a\"\nsha256 = \"{pasted}\"\nscopes = [\"likes:read\"]"
                ),
                "64 hex digits",
            ),
            (format!("[[token]]\ntoken = \"{pasted}\""), "token"),
            (format!("[[token]]\nname = {pasted}"), "line 2"),
        ] {
            let Err(error) = ServiceTokens::parse(&text) else {
                panic!("accepted: {text}");
            };
            let error = error.to_string();
            assert!(error.contains(said), "{error}");
            assert!(!error.contains(pasted), "{error}");
        }
    }
}
