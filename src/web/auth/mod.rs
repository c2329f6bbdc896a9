//! Who calls, what they may do, and for which user. Handlers take a [`Caller`], or the user that they
//! work for; `/admin` asks for scopes.

mod caller;
mod crypto;
mod jwt;
mod keys;
mod refusals;
mod scope;
pub mod service_tokens;
mod verified;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use actix_web::HttpRequest;
use actix_web::http::header::{self, HeaderMap};
use serde::Deserialize;

pub use caller::Caller;
pub(super) use caller::Right;
pub use scope::{Scope, UnknownScope};

use self::jwt::JwtVerifier;
use self::service_tokens::{PREFIX, Service, ServiceTokens, hash};
use super::Problem;
use super::extract::{named_user, names_only};
use super::guard::proxy;
use crate::config::Secret;
use crate::domain::UserId;

/// How users sign in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum AuthMode {
    /// They do not: the header `X-User-Id` is believed, on loopback only.
    #[default]
    None,
    /// With a JWT that an identity provider has signed.
    Jwt,
}

/// How sign-in is set up.
#[derive(Debug, Clone, Default)]
pub struct AuthOptions {
    /// How users sign in.
    pub mode: AuthMode,
    /// The secret that HS256 tokens are signed with.
    pub jwt_secret: Option<Secret>,
    /// A file with that secret.
    pub jwt_secret_file: Option<PathBuf>,
    /// A file with the public keys of RS256, ES256 and EdDSA tokens.
    pub jwt_jwks_file: Option<PathBuf>,
    /// Who must have issued a token, if that is checked.
    pub jwt_issuer: Option<String>,
    /// Whom a token must be for.
    pub jwt_audience: Option<String>,
    /// A file with the hashes of service tokens.
    pub tokens_file: Option<PathBuf>,
    /// A token with every admin scope.
    pub admin_token: Option<Secret>,
}

/// Why sign-in cannot be set up like this.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// A file cannot be read.
    #[error("cannot read {}, which {setting} names: {source}", path.display())]
    Unreadable {
        /// The setting's environment variable.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Tokens for anybody would be taken.
    #[error(
        "LIKEWISE_AUTH_MODE=jwt needs LIKEWISE_JWT_AUDIENCE: without it, tokens that were made for \
         another service would be taken"
    )]
    NoAudience,
    /// There is no key, or it is not clear which.
    #[error(
        "LIKEWISE_AUTH_MODE=jwt needs exactly one of LIKEWISE_JWT_SECRET, LIKEWISE_JWT_SECRET_FILE \
         and LIKEWISE_JWT_JWKS_FILE"
    )]
    OneKeySource,
    /// The secret can be guessed.
    #[error("the secret of LIKEWISE_JWT_SECRET or its file must have 32 bytes or more")]
    WeakSecret,
    /// The admin token can be guessed.
    #[error(
        "LIKEWISE_ADMIN_TOKEN must have {} bytes or more, so that nobody can guess it; make one with: \
         openssl rand -hex 32",
        service_tokens::ADMIN_TOKEN_BYTES
    )]
    WeakAdminToken,
    /// The key set is none.
    #[error("the file that LIKEWISE_JWT_JWKS_FILE names cannot be used: {reason}")]
    Jwks {
        /// What is wrong with it.
        reason: String,
    },
    /// The token file is none.
    #[error("the file that LIKEWISE_TOKENS_FILE names cannot be used: {reason}")]
    Tokens {
        /// What is wrong with it.
        reason: String,
    },
}

fn read_file(setting: &'static str, path: &Path) -> Result<String, AuthError> {
    std::fs::read_to_string(path).map_err(|source| AuthError::Unreadable {
        setting,
        path: path.to_owned(),
        source,
    })
}

/// Knows every caller.
pub struct Auth {
    tokens: ServiceTokens,
    /// Of mode `jwt`.
    jwt: Option<JwtVerifier>,
    /// Whether `/admin` asks nobody who they are.
    admin_is_open: bool,
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Auth").finish_non_exhaustive()
    }
}

impl Auth {
    /// Reads keys and tokens.
    ///
    /// # Errors
    /// If a file cannot be used, or what mode `jwt` needs is missing.
    pub fn load(options: &AuthOptions) -> Result<Self, AuthError> {
        let tokens =
            ServiceTokens::load(options.tokens_file.as_deref(), options.admin_token.as_ref())?;
        let jwt = match options.mode {
            AuthMode::None => None,
            AuthMode::Jwt => Some(JwtVerifier::load(options)?),
        };
        Ok(Self {
            admin_is_open: jwt.is_none() && !tokens.any_admin(),
            tokens,
            jwt,
        })
    }

    /// Whether users must sign in.
    pub(super) const fn is_required(&self) -> bool {
        self.jwt.is_some()
    }

    /// Whether `/admin` asks nobody who they are.
    pub(super) const fn admin_is_open(&self) -> bool {
        self.admin_is_open
    }

