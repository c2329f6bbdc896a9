//! Identifies callers by their tokens and decides what each may do. The extractors beside it, `/admin`,
//! `/metrics` and the rate limits ask it.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use actix_web::HttpRequest;
use actix_web::http::header::{self, HeaderMap};
use tokio::sync::Notify;

use super::caller::{Caller, Right};
use super::credentials::Credentials;
use super::error::AuthError;
use super::jwt::BadToken;
use super::scope::Scope;
use super::service_tokens::{PREFIX, Service, hash};
use crate::config::{AuthMode, AuthOptions};
use crate::domain::{IdKind, UserId};
use crate::web::guard::proxy;
use crate::web::headers::{X_USER_ID, named_user, names_only};
use crate::web::problem::Problem;

/// The keys and tokens of this process, and the rules of who may do what.
pub struct Auth {
    options: AuthOptions,
    credentials: RwLock<Arc<Credentials>>,
    /// Notified when a token names a key that is not known.
    unknown_key: Notify,
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Auth").finish_non_exhaustive()
    }
}

impl Auth {
    /// Reads keys and tokens. Blocks its thread while it fetches keys from a URL.
    ///
    /// # Errors
    /// If a file or the URL is unusable, or a setting that mode `jwt` needs is missing.
    pub fn load(options: &AuthOptions) -> Result<Self, AuthError> {
        Ok(Self {
            credentials: RwLock::new(Arc::new(Credentials::load(options)?)),
            options: options.clone(),
            unknown_key: Notify::new(),
        })
    }

    /// Reads keys and tokens again, of a URL only if `fetches`. Returns whether others are in force now, and the errors of
    /// what could not be read or used: then the last good ones stay.
    pub(super) fn reload(&self, fetches: bool) -> (bool, Vec<String>) {
        let (new, errors) = self.credentials().reload(&self.options, fetches);
        let is_changed = new.is_some();
        if let Some(new) = new {
            *self
                .credentials
                .write()
                .unwrap_or_else(PoisonError::into_inner) = Arc::new(new);
        }
        (is_changed, errors.iter().map(ToString::to_string).collect())
    }

    /// The kind of users' ids.
    pub(in crate::web) const fn user_ids(&self) -> IdKind {
        self.options.user_ids
    }

    /// The settings.
    pub(super) const fn options(&self) -> &AuthOptions {
        &self.options
    }

    /// Waits until a token names a key that is not known.
    pub(super) async fn unknown_key(&self) {
        self.unknown_key.notified().await;
    }

    fn credentials(&self) -> Arc<Credentials> {
        Arc::clone(
            &self
                .credentials
                .read()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }

    /// Whether users must sign in.
    pub(in crate::web) fn is_required(&self) -> bool {
        self.options.mode == AuthMode::Jwt
    }

    /// Whether `/admin` is unauthenticated.
    pub(in crate::web) fn admin_is_open(&self) -> bool {
        self.credentials().admin_is_open
    }

    /// Whether callers without a token may read like counts in mode `jwt`.
    pub(in crate::web) const fn public_reads(&self) -> bool {
        self.options.public_reads
    }

    /// Identifies the caller. An invalid token is refused even where none is required.
    pub(super) fn identify(&self, request: &HttpRequest) -> Result<Caller, Problem> {
        let headers = request.headers();
        if !headers.contains_key(header::AUTHORIZATION) {
            // Mode `none` trusts every caller on loopback; a proxy there calls for anyone.
            let proxy = if self.is_required() {
                None
            } else {
                proxy::sign(request.version(), headers)
            };
            return Ok(proxy.map_or(Caller::Anonymous, Caller::Proxied));
        }
        let token = bearer(headers).ok_or_else(Problem::not_a_bearer_token)?;
        let hash = hash(token);
        let credentials = self.credentials();
        if let Some(service) = credentials.tokens.find(&hash) {
            return Ok(Caller::Service(Arc::clone(service)));
        }
        match &credentials.jwt {
            Some(jwt) if !token.starts_with(PREFIX.as_bytes()) => match jwt.verify(token, hash) {
                Ok(user_id) => Ok(Caller::User(user_id)),
                Err(bad) => {
                    if bad == BadToken::UnknownKey {
                        self.unknown_key.notify_one();
                    }
                    Err(bad.into())
                }
            },
            _ => Err(Problem::unknown_token()),
        }
    }

    /// The service whose token these headers have.
    pub(in crate::web) fn service(&self, headers: &HeaderMap) -> Option<Arc<Service>> {
        let hash = hash(bearer(headers)?);
        self.credentials().tokens.find(&hash).cloned()
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
            Caller::Anonymous if self.admin_is_open() => Ok(()),
            Caller::Anonymous => Err(Problem::admin_unauthorized(
                self.credentials().tokens.any_admin(),
            )),
        }
    }

    /// Allows operators to read metrics, and in mode `none` every local caller.
    pub(in crate::web) fn authorize_metrics(&self, caller: &Caller) -> Result<(), Problem> {
        match caller {
            Caller::Anonymous if !self.is_required() => Ok(()),
            caller => self.authorize_admin(caller, Scope::AdminRead),
        }
    }

    /// Allows callers with the scope to erase, and every local caller while `/admin` is unauthenticated and no token has
    /// the scope.
    pub(super) fn authorize_eraser(&self, caller: &Caller) -> Result<(), Problem> {
        let erases = Scope::Erase;
        match caller {
            Caller::Service(service) if service.has(erases) => Ok(()),
            Caller::Service(_) | Caller::User(_) => Err(Problem::forbidden_scope(&[erases])),
            Caller::Proxied(sign) => Err(Problem::proxied(sign)),
            Caller::Anonymous
                if self.admin_is_open() && !self.credentials().tokens.any_with(erases) =>
            {
                Ok(())
            }
            Caller::Anonymous => Err(Problem::admin_unauthorized(true)),
        }
    }

    /// Allows a user, and services that may erase, to export what is held of the user.
    pub(super) fn authorize_export(
        &self,
        caller: &Caller,
        headers: &HeaderMap,
        owner: &UserId,
    ) -> Result<(), Problem> {
        match caller {
            Caller::Service(_) => {
                self.authorize_eraser(caller)?;
                if names_only(headers, self.user_ids(), owner) {
                    Ok(())
                } else {
                    Err(Problem::not_the_owner())
                }
            }
            caller => self.authorize_owner(caller, headers, owner),
        }
    }

    /// Allows callers to read counts. With public reads, no caller needs a token.
    pub(super) fn authorize_count_read(&self, caller: &Caller) -> Result<(), Problem> {
        match caller {
            Caller::Anonymous if self.public_reads() => Ok(()),
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
        if matches!(caller, Caller::User(_)) || headers.contains_key(&X_USER_ID) {
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
