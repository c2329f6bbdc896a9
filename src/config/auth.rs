//! How users, services and operators sign in.

use std::path::PathBuf;
use std::time::Duration;

use super::{AuthMode, PartialConfig, Secret};
use crate::domain::IdKind;

/// How sign-in is set up.
#[derive(Debug, Clone, Default)]
pub struct AuthOptions {
    /// The kind of users' ids.
    pub user_ids: IdKind,
    /// How users sign in.
    pub mode: AuthMode,
    /// The secret that HS256 tokens are signed with.
    pub jwt_secret: Option<Secret>,
    /// A file with that secret.
    pub jwt_secret_file: Option<PathBuf>,
    /// A file with the public keys of RS256, ES256 and EdDSA tokens.
    pub jwt_jwks_file: Option<PathBuf>,
    /// Where an identity provider publishes those keys.
    pub jwt_jwks_url: Option<String>,
    /// The interval between two fetches from there.
    pub jwt_jwks_refresh: Duration,
    /// The claim with the user's id.
    pub jwt_user_claim: String,
    /// Who must have issued a token, if that is checked.
    pub jwt_issuer: Option<String>,
    /// Whom a token must be for.
    pub jwt_audience: Option<String>,
    /// Whether callers without a token may read like counts in mode `jwt`.
    pub public_reads: bool,
    /// A file with the hashes of service tokens.
    pub tokens_file: Option<PathBuf>,
    /// A token with every admin scope.
    pub admin_token: Option<Secret>,
}

impl AuthOptions {
    pub(super) fn new(config: &PartialConfig) -> Self {
        let secret = |secret: &Option<Secret>| secret.clone().filter(|secret| !secret.is_blank());
        Self {
            user_ids: config.user_ids(),
            mode: config.auth_mode(),
            jwt_secret: secret(&config.jwt_secret),
            jwt_secret_file: config.jwt_secret_file.clone(),
            jwt_jwks_file: config.jwt_jwks_file.clone(),
            jwt_jwks_url: super::not_blank(config.jwt_jwks_url.as_deref()),
            jwt_jwks_refresh: Duration::from_secs(config.jwt_jwks_refresh_seconds()),
            jwt_user_claim: super::not_blank(config.jwt_user_claim.as_deref())
                .unwrap_or_else(|| PartialConfig::default().jwt_user_claim()),
            jwt_issuer: super::not_blank(config.jwt_issuer.as_deref()),
            jwt_audience: super::not_blank(config.jwt_audience.as_deref()),
            public_reads: config.public_reads(),
            tokens_file: config.tokens_file.clone(),
            admin_token: secret(&config.admin_token),
        }
    }
}
