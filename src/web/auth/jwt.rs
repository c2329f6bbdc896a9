//! Verifies the tokens of users: JWTs signed by an identity provider.

use std::path::Path;

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Validation, decode, decode_header, get_current_timestamp};
use serde_json::{Map, Value};

use super::crypto;
use super::error::AuthError;
use super::keys::Keys;
use super::service_tokens::Hash;
use super::verified::{Verified, VerifiedTokens};
use crate::config::{AuthOptions, Secret};
use crate::domain::{Id, IdKind, UserId};

/// How far the clocks of this service and the identity provider may be apart, in seconds.
const LEEWAY_SECONDS: u64 = 30;

/// Why a user's token is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BadToken {
    /// It is malformed, its key is unknown, its algorithm is not the key's, or its signature is wrong.
    Unverifiable,
    /// No key of this service has its key id.
    UnknownKey,
    /// It has expired.
    Expired,
    /// It is not valid yet.
    NotYetValid,
    /// It is for another audience, or from another issuer.
    NotForUs,
    /// A claim is missing or malformed.
    Claim,
    /// Its claim with the user is missing, or is not a user's id.
    Subject,
}

/// Verifies the tokens of users.
pub(super) struct JwtVerifier {
    keys: Keys,
    audience: String,
    issuer: Option<String>,
    /// The claim with the user's id.
    user_claim: String,
    verified: VerifiedTokens,
    /// The kind of users' ids.
    user_ids: IdKind,
}

impl JwtVerifier {
    /// Verifies with these keys: `text` is what their file or URL has, if they are from one.
    pub(super) fn new(options: &AuthOptions, text: Option<&str>) -> Result<Self, AuthError> {
        let audience = options.jwt_audience.clone().ok_or(AuthError::NoAudience)?;
        let keys = match (key_source(options)?, text) {
            (KeySource::Secret(secret), _) => Keys::secret(secret)?,
            (KeySource::SecretFile(_), text) => {
                // Editors end the last line with a newline.
                let text = text.unwrap_or_default().trim_end_matches(['\r', '\n']);
                Keys::secret(&Secret::new(text.to_owned()))?
            }
            (KeySource::JwksFile(_) | KeySource::JwksUrl(_), text) => {
                Keys::jwks(text.unwrap_or_default())?
            }
        };
        crypto::install();
        Ok(Self {
            keys,
            audience,
            issuer: options.jwt_issuer.clone(),
            user_claim: options.jwt_user_claim.clone(),
            verified: VerifiedTokens::new(),
            user_ids: options.user_ids,
        })
    }

    /// The user whose token this is. A verified token is remembered until it expires.
    pub(super) fn verify(&self, token: &[u8], hash: Hash) -> Result<UserId, BadToken> {
        if let Some(verified) = self.verified.get(&hash) {
            if get_current_timestamp() <= verified.until {
                return Ok(verified.user_id);
            }
            self.verified.forget(&hash);
            return Err(BadToken::Expired);
        }
        let verified = self.verify_anew(token)?;
        self.verified.put(hash, verified.clone());
        Ok(verified.user_id)
    }

    fn verify_anew(&self, token: &[u8]) -> Result<Verified, BadToken> {
        let header = decode_header(token).map_err(|_| BadToken::Unverifiable)?;
        // A critical extension must be understood (RFC 7515, 4.1.11); this service understands none.
        if header.crit.is_some() {
            return Err(BadToken::Unverifiable);
        }
        let key = self
            .keys
            .find(header.kid.as_deref())
            .ok_or(BadToken::UnknownKey)?;
        // The key decides the algorithm; the token's must be the same.
        let mut validation = Validation::new(key.algorithm);
        validation.leeway = LEEWAY_SECONDS;
        validation.validate_nbf = true;
        validation.set_audience(&[&self.audience]);
        let mut required = vec!["exp", "aud"];
        if let Some(issuer) = &self.issuer {
            validation.set_issuer(&[issuer]);
            required.push("iss");
        }
        validation.set_required_spec_claims(&required);
        let claims = decode::<Map<String, Value>>(token, &key.decoding, &validation)
            .map_err(|error| reason(error.kind()))?
            .claims;
        let user_id = user(&claims, &self.user_claim, self.user_ids).ok_or(BadToken::Subject)?;
        // Required above, as a number. One that is too large for any clock never expires.
        let expires = claims.get("exp").and_then(Value::as_f64);
        let expires = expires.ok_or(BadToken::Claim)? as u64;
        Ok(Verified {
            user_id,
            until: expires.saturating_add(LEEWAY_SECONDS),
        })
    }
}

