//! The keys and tokens in force, read from their files or fetched. What cannot be read or used leaves the last good keys or
//! tokens in force.

use std::sync::Arc;

use super::error::{AuthError, read_file};
use super::jwks::fetch;
use super::jwt::{JwtVerifier, KeySource, key_source};
use super::service_tokens::ServiceTokens;
use crate::config::{AuthMode, AuthOptions};

/// The keys and tokens in force, with the texts that they were made from.
pub(super) struct Credentials {
    pub(super) tokens: Arc<ServiceTokens>,
    tokens_text: Option<String>,
    /// Verifies the tokens of users, in mode `jwt`.
    pub(super) jwt: Option<Arc<JwtVerifier>>,
    keys_text: Option<String>,
    /// Whether `/admin` is unauthenticated.
    pub(super) admin_is_open: bool,
}

impl Credentials {
    /// Reads keys and tokens. Blocks its thread where keys are fetched.
    pub(super) fn load(options: &AuthOptions) -> Result<Self, AuthError> {
        let tokens_text = tokens_text(options)?;
        let tokens = ServiceTokens::load(tokens_text.as_deref(), options.admin_token.as_ref())?;
        let (jwt, keys_text) = match options.mode {
            AuthMode::None => (None, None),
            AuthMode::Jwt => {
                let text = keys_text(options)?;
                let jwt = JwtVerifier::new(options, text.as_deref())?;
                (Some(Arc::new(jwt)), text)
            }
        };
        Ok(Self {
            admin_is_open: jwt.is_none() && !tokens.any_admin(),
            tokens: Arc::new(tokens),
            tokens_text,
            jwt,
            keys_text,
        })
    }

    /// Reads keys and tokens again: of keys from a URL, only if `fetches`. Returns what is in force now if that differs,
    /// and what could not be read or used.
    pub(super) fn reload(
        &self,
        options: &AuthOptions,
        fetches: bool,
    ) -> (Option<Self>, Vec<AuthError>) {
        let mut errors = Vec::new();
        let mut new = Self {
            tokens: Arc::clone(&self.tokens),
            tokens_text: self.tokens_text.clone(),
            jwt: self.jwt.clone(),
            keys_text: self.keys_text.clone(),
            admin_is_open: self.admin_is_open,
        };
        let mut changed = false;
        match self.changed_tokens(options) {
            Ok(Some((text, tokens))) => {
                // A changed file may close `/admin`, but never opens it.
                new.admin_is_open &= !tokens.any_admin();
                new.tokens = Arc::new(tokens);
                new.tokens_text = text;
                changed = true;
            }
            Ok(None) => {}
            Err(error) => errors.push(error),
        }
        match self.changed_keys(options, fetches) {
            Ok(Some((text, jwt))) => {
                new.jwt = Some(Arc::new(jwt));
                new.keys_text = text;
                changed = true;
            }
            Ok(None) => {}
            Err(error) => errors.push(error),
        }
        (changed.then_some(new), errors)
    }

    fn changed_tokens(
        &self,
        options: &AuthOptions,
    ) -> Result<Option<(Option<String>, ServiceTokens)>, AuthError> {
        let text = tokens_text(options)?;
        if text == self.tokens_text {
            return Ok(None);
        }
        let tokens = ServiceTokens::load(text.as_deref(), options.admin_token.as_ref())?;
        Ok(Some((text, tokens)))
    }

    fn changed_keys(
        &self,
        options: &AuthOptions,
        fetches: bool,
    ) -> Result<Option<(Option<String>, JwtVerifier)>, AuthError> {
        if self.jwt.is_none() || (options.jwt_jwks_url.is_some() && !fetches) {
            return Ok(None);
        }
        let text = keys_text(options)?;
        if text == self.keys_text {
            return Ok(None);
        }
        let jwt = JwtVerifier::new(options, text.as_deref())?;
        Ok(Some((text, jwt)))
    }
}

fn tokens_text(options: &AuthOptions) -> Result<Option<String>, AuthError> {
    let path = options.tokens_file.as_deref();
    path.map(|path| read_file("LIKEWISE_TOKENS_FILE", path))
        .transpose()
}

/// The text of the file or the URL with the keys; `None` if the secret is a setting.
fn keys_text(options: &AuthOptions) -> Result<Option<String>, AuthError> {
    Ok(match key_source(options)? {
        KeySource::Secret(_) => None,
        KeySource::SecretFile(path) => Some(read_file("LIKEWISE_JWT_SECRET_FILE", path)?),
        KeySource::JwksFile(path) => Some(read_file("LIKEWISE_JWT_JWKS_FILE", path)?),
        KeySource::JwksUrl(url) => Some(fetch(url)?),
    })
}
