//! How users, services and operators sign in.

use super::{PartialConfig, Secret};
use crate::web::auth::AuthOptions;

impl PartialConfig {
    pub(super) fn auth(&self) -> AuthOptions {
        let secret = |secret: &Option<Secret>| secret.clone().filter(|secret| !secret.is_blank());
        AuthOptions {
            mode: self.auth_mode.unwrap_or_default(),
            jwt_secret: secret(&self.jwt_secret),
            jwt_secret_file: self.jwt_secret_file.clone(),
            jwt_jwks_file: self.jwt_jwks_file.clone(),
            jwt_issuer: super::not_blank(self.jwt_issuer.as_deref()),
            jwt_audience: super::not_blank(self.jwt_audience.as_deref()),
            tokens_file: self.tokens_file.clone(),
            admin_token: secret(&self.admin_token),
        }
    }
}
