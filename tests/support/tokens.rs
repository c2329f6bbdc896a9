//! Users' tokens, as an identity provider signs them, and its key set.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::rand::SystemRandom;
use ring::rsa::PublicKeyComponents;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256,
    RsaKeyPair,
};
use ring::{digest, hmac};
use serde_json::{Value, json};

/// A secret for HS256.
pub const SECRET: &str = "a secret of tests that nobody may see in any log";

/// The audience of the tokens.
pub const AUDIENCE: &str = "likewise";

/// The issuer of the tokens.
pub const ISSUER: &str = "https://id.example.com";

/// Seconds since 1970.
pub fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.expect("after 1970").as_secs() as i64
}

/// The claims of a valid token of this user.
pub fn claims(user: i64) -> Value {
    json!({
        "sub": user.to_string(),
        "exp": now() + 3_600,
        "aud": AUDIENCE,
        "iss": ISSUER,
    })
}

/// The same claims with one of them set, or removed if the value is `null`.
pub fn with(mut claims: Value, name: &str, value: impl Into<Value>) -> Value {
    let object = claims.as_object_mut().expect("an object");
    match value.into() {
        Value::Null => object.remove(name),
        value => object.insert(name.to_owned(), value),
    };
    claims
}

fn base64url(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A token with these claims and this signer.
pub fn token(header: &Value, claims: &Value, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
    let header = base64url(header.to_string());
    let signed = format!("{header}.{}", base64url(claims.to_string()));
    let signature = sign(signed.as_bytes());
    format!("{signed}.{}", base64url(signature))
}

/// A token signed with this secret.
pub fn hs256(secret: &[u8], claims: &Value) -> String {
    token(&json!({"alg": "HS256", "typ": "JWT"}), claims, |message| {
        hmac_of(secret, message)
    })
}

/// A valid token of this user, signed with [`SECRET`].
pub fn token_of(user: i64) -> String {
    hs256(SECRET.as_bytes(), &claims(user))
}

/// The entry of a service in a file of tokens.
pub fn service_token(name: &str, token: &str, scopes: &[&str]) -> String {
    let hash = sha256(token);
    format!("[[token]]\nname = \"{name}\"\nsha256 = \"{hash}\"\nscopes = {scopes:?}\n")
}

/// The HS256 signer of a secret.
pub fn hmac_of(secret: &[u8], message: &[u8]) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    hmac::sign(&key, message).as_ref().to_vec()
}

/// The SHA-256 of a token, in hex.
pub fn sha256(text: &str) -> String {
    hex::encode(digest::digest(&digest::SHA256, text.as_bytes()))
}

/// The keys of an identity provider. The RSA key is a constant, because ring generates none.
pub struct Provider {
    rsa: RsaKeyPair,
    ecdsa: EcdsaKeyPair,
    ed25519: Ed25519KeyPair,
    random: SystemRandom,
}

impl Provider {
    pub fn new() -> Self {
        let random = SystemRandom::new();
        let text = include_str!("rsa_key.txt").replace('\n', "");
        let rsa = STANDARD.decode(text).expect("base64");
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let ecdsa = EcdsaKeyPair::generate_pkcs8(algorithm, &random).expect("a key");
        let ed25519 = Ed25519KeyPair::generate_pkcs8(&random).expect("a key");
        Self {
            rsa: RsaKeyPair::from_der(&rsa).expect("a key"),
            ecdsa: EcdsaKeyPair::from_pkcs8(algorithm, ecdsa.as_ref(), &random).expect("a key"),
            ed25519: Ed25519KeyPair::from_pkcs8(ed25519.as_ref()).expect("a key"),
            random,
        }
    }

    /// Returns the public keys, as the provider publishes them.
    pub fn jwks(&self) -> Value {
        let rsa: PublicKeyComponents<Vec<u8>> = self.rsa.public().into();
        let point = self.ecdsa.public_key().as_ref();
        json!({"keys": [
            {"kty": "RSA", "kid": "rsa", "use": "sig", "alg": "RS256",
             "n": base64url(rsa.n), "e": base64url(rsa.e)},
            {"kty": "EC", "kid": "ec", "crv": "P-256",
             "x": base64url(&point[1..33]), "y": base64url(&point[33..])},
            {"kty": "OKP", "kid": "ed", "crv": "Ed25519", "x": base64url(self.ed25519.public_key())},
            {"kty": "RSA", "kid": "other", "use": "enc", "n": "AQAB", "e": "AQAB"},
        ]})
    }

    /// Returns the modulus and exponent of the RSA key as DER, the content of a PEM public key.
    pub fn rsa_public_der(&self) -> Vec<u8> {
        self.rsa.public().as_ref().to_vec()
    }

    fn sign_rsa(&self, message: &[u8]) -> Vec<u8> {
        let mut signature = vec![0; self.rsa.public().modulus_len()];
        self.rsa
            .sign(&RSA_PKCS1_SHA256, &self.random, message, &mut signature)
            .expect("signed");
        signature
    }

    /// Signs with the key of this name, under this header.
    pub fn sign(&self, key: &str, header: &Value, claims: &Value) -> String {
        token(header, claims, |message| match key {
            "rsa" => self.sign_rsa(message),
            "ec" => {
                let signature = self.ecdsa.sign(&self.random, message);
                signature.expect("signed").as_ref().to_vec()
            }
            _ => self.ed25519.sign(message).as_ref().to_vec(),
        })
    }

    /// Returns a valid token.
    pub fn good(&self, key: &str, claims: &Value) -> String {
        let algorithm = match key {
            "rsa" => "RS256",
            "ec" => "ES256",
            _ => "EdDSA",
        };
        self.sign(key, &json!({"alg": algorithm, "kid": key}), claims)
    }
}