/// Where the keys come from.
pub(super) enum KeySource<'a> {
    Secret(&'a Secret),
    SecretFile(&'a Path),
    JwksFile(&'a Path),
    JwksUrl(&'a str),
}

/// The one source of keys that the settings name.
pub(super) fn key_source(options: &AuthOptions) -> Result<KeySource<'_>, AuthError> {
    let AuthOptions {
        jwt_secret,
        jwt_secret_file,
        jwt_jwks_file,
        jwt_jwks_url,
        ..
    } = options;
    match (jwt_secret, jwt_secret_file, jwt_jwks_file, jwt_jwks_url) {
        (Some(secret), None, None, None) => Ok(KeySource::Secret(secret)),
        (None, Some(path), None, None) => Ok(KeySource::SecretFile(path)),
        (None, None, Some(path), None) => Ok(KeySource::JwksFile(path)),
        (None, None, None, Some(url)) => Ok(KeySource::JwksUrl(url)),
        _ => Err(AuthError::OneKeySource),
    }
}

/// The user that a claim names: the claim of this name, or nested ones with dots between their names. `sub` is text, as
/// RFC 7519 defines it; other claims are text or a number.
fn user(claims: &Map<String, Value>, name: &str, kind: IdKind) -> Option<UserId> {
    let claim = match claims.get(name) {
        Some(claim) => claim,
        None => {
            let mut names = name.split('.');
            let first = claims.get(names.next()?)?;
            names.try_fold(first, |claim, name| claim.get(name))?
        }
    };
    match claim {
        Value::String(text) => kind.parse(text).ok(),
        Value::Number(number) if name != "sub" => kind.check(Id::Number(number.as_i64()?)).ok(),
        _ => None,
    }
}

fn reason(error: &ErrorKind) -> BadToken {
    match error {
        ErrorKind::ExpiredSignature => BadToken::Expired,
        ErrorKind::ImmatureSignature => BadToken::NotYetValid,
        ErrorKind::InvalidAudience | ErrorKind::InvalidIssuer => BadToken::NotForUs,
        ErrorKind::MissingRequiredClaim(_) | ErrorKind::InvalidClaimFormat(_) => BadToken::Claim,
        _ => BadToken::Unverifiable,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn user_is_read_from_the_configured_claim() {
        let claims = json!({
            "sub": "7", "uid": 8, "name": "alice", "zero": 0, "half": 8.5,
            "https://example.com/user.id": "9",
            "app": {"user": {"id": 10}},
        });
        let claims = claims.as_object().expect("an object");
        for (name, id) in [
            ("sub", Some(7)),
            ("uid", Some(8)),
            ("https://example.com/user.id", Some(9)),
            ("app.user.id", Some(10)),
            ("app.user", None),
            ("name", None),
            ("zero", None),
            ("half", None),
            ("missing", None),
            ("app.missing.id", None),
        ] {
            assert_eq!(
                user(claims, name, IdKind::Number),
                id.map(Id::Number),
                "{name}"
            );
        }
        let number = json!({"sub": 7});
        assert_eq!(
            user(
                number.as_object().expect("an object"),
                "sub",
                IdKind::Number
            ),
            None
        );
    }
}
