//! Identifies callers by their tokens and decides what each may do. The extractors beside it, `/admin`,
//! `/metrics` and the rate limits ask it.

use std::fmt;
use std::sync::Arc;

use actix_web::HttpRequest;
use actix_web::http::header::{self, HeaderMap};

use super::caller::{Caller, Right};
use super::error::AuthError;
use super::jwt::JwtVerifier;
use super::scope::Scope;
use super::service_tokens::{PREFIX, Service, ServiceTokens, hash};
use crate::config::{AuthMode, AuthOptions};
use crate::domain::{IdKind, UserId};
use crate::web::guard::proxy;
use crate::web::headers::{USER, named_user, names_only};
use crate::web::problem::Problem;

/// The keys and tokens of this process, and the rules of who may do what.
pub struct Auth {
    tokens: ServiceTokens,
    /// Verifies the tokens of users, in mode `jwt`.
    jwt: Option<JwtVerifier>,
    /// Whether `/admin` is unauthenticated.
    admin_is_open: bool,
    /// Whether callers without a token may read like counts in mode `jwt`.
    public_reads: bool,
    /// The kind of users' ids.
    user_ids: IdKind,
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
    /// If a file is unusable, or a setting that mode `jwt` needs is missing.
    pub fn load(options: &AuthOptions, user_ids: IdKind) -> Result<Self, AuthError> {
        let tokens =
            ServiceTokens::load(options.tokens_file.as_deref(), options.admin_token.as_ref())?;
        let jwt = match options.mode {
            AuthMode::None => None,
            AuthMode::Jwt => Some(JwtVerifier::load(options, user_ids)?),
        };
        Ok(Self {
            admin_is_open: jwt.is_none() && !tokens.any_admin(),
            tokens,
            jwt,
            public_reads: options.public_reads,
            user_ids,
        })
    }

    /// The kind of users' ids.
    pub(in crate::web) const fn user_ids(&self) -> IdKind {
        self.user_ids
    }

    /// Whether users must sign in.
    pub(in crate::web) const fn is_required(&self) -> bool {
        self.jwt.is_some()
    }

    /// Whether `/admin` is unauthenticated.
    pub(in crate::web) const fn admin_is_open(&self) -> bool {
        self.admin_is_open
    }

    /// Whether callers without a token may read like counts in mode `jwt`.
    pub(in crate::web) const fn public_reads(&self) -> bool {
        self.public_reads
    }

    /// Identifies the caller. An invalid token is refused even where none is required.
    pub(super) fn identify(&self, request: &HttpRequest) -> Result<Caller, Problem> {
        let headers = request.headers();
        if !headers.contains_key(header::AUTHORIZATION) {
            // Mode `none` trusts every caller on loopback; a proxy there calls for anyone.
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

    /// The service whose token these headers have.
    pub(in crate::web) fn service(&self, headers: &HeaderMap) -> Option<Arc<Service>> {
        let hash = hash(bearer(headers)?);
        self.tokens.find(&hash).cloned()
    }

    /// Allows operators with this scope, and everyone while `/admin` is unauthenticated.
    pub(in crate::web) fn authorize_admin(
        &self,
        caller: &Caller,
        scope: Scope,
    ) -> Result<(), Problem> {
        match caller {
            Caller::Service(service) if service.has(scope) => Ok(()),
            Caller::Service(_) | Caller::User(_) => Err(Problem::forbidden_scope(&[scope])),
            Caller::Proxied(sign) => Err(Problem::proxied(sign)),
            Caller::Anonymous if self.admin_is_open => Ok(()),
            Caller::Anonymous => Err(Problem::admin_unauthorized(self.tokens.any_admin())),
        }
    }

    /// Allows operators to read metrics, and in mode `none` every local caller.
    pub(in crate::web) fn authorize_metrics(&self, caller: &Caller) -> Result<(), Problem> {
        match caller {
            Caller::Anonymous if !self.is_required() => Ok(()),
            caller => self.authorize_admin(caller, Scope::AdminRead),
        }
    }

    /// Allows callers to read like counts. With public reads, no caller needs a token.
    pub(super) fn authorize_count_read(&self, caller: &Caller) -> Result<(), Problem> {
        match caller {
            Caller::Anonymous if self.public_reads => Ok(()),
            caller => self.authorize_public_read(caller),
        }
    }

    /// Allows callers to read who likes a resource.
    pub(super) fn authorize_public_read(&self, caller: &Caller) -> Result<(), Problem> {
        self.require_sign_in(caller)?;
        match caller {
            Caller::Service(service) if !Right::Read.is_held_by(service) => {
                Err(Problem::forbidden_scope(Right::Read.scopes()))
            }
            _ => Ok(()),
        }
    }

    /// Allows trusted services to report behaviors of any user.
    pub(super) fn authorize_any_user(&self, caller: &Caller) -> Result<(), Problem> {
        self.require_sign_in(caller)?;
        match caller {
            Caller::Service(service) if Right::Write.is_held_by(service) => Ok(()),
            Caller::Service(_) | Caller::User(_) => {
                Err(Problem::forbidden_scope(Right::Write.scopes()))
            }
            Caller::Anonymous | Caller::Proxied(_) => Ok(()),
        }
    }

    /// Allows a user, and services that may read, to read data that belongs to the user.
    pub(super) fn authorize_owner(
        &self,
        caller: &Caller,
        headers: &HeaderMap,
        owner: &UserId,
    ) -> Result<(), Problem> {
        self.authorize_public_read(caller)?;
        let is_another = matches!(caller, Caller::User(user_id) if user_id != owner);
        if is_another || !names_only(headers, self.user_ids(), owner) {
            return Err(Problem::not_the_owner());
        }
        Ok(())
    }

    /// The user for whom a caller acts, if it has the right to.
    pub(super) fn user(
        &self,
        caller: &Caller,
        headers: &HeaderMap,
        right: Right,
    ) -> Result<UserId, Problem> {
        self.require_sign_in(caller)?;
        match caller {
            Caller::User(user_id) if names_only(headers, self.user_ids(), user_id) => {
                Ok(user_id.clone())
            }
            Caller::User(_) => Err(Problem::another_user()),
            Caller::Service(service) if !right.is_held_by(service) => {
                Err(Problem::forbidden_scope(right.scopes()))
            }
            Caller::Service(_) | Caller::Anonymous | Caller::Proxied(_) => {
                named_user(headers, self.user_ids())
            }
        }
    }

    /// The user for whom a caller reads; `None` for a visitor, who names no user.
    pub(super) fn visitor(
        &self,
        caller: &Caller,
        headers: &HeaderMap,
    ) -> Result<Option<UserId>, Problem> {
        if matches!(caller, Caller::User(_)) || headers.contains_key(USER) {
            return self.user(caller, headers, Right::Read).map(Some);
        }
        self.authorize_count_read(caller)?;
        Ok(None)
    }

    /// Refuses proxies without a token, and in mode `jwt` every caller without one.
    fn require_sign_in(&self, caller: &Caller) -> Result<(), Problem> {
        match caller {
            Caller::Proxied(sign) => Err(Problem::proxied(sign)),
            Caller::Anonymous if self.is_required() => Err(Problem::user_unauthorized()),
            _ => Ok(()),
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
