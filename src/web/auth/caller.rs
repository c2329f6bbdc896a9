//! Who calls.

use std::borrow::Cow;
use std::future::{Ready, ready};
use std::sync::Arc;

use actix_web::dev::Payload;
use actix_web::http::Method;
use actix_web::{FromRequest, HttpMessage, HttpRequest};

use super::Scope;
use super::service_tokens::Service;
use crate::domain::UserId;
use crate::web::{Context, Problem};

/// Who calls. An extractor, which refuses a token that is no good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// Somebody who has shown no token.
    Anonymous,
    /// Somebody behind a proxy, where nobody signs in, who has shown no token; and what shows the proxy.
    Proxied(&'static str),
    /// A user, who has signed in.
    User(UserId),
    /// A service, with a token of its own.
    Service(Arc<Service>),
}

impl Caller {
    /// What logs and records call them.
    #[must_use]
    pub fn name(&self) -> Cow<'_, str> {
        match self {
            Self::Anonymous | Self::Proxied(_) => Cow::Borrowed("anonymous"),
            Self::User(user_id) => Cow::Owned(format!("user {user_id}")),
            Self::Service(service) => Cow::Borrowed(&service.name),
        }
    }

    /// Who sent a request: as found before, or else from its headers.
    pub(in crate::web) fn of(request: &HttpRequest) -> Result<Self, Problem> {
        if let Some(caller) = request.extensions().get::<Self>() {
            return Ok(caller.clone());
        }
        Context::of(request)?.auth.identify(request)
    }
}

impl FromRequest for Caller {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(Self::of(request))
    }
}

/// What is done to a user's likes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::web) enum Right {
    Read,
    Write,
}

impl Right {
    /// What a request of this method does.
    pub(in crate::web) fn of(method: &Method) -> Self {
        if matches!(*method, Method::GET | Method::HEAD) {
            Self::Read
        } else {
            Self::Write
        }
    }

    /// The scopes each of which gives a service this right.
    pub(super) const fn scopes(self) -> &'static [Scope] {
        match self {
            Self::Read => &[Scope::Read, Scope::WriteAny],
            Self::Write => &[Scope::WriteAny],
        }
    }

    pub(super) fn is_held_by(self, service: &Service) -> bool {
        self.scopes().iter().any(|scope| service.has(*scope))
    }
}

impl From<Right> for Scope {
    /// The scope that the same right needs on `/admin`.
    fn from(right: Right) -> Self {
        match right {
            Right::Read => Self::AdminRead,
            Right::Write => Self::AdminOperate,
        }
    }
}
