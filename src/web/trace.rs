//! The header `traceparent` of a request. What is invalid names no trace, as W3C Trace Context asks.

use std::convert::Infallible;
use std::future::{Ready, ready};

use actix_web::dev::Payload;
use actix_web::http::header::{HeaderMap, HeaderName};
use actix_web::{FromRequest, HttpRequest};

use crate::domain::TraceParent;

/// Parsed once: looking a header up by text would allocate for each request.
static TRACEPARENT: HeaderName = HeaderName::from_static(TraceParent::HEADER);

/// The trace that the caller sends, if there is one.
pub(super) struct Trace(pub(super) Option<TraceParent>);

impl FromRequest for Trace {
    type Error = Infallible;
    type Future = Ready<Result<Self, Infallible>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(Ok(Self(trace(request.headers()))))
    }
}

/// Returns the trace that the caller sends, if there is one.
pub(super) fn trace(headers: &HeaderMap) -> Option<TraceParent> {
    let values = headers.get_all(&TRACEPARENT);
    // What is no text names no trace, but several values do not become one.
    let values = values.map(|value| value.to_str().unwrap_or_default());
    TraceParent::parse_only(values)
}