    /// Who sent a request. A token that is no good is refused even where none is asked for.
    pub(super) fn identify(&self, request: &HttpRequest) -> Result<Caller, Problem> {
        let headers = request.headers();
        if !headers.contains_key(header::AUTHORIZATION) {
            // On loopback whoever calls is believed; a proxy there calls for anybody.
            let proxy = match self.jwt {
                None => proxy::sign(request.version(), headers),
                Some(_) => None,
            };
            return Ok(proxy.map_or(Caller::Anonymous, Caller::Proxied));
        }
        let token = bearer(headers).ok_or_else(Problem::not_a_bearer_token)?;
        let hash = hash(token);
        if let Some(service) = self.tokens.find(&hash) {
            return Ok(Caller::Service(Arc::clone(service)));
        }
        match &self.jwt {
            Some(jwt) if !token.starts_with(PREFIX.as_bytes()) => {
                Ok(Caller::User(jwt.verify(token, hash)?))
            }
            _ => Err(Problem::unknown_token()),
        }
    }

    /// The service that sent these headers, if it was one.
    pub(super) fn service(&self, headers: &HeaderMap) -> Option<Arc<Service>> {
        let hash = hash(bearer(headers)?);
        self.tokens.find(&hash).cloned()
    }

    /// Refuses a caller without this scope.
    pub(super) fn allow(&self, caller: &Caller, scope: Scope) -> Result<(), Problem> {
        match caller {
            Caller::Service(service) if service.has(scope) => Ok(()),
            Caller::Service(_) | Caller::User(_) => Err(Problem::forbidden_scope(&[scope])),
            Caller::Proxied(sign) => Err(Problem::proxied(sign)),
            Caller::Anonymous if self.admin_is_open => Ok(()),
            Caller::Anonymous => Err(Problem::admin_unauthorized(self.tokens.any_admin())),
        }
    }

    /// Refuses a caller who may not see the metrics: where users do not sign in, all may that need no proxy.
    pub(super) fn watcher(&self, caller: &Caller) -> Result<(), Problem> {
        match caller {
            Caller::Anonymous if !self.is_required() => Ok(()),
            caller => self.allow(caller, Scope::AdminRead),
        }
    }

    /// Refuses a caller who may not even see what everybody may.
    pub(super) fn guest(&self, caller: &Caller) -> Result<(), Problem> {
        match caller {
            Caller::Service(service) if !Right::Read.is_held_by(service) => {
                Err(Problem::forbidden_scope(Right::Read.scopes()))
            }
            Caller::Proxied(sign) => Err(Problem::proxied(sign)),
            Caller::Anonymous if self.is_required() => Err(Problem::user_unauthorized()),
            Caller::Service(_) | Caller::User(_) | Caller::Anonymous => Ok(()),
        }
    }

    /// Refuses a caller who may not say what any user did.
    pub(super) fn any_user(&self, caller: &Caller) -> Result<(), Problem> {
        match caller {
            Caller::Service(service) if service.has(Scope::WriteAny) => Ok(()),
            Caller::Service(_) | Caller::User(_) => {
                Err(Problem::forbidden_scope(&[Scope::WriteAny]))
            }
            Caller::Proxied(sign) => Err(Problem::proxied(sign)),
            Caller::Anonymous if self.is_required() => Err(Problem::user_unauthorized()),
            Caller::Anonymous => Ok(()),
        }
    }

    /// Refuses a caller who may not see what is this user's alone.
    pub(super) fn owner(
        &self,
        caller: &Caller,
        headers: &HeaderMap,
        owner: UserId,
    ) -> Result<(), Problem> {
        self.guest(caller)?;
        let is_another = matches!(caller, Caller::User(user_id) if *user_id != owner);
        if is_another || !names_only(headers, owner) {
            return Err(Problem::not_the_owner());
        }
        Ok(())
    }

    /// The user that a caller may do this for.
    pub(super) fn user(
        &self,
        caller: &Caller,
        headers: &HeaderMap,
        right: Right,
    ) -> Result<UserId, Problem> {
        match caller {
            Caller::User(user_id) if names_only(headers, *user_id) => Ok(*user_id),
            Caller::User(_) => Err(Problem::another_user()),
            Caller::Service(service) if right.is_held_by(service) => named_user(headers),
            Caller::Service(_) => Err(Problem::forbidden_scope(right.scopes())),
            Caller::Proxied(sign) => Err(Problem::proxied(sign)),
            Caller::Anonymous if self.is_required() => Err(Problem::user_unauthorized()),
            Caller::Anonymous => named_user(headers),
        }
    }
}

/// The token of the one header `Authorization: Bearer TOKEN`.
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let mut values = headers.get_all(header::AUTHORIZATION);
    let (Some(value), None) = (values.next(), values.next()) else {
        return None;
    };
    let (scheme, token) = value.as_bytes().split_at_checked(7)?;
    (scheme.eq_ignore_ascii_case(b"bearer ") && !token.is_empty()).then_some(token)
}
