//! What handlers read from a request.

use std::future::{Ready, ready};

use actix_web::dev::Payload;
use actix_web::error::PayloadError;
use actix_web::http::header::HeaderMap;
use actix_web::{FromRequest, HttpRequest, web};
use futures_util::StreamExt;
use futures_util::future::LocalBoxFuture;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::auth::{Caller, Right};
use super::bounds::BODY_TIMEOUT;
use super::{BODY_LIMIT, Context, Problem};
use crate::domain::{Resource, ResourceType, UserId};

/// The user that the caller works for, and may: who has signed in, or whom `X-User-Id` names.
pub(super) struct User(pub(super) UserId);

impl FromRequest for User {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(user(request, Right::of(request.method())).map(User))
    }
}

/// As [`User`], for a request that reads whatever its method is.
pub(super) struct Reader(pub(super) UserId);

impl FromRequest for Reader {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(user(request, Right::Read).map(Self))
    }
}

fn user(request: &HttpRequest, right: Right) -> Result<UserId, Problem> {
    let caller = Caller::of(request)?;
    let auth = &Context::of(request)?.auth;
    auth.user(&caller, request.headers(), right)
}

/// Somebody who may see what everybody may who is let in at all.
pub(super) struct Guest;

impl FromRequest for Guest {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let guest = || {
            let caller = Caller::of(request)?;
            Context::of(request)?.auth.guest(&caller)
        };
        ready(guest().map(|()| Self))
    }
}

/// A caller who may say what any user did.
pub(super) struct AnyUser(pub(super) Caller);

impl FromRequest for AnyUser {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let any = || {
            let caller = Caller::of(request)?;
            Context::of(request)?.auth.any_user(&caller)?;
            Ok(Self(caller))
        };
        ready(any())
    }
}

/// The user in the path, who asks for what is theirs: `me`, or their id.
pub(super) struct Owner(pub(super) UserId);

impl FromRequest for Owner {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let id = request.match_info().query("id");
        if id == "me" {
            let reader = Reader::from_request(request, payload).into_inner();
            return ready(reader.map(|Reader(user_id)| Self(user_id)));
        }
        let owner = || {
            let user_id = positive(id).ok_or_else(|| Problem::invalid_user_in_path(id))?;
            let caller = Caller::of(request)?;
            let auth = &Context::of(request)?.auth;
            auth.owner(&caller, request.headers(), user_id)?;
            Ok(Self(user_id))
        };
        ready(owner())
    }
}

/// What a header says that may be there once, with 1 to `longest` printable ASCII characters; `None` if it
/// says anything else.
pub(super) fn printable<'a>(
    headers: &'a HeaderMap,
    name: &str,
    longest: usize,
) -> Option<Option<&'a str>> {
    let mut values = headers.get_all(name);
    match (values.next(), values.next()) {
        (None, _) => Some(None),
        (Some(value), None) => {
            let text = value.to_str().ok()?;
            // A header may also have tabs.
            let fits = (1..=longest).contains(&text.len()) && !text.contains('\t');
            fits.then_some(Some(text))
        }
        (Some(_), Some(_)) => None,
    }
}

/// The user whom the header `X-User-Id` names.
pub(super) fn named_user(headers: &HeaderMap) -> Result<UserId, Problem> {
    let mut values = headers.get_all("X-User-Id");
    match (values.next(), values.next()) {
        (None, _) => Err(Problem::missing_user()),
        (Some(value), None) => value
            .to_str()
            .ok()
            .and_then(positive)
            .ok_or_else(|| Problem::invalid_user_id(&String::from_utf8_lossy(value.as_bytes()))),
        (Some(_), Some(_)) => Err(Problem::invalid_user_id("more than one")),
    }
}

/// Whether the header `X-User-Id` names nobody but this user.
pub(super) fn names_only(headers: &HeaderMap, user_id: UserId) -> bool {
    let mut values = headers.get_all("X-User-Id");
    values.all(|value| value.to_str().ok().and_then(positive) == Some(user_id))
}

/// The resource type that the path names.
pub(super) struct TypeInPath(pub(super) ResourceType);

