//! A caller, and what it does to a user's likes.

use std::borrow::Cow;
use std::sync::Arc;

use actix_web::http::Method;

use super::scope::Scope;
use super::service_tokens::Service;
use crate::domain::UserId;

/// Who sent a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// A caller without a token.
    Anonymous,
    /// In mode `none`, a caller behind a proxy and without a token; and the header or version that reveals the
    /// proxy.
    Proxied(&'static str),
    /// A user who has signed in.
    User(UserId),
    /// A service with a token of its own.
    Service(Arc<Service>),
}

impl Caller {
    /// The name in logs and records.
    #[must_use]
    pub fn name(&self) -> Cow<'_, str> {
        match self {
            Self::Anonymous | Self::Proxied(_) => Cow::Borrowed("anonymous"),
            Self::User(user_id) => Cow::Owned(format!("user {user_id}")),
            Self::Service(service) => Cow::Borrowed(&service.name),
        }
    }
}

/// The right to read or to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::web) enum Right {
    Read,
    Write,
}

impl Right {
    /// The right that a request with this method needs.
    pub(in crate::web) fn of(method: &Method) -> Self {
        if matches!(*method, Method::GET | Method::HEAD) {
            Self::Read
        } else {
            Self::Write
        }
    }

    /// The scopes that give a service this right over any user's likes; one is enough.
    pub(super) const fn scopes(self) -> &'static [Scope] {
        match self {
            Self::Read => &[Scope::Read, Scope::WriteAny],
            Self::Write => &[Scope::WriteAny],
        }
    }

    pub(super) fn is_held_by(self, service: &Service) -> bool {
        self.scopes().iter().any(|scope| service.has(*scope))
    }

    /// The scope that gives this right on `/admin`.
    pub(in crate::web) const fn admin_scope(self) -> Scope {
        match self {
            Self::Read => Scope::AdminRead,
            Self::Write => Scope::AdminOperate,
        }
    }
}
