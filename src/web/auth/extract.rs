//! Extractors of the caller, and of the user for whom it acts. Each refuses callers without the right.

use std::future::{Ready, ready};

use actix_web::dev::Payload;
use actix_web::http::header::HeaderMap;
use actix_web::{FromRequest, HttpMessage, HttpRequest};

use super::caller::{Caller, Right};
use super::policy::Auth;
use crate::domain::{ErasedKind, UserId};
use crate::likes::Likes;
use crate::web::app_data::shared;
use crate::web::extract::decoded;
use crate::web::problem::{Code, Problem};

/// The caller of a request: as a middleware has identified it, or else from the request's token.
pub(in crate::web) fn caller(request: &HttpRequest) -> Result<Caller, Problem> {
    if let Some(caller) = request.extensions().get::<Caller>() {
        return Ok(caller.clone());
    }
    shared::<Auth>(request)?.identify(request)
}

macro_rules! extractor {
    ($(#[$doc:meta])* $name:ident $inner:tt: |$request:ident| $extract:block) => {
        $(#[$doc])*
        pub(in crate::web) struct $name $inner;

        impl $name {
            fn extract($request: &HttpRequest) -> Result<Self, Problem> $extract
        }

        impl FromRequest for $name {
            type Error = Problem;
            type Future = Ready<Result<Self, Problem>>;

            fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
                ready(Self::extract(request))
            }
        }
    };
}

extractor! {
    /// The user for whom the caller acts: the one who has signed in, or the one in `X-User-Id`. The method of
    /// the request decides whether the caller needs the right to read or to write.
    User(pub(in crate::web) UserId): |request| {
        not_erased(request, user(request, Right::of(request.method()))?).map(Self)
    }
}

extractor! {
    /// The user for whom the caller reads likes; `None` for a visitor, who reads like counts only.
    Visitor(pub(in crate::web) Option<UserId>): |request| {
        let auth = shared::<Auth>(request)?;
        let visitor = auth.visitor(&caller(request)?, request.headers())?;
        visitor.map(|user_id| not_erased(request, user_id)).transpose().map(Self)
    }
}

extractor! {
    /// A caller allowed to read counts.
    CountReader(()): |request| {
        shared::<Auth>(request)?.authorize_count_read(&caller(request)?)?;
        Ok(Self(()))
    }
}

extractor! {
    /// A caller allowed to read who likes a resource.
    PublicReader(()): |request| {
        shared::<Auth>(request)?.authorize_public_read(&caller(request)?)?;
        Ok(Self(()))
    }
}

extractor! {
    /// A caller allowed to report behaviors of any user.
    AnyUser(pub(in crate::web) Caller): |request| {
        let caller = caller(request)?;
        shared::<Auth>(request)?.authorize_any_user(&caller)?;
        Ok(Self(caller))
    }
}

extractor! {
    /// The user in the path, `me` or an id, whose data the caller may read.
    Owner(pub(in crate::web) UserId): |request| {
        owner(request, Auth::authorize_owner).map(Self)
    }
}

extractor! {
    /// The user in the path, `me` or an id, whose data the caller may export.
    DataOwner(pub(in crate::web) UserId): |request| {
        owner(request, Auth::authorize_export).map(Self)
    }
}

extractor! {
    /// A caller allowed to erase users and resources.
    Eraser(()): |request| {
        shared::<Auth>(request)?.authorize_eraser(&caller(request)?)?;
        Ok(Self(()))
    }
}

/// The user in the path, if `authorize` allows the caller.
fn owner(
    request: &HttpRequest,
    authorize: impl FnOnce(&Auth, &Caller, &HeaderMap, &UserId) -> Result<(), Problem>,
) -> Result<UserId, Problem> {
    let auth = shared::<Auth>(request)?;
    let caller = caller(request)?;
    let text = request.match_info().query("id");
    let user_id = if text == "me" {
        user(request, Right::Read)?
    } else {
        auth.user_ids().parse(&decoded(text)).map_err(|error| {
            let detail = format!("the user in the path, unless it is 'me', {error}");
            Problem::new(Code::InvalidUserId, detail)
        })?
    };
    authorize(auth, &caller, request.headers(), &user_id)?;
    not_erased(request, user_id)
}

fn user(request: &HttpRequest, right: Right) -> Result<UserId, Problem> {
    shared::<Auth>(request)?.user(&caller(request)?, request.headers(), right)
}

/// Refuses a user who was erased.
fn not_erased(request: &HttpRequest, user_id: UserId) -> Result<UserId, Problem> {
    if shared::<Likes>(request)?.erasures().has_user(&user_id) {
        return Err(Problem::erased(ErasedKind::User));
    }
    Ok(user_id)
}
