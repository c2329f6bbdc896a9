//! Extractors of what a request is about: the resource or the UUID in its path, and its body. `parameters.rs` reads the
//! query, and `auth/extract.rs` has the caller and the user.

use std::borrow::Cow;
use std::future::{Ready, ready};
use std::pin::pin;

use actix_web::dev::Payload;
use actix_web::error::PayloadError;
use actix_web::{FromRequest, HttpRequest, web};
use futures_util::future::LocalBoxFuture;
use futures_util::{FutureExt, StreamExt};
use serde::de::DeserializeOwned;
use tokio::time::timeout;
use uuid::Uuid;

use super::app_data::shared;
use super::bounds::{BODY_LIMIT, BODY_TIMEOUT};
use super::ids::Ids;
use super::named::Named;
use super::problem::{Code, Problem};
use crate::domain::{ErasedKind, Resource, ResourceType};
use crate::likes::Likes;

/// The resource type that the route is for.
pub(super) struct TypeInPath(pub(super) ResourceType);

impl FromRequest for TypeInPath {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let resource_type = request.app_data::<ResourceType>().copied();
        ready(resource_type.map(Self).ok_or_else(Problem::not_found))
    }
}

/// The resource in the path, unless it was erased: the route has its type, the path its id.
pub(super) struct ResourceInPath(pub(super) Resource);

impl FromRequest for ResourceInPath {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(resource_in_path(request).and_then(|resource| {
            if shared::<Likes>(request)?.erasures().has_resource(&resource) {
                return Err(Problem::erased(ErasedKind::Resource));
            }
            Ok(Self(resource))
        }))
    }
}

/// The resource in the path, which may be an erased one.
pub(super) fn resource_in_path(request: &HttpRequest) -> Result<Resource, Problem> {
    let text = decoded(request.match_info().query("id"));
    let resource_type = request.app_data::<ResourceType>().copied();
    let resource_type = resource_type.ok_or_else(Problem::not_found)?;
    let id = shared::<Ids>(request)?.kinds.resources.parse(&text);
    let id = id.map_err(|error| {
        Problem::new(
            Code::InvalidResourceId,
            format!("the id in the path {error}"),
        )
    })?;
    Ok(Resource { resource_type, id })
}

/// The id of an event or a message in the path, whose only parameter it is.
pub(super) struct UuidInPath(pub(super) Uuid);

impl FromRequest for UuidInPath {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let segment = request.match_info().iter().next();
        let text = decoded(segment.map_or("", |(_, segment)| segment));
        let id = Uuid::parse_str(&text).map_err(|_| {
            let detail = format!("the id in the path must be a UUID, got '{text:.40}'");
            Problem::new(Code::InvalidParameter, detail)
        });
        ready(id.map(Self))
    }
}

/// Decodes a segment of the path. What is no percent-encoded UTF-8 is left as it is, and is no id.
pub(super) fn decoded(segment: &str) -> Cow<'_, str> {
    percent_encoding::percent_decode_str(segment)
        .decode_utf8()
        .unwrap_or(Cow::Borrowed(segment))
}

/// The body, read as JSON.
pub(super) struct Body<T>(pub(super) T);

impl<T: DeserializeOwned + 'static> FromRequest for Body<T> {
    type Error = Problem;
    type Future = LocalBoxFuture<'static, Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let body = OptionalBody::<T>::from_request(request, payload);
        Box::pin(async move {
            let body = body.await?.0;
            body.map(Self)
                .ok_or_else(|| invalid_body("the body is empty; this path takes a JSON object"))
        })
    }
}

/// The body, read as JSON; `None` if it is empty.
pub(super) struct OptionalBody<T>(pub(super) Option<T>);

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

/// The bytes of the body.
pub(super) struct Bytes(pub(super) web::BytesMut);

impl FromRequest for Bytes {
    type Error = Problem;
    type Future = LocalBoxFuture<'static, Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let payload = web::Payload::from_request(request, payload).into_inner();
        Box::pin(async move {
            let payload = payload.map_err(|error| incomplete(&error))?;
            read_body(payload).await.map(Self)
        })
    }
}

/// Reads a body as JSON: an object, although serde also takes a list of the values of its fields.
pub(super) fn json<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    if matches!(body.trim_ascii_start().first(), Some(start) if *start != b'{') {
        return Err(invalid_body("it must be a JSON object"));
    }
    serde_json::from_slice(body).map_err(|error| {
        // To keep track of the field is slow, so only what cannot be read is read again.
        let named = serde_json::from_slice::<Named<T>>(body).err();
        invalid_body(&named.unwrap_or(error).to_string())
    })
}

/// The problem of a body that is not what the operation expects.
pub(super) fn invalid_body(reason: &str) -> Problem {
    Problem::new(Code::InvalidBody, format!("the body is invalid: {reason}"))
}

/// Reads the whole body, so that a request that breaks off or trickles changes nothing.
pub(super) async fn read_body(mut payload: web::Payload) -> Result<web::BytesMut, Problem> {
    let mut read = pin!(async {
        let mut body = web::BytesMut::new();
        while let Some(chunk) = payload.next().await {
            let chunk = chunk.map_err(|error| match error {
                PayloadError::Overflow => too_large(),
                error => incomplete(&error),
            })?;
            if body.len() + chunk.len() > BODY_LIMIT {
                return Err(too_large());
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    });
    // A like has no body, and most others arrive with their heads: only the rest need a timer.
    if let Some(read) = read.as_mut().now_or_never() {
        return read;
    }
    timeout(BODY_TIMEOUT, read).await.unwrap_or_else(|_| {
        let seconds = BODY_TIMEOUT.as_secs();
        let detail = format!("the body must arrive within {seconds} s; nothing was changed");
        Err(Problem::new(Code::BodyTimedOut, detail))
    })
}

fn incomplete(reason: &dyn std::fmt::Display) -> Problem {
    let detail = format!("the body could not be read to its end: {reason}");
    Problem::new(Code::IncompleteBody, detail)
}

fn too_large() -> Problem {
    let detail = format!("the body may have at most {BODY_LIMIT} bytes");
    Problem::new(Code::BodyTooLarge, detail)
}