impl FromRequest for TypeInPath {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let resource_type = request.app_data::<ResourceType>().copied();
        ready(resource_type.map(Self).ok_or_else(Problem::not_found))
    }
}

/// The resource in the path: its type is the route's, its id the path's.
pub(super) struct Liked(pub(super) Resource);

impl FromRequest for Liked {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let id = request.match_info().query("id");
        let Some(resource_type) = request.app_data::<ResourceType>().copied() else {
            return ready(Err(Problem::not_found()));
        };
        ready(
            positive(id)
                .map(|id| Self(Resource { resource_type, id }))
                .ok_or_else(|| Problem::invalid_resource_id(id)),
        )
    }
}

/// What the query says.
pub(super) fn query<T: DeserializeOwned>(request: &HttpRequest) -> Result<T, Problem> {
    let query = web::Query::<T>::from_query(request.query_string());
    query
        .map(web::Query::into_inner)
        .map_err(|error| Problem::invalid_parameter(error.to_string()))
}

/// The body, read as JSON, whatever its content type says.
pub(super) struct Body<T>(pub(super) T);

/// As [`Body`], if there is one.
pub(super) struct OptionalBody<T>(pub(super) Option<T>);

impl<T: DeserializeOwned + 'static> FromRequest for Body<T> {
    type Error = Problem;
    type Future = LocalBoxFuture<'static, Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let body = OptionalBody::<T>::from_request(request, payload);
        Box::pin(async move {
            match body.await?.0 {
                Some(body) => Ok(Self(body)),
                None => Err(Problem::invalid_body(
                    "there is none; this path takes a JSON object",
                )),
            }
        })
    }
}

impl<T: DeserializeOwned + 'static> FromRequest for OptionalBody<T> {
    type Error = Problem;
    type Future = LocalBoxFuture<'static, Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let bytes = Bytes::from_request(request, payload);
        Box::pin(async move {
            let Bytes(bytes) = bytes.await?;
            if bytes.iter().all(u8::is_ascii_whitespace) {
                return Ok(Self(None));
            }
            json(&bytes).map(|body| Self(Some(body)))
        })
    }
}

/// The body, to its end.
pub(super) struct Bytes(pub(super) web::BytesMut);

impl FromRequest for Bytes {
    type Error = Problem;
    type Future = LocalBoxFuture<'static, Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let payload = web::Payload::from_request(request, payload);
        Box::pin(async move {
            let payload = payload
                .await
                .map_err(|error| Problem::incomplete_body(&error.to_string()))?;
            whole(payload).await.map(Self)
        })
    }
}

/// What a body says.
pub(super) fn json<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(body).map_err(|error| Problem::invalid_body(&error.to_string()))
}

/// A positive number, written in digits alone.
pub(super) fn positive(text: &str) -> Option<i64> {
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok().filter(|number| *number > 0)
}

/// Reads a request to its end, so that one which breaks off half-way, or trickles, changes nothing.
pub(super) async fn whole(payload: web::Payload) -> Result<web::BytesMut, Problem> {
    timeout(BODY_TIMEOUT, to_its_end(payload))
        .await
        .unwrap_or_else(|_| Err(Problem::slow_body()))
}

async fn to_its_end(mut payload: web::Payload) -> Result<web::BytesMut, Problem> {
    let mut body = web::BytesMut::new();
    while let Some(chunk) = payload.next().await {
        let chunk = chunk.map_err(|error| match error {
            PayloadError::Overflow => Problem::body_too_large(BODY_LIMIT),
            error => Problem::incomplete_body(&error.to_string()),
        })?;
        if body.len() + chunk.len() > BODY_LIMIT {
            return Err(Problem::body_too_large(BODY_LIMIT));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_positive_decimal_numbers() {
        assert_eq!(positive("7"), Some(7));
        assert_eq!(positive("9223372036854775807"), Some(i64::MAX));
        for bad in [
            "",
            "0",
            "-1",
            "+1",
            "1.0",
            " 1",
            "seven",
            "9223372036854775808",
            "٧",
        ] {
            assert_eq!(positive(bad), None, "{bad}");
        }
    }
}
