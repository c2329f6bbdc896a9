//! The keys that verify the tokens of users: one shared secret, or the public keys of a JWKS file.

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::Value;

use super::error::AuthError;
use crate::config::Secret;

/// The fewest bytes of a shared secret: the output size of HMAC-SHA-256 (RFC 7518, 3.2).
const SECRET_BYTES: usize = 32;

/// A key and its one algorithm.
pub(super) struct VerificationKey {
    pub(super) id: Option<String>,
    pub(super) algorithm: Algorithm,
    pub(super) decoding: DecodingKey,
}

/// The keys.
pub(super) struct Keys(Vec<VerificationKey>);

impl Keys {
    /// One shared secret, for HS256.
    pub(super) fn secret(secret: &Secret) -> Result<Self, AuthError> {
        let bytes = secret.expose().as_bytes();
        if bytes.len() < SECRET_BYTES {
            return Err(AuthError::WeakSecret);
        }
        Ok(Self(vec![VerificationKey {
            id: None,
            algorithm: Algorithm::HS256,
            decoding: DecodingKey::from_secret(bytes),
        }]))
    }

    /// The public keys of a key set, for RS256, ES256 and EdDSA. Other keys are skipped.
    pub(super) fn jwks(text: &str) -> Result<Self, AuthError> {
        #[derive(Deserialize)]
        struct KeySet {
            keys: Vec<Value>,
        }
        let refused = |reason: &str| AuthError::Jwks {
            reason: reason.to_owned(),
        };
        let set: KeySet = serde_json::from_str(text)
            .map_err(|_| refused("it is not a JSON object with an array 'keys'"))?;
        let mut keys: Vec<VerificationKey> = Vec::new();
        for (index, key) in set.keys.into_iter().enumerate() {
            let number = index + 1;
            let refused = |reason: &str| refused(&format!("key {number} {reason}"));
            if key.get("d").is_some() || key.get("k").is_some() {
                return Err(refused(
                    "is a private or a shared key, which must not be here; shared secrets belong in \
                     LIKEWISE_JWT_SECRET_FILE",
                ));
            }
            let jwk: Jwk = serde_json::from_value(key)
                .map_err(|_| refused("is not a key as RFC 7517 defines it"))?;
            let Some(algorithm) = algorithm(&jwk) else {
                continue;
            };
            let decoding = DecodingKey::from_jwk(&jwk)
                .ok()
                .filter(|_| has_the_right_size(&jwk))
                .ok_or_else(|| refused("is malformed, or too short to be secure"))?;
            let id = jwk.common.key_id;
            if keys.iter().any(|other| other.id == id) {
                return Err(refused("has the same 'kid' as another, or both have none"));
            }
            keys.push(VerificationKey {
                id,
                algorithm,
                decoding,
            });
        }
        if keys.is_empty() {
            return Err(refused("it has no public key for RS256, ES256 or EdDSA"));
        }
        Ok(Self(keys))
    }

    /// The key with this id; a token without a key id is for the only key.
    pub(super) fn find(&self, id: Option<&str>) -> Option<&VerificationKey> {
        match (id, self.0.as_slice()) {
            // The shared secret has no id to compare.
            (_, [only]) if only.algorithm == Algorithm::HS256 => Some(only),
            (None, [only]) => Some(only),
            (None, _) => None,
            (Some(_), keys) => keys.iter().find(|key| key.id.as_deref() == id),
        }
    }
}

/// The algorithm of a key; `None` if this service does not support it.
fn algorithm(jwk: &Jwk) -> Option<Algorithm> {
    let common = &jwk.common;
    if !matches!(common.public_key_use, None | Some(PublicKeyUse::Signature)) {
        return None;
    }
    let (algorithm, name) = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => (Algorithm::RS256, KeyAlgorithm::RS256),
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => {
            (Algorithm::ES256, KeyAlgorithm::ES256)
        }
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
            (Algorithm::EdDSA, KeyAlgorithm::EdDSA)
        }
        _ => return None,
    };
    (common.key_algorithm.unwrap_or(name) == name).then_some(algorithm)
}

/// Whether the key is long enough to be secure: RSA keys have 2048 bits or more. In base64url, four characters
/// encode three bytes.
fn has_the_right_size(jwk: &Jwk) -> bool {
    let bytes = |text: &str| text.len() * 3 / 4;
    match &jwk.algorithm {
        AlgorithmParameters::RSA(key) => (256..=1024).contains(&bytes(&key.n)),
        AlgorithmParameters::EllipticCurve(key) => bytes(&key.x) == 32 && bytes(&key.y) == 32,
        AlgorithmParameters::OctetKeyPair(key) => bytes(&key.x) == 32,
        _ => false,
    }
}
