//! CORS: the web pages that may call from a browser. There are none unless their origins are configured.

use actix_cors::Cors;
use actix_web::http::Method;
use actix_web::http::header::{self, HeaderName};

use super::headers::X_USER_ID;
use super::idempotency::{KEY, REPLAYED};
use super::limits::{RATE_LIMIT, RATE_LIMIT_POLICY};
use super::sse::LAST_EVENT_ID;
use crate::domain::TraceParent;

/// How long a browser may cache the response to a preflight, in seconds.
const MAX_AGE: usize = 3_600;

/// Allows pages of these origins to call. Pages set the token themselves, so browsers need no permission to add
/// credentials.
pub fn cors(origins: &[String]) -> Cors {
    let cors = Cors::default()
        .allowed_methods([Method::GET, Method::PUT, Method::DELETE, Method::POST])
        .allowed_headers([
            header::AUTHORIZATION,
            header::CONTENT_TYPE,
            LAST_EVENT_ID,
            KEY.clone(),
            HeaderName::from_static(TraceParent::HEADER),
            // It is not read, but what sends a traceparent sends it as well.
            HeaderName::from_static("tracestate"),
            X_USER_ID.clone(),
        ])
        .expose_headers([
            REPLAYED,
            RATE_LIMIT,
            RATE_LIMIT_POLICY,
            header::RETRY_AFTER,
            header::WWW_AUTHENTICATE,
        ])
        .max_age(MAX_AGE);
    origins
        .iter()
        .fold(cors, |cors, origin| cors.allowed_origin(origin))
}
