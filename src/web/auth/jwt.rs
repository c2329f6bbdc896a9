//! Verifies the tokens of users: JWTs signed by an identity provider.

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Validation, decode, decode_header, get_current_timestamp};
use serde::Deserialize;
use serde_json::Value;

use super::crypto;
use super::error::{AuthError, read_file};
use super::keys::Keys;
use super::service_tokens::Hash;
use super::verified::{Verified, VerifiedTokens};
use crate::config::{AuthOptions, Secret};
use crate::domain::{IdKind, UserId};

/// How far the clocks of this service and the identity provider may be apart, in seconds.
const LEEWAY_SECONDS: u64 = 30;

/// Why a user's token is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BadToken {
    /// It is malformed, its key is unknown, its algorithm is not the key's, or its signature is wrong.
    Unverifiable,
    /// It has expired.
    Expired,
    /// It is not valid yet.
    NotYetValid,
    /// It is for another audience, or from another issuer.
    NotForUs,
    /// A claim is missing or malformed.
    Claim,
    /// Its `sub` is not a user's id.
    Subject,
}

/// Verifies the tokens of users.
pub(super) struct JwtVerifier {
    keys: Keys,
    audience: String,
    issuer: Option<String>,
    verified: VerifiedTokens,
    /// The kind of users' ids.
    user_ids: IdKind,
}

#[derive(Deserialize)]
struct Claims {
    sub: Option<Value>,
    exp: Option<Value>,
}

impl JwtVerifier {
    pub(super) fn load(options: &AuthOptions, user_ids: IdKind) -> Result<Self, AuthError> {
        let audience = options.jwt_audience.clone().ok_or(AuthError::NoAudience)?;
        let secrets = (&options.jwt_secret, &options.jwt_secret_file);
        let keys = match (secrets, &options.jwt_jwks_file) {
            ((Some(secret), None), None) => Keys::secret(secret)?,
            ((None, Some(path)), None) => {
                let text = read_file("LIKEWISE_JWT_SECRET_FILE", path)?;
                // Editors end the last line with a newline.
                let text = text.trim_end_matches(['\r', '\n']).to_owned();
                Keys::secret(&Secret::new(text))?
            }
            ((None, None), Some(path)) => Keys::jwks(&read_file("LIKEWISE_JWT_JWKS_FILE", path)?)?,
            _ => return Err(AuthError::OneKeySource),
        };
        crypto::install();
        Ok(Self {
            keys,
            audience,
            issuer: options.jwt_issuer.clone(),
            verified: VerifiedTokens::new(),
            user_ids,
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
            .ok_or(BadToken::Unverifiable)?;
        // The key decides the algorithm; the token's must be the same.
        let mut validation = Validation::new(key.algorithm);
        validation.leeway = LEEWAY_SECONDS;
        validation.validate_nbf = true;
        validation.set_audience(&[&self.audience]);
        let mut required = vec!["exp", "aud", "sub"];
        if let Some(issuer) = &self.issuer {
            validation.set_issuer(&[issuer]);
            required.push("iss");
        }
        validation.set_required_spec_claims(&required);
        let claims = decode::<Claims>(token, &key.decoding, &validation)
            .map_err(|error| reason(error.kind()))?
            .claims;
        let subject = claims.sub.as_ref().and_then(Value::as_str);
        let user_id = subject.and_then(|subject| self.user_ids.parse(subject).ok());
        let user_id = user_id.ok_or(BadToken::Subject)?;
        // Required above, as a number. One that is too large for any clock never expires.
        let expires = claims.exp.as_ref().and_then(Value::as_f64);
        let expires = expires.ok_or(BadToken::Claim)? as u64;
        Ok(Verified {
            user_id,
            until: expires.saturating_add(LEEWAY_SECONDS),
        })
    }
}

fn reason(error: &ErrorKind) -> BadToken {
    match error {
        ErrorKind::ExpiredSignature => BadToken::Expired,
        ErrorKind::ImmatureSignature => BadToken::NotYetValid,
        ErrorKind::InvalidAudience | ErrorKind::InvalidIssuer => BadToken::NotForUs,
        ErrorKind::MissingRequiredClaim(claim) if claim == "sub" => BadToken::Subject,
        ErrorKind::MissingRequiredClaim(_) | ErrorKind::InvalidClaimFormat(_) => BadToken::Claim,
        _ => BadToken::Unverifiable,
    }
}
