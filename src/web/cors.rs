//! Which web pages may call from a browser: none unless their origins are configured.

use actix_cors::Cors;
use actix_web::http::header::{self, HeaderName};
use actix_web::http::{Method, Uri};

use super::limits::{RATE_LIMIT, RATE_LIMIT_POLICY};

/// How long a browser may keep the answer to a preflight, in seconds.
const MAX_AGE: usize = 3_600;

/// Lets pages of these origins call. Tokens come in a header that a page sets itself, so there are no
/// credentials that a browser would add.
pub fn cors(origins: &[String]) -> Cors {
    let cors = Cors::default()
        .allowed_methods([Method::GET, Method::PUT, Method::DELETE, Method::POST])
        .allowed_headers([
            header::AUTHORIZATION,
            header::CONTENT_TYPE,
            HeaderName::from_static("idempotency-key"),
            HeaderName::from_static("x-user-id"),
        ])
        .expose_headers([
            HeaderName::from_static("idempotency-replayed"),
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

/// Whether this is an origin as a browser sends it: scheme, host and port, and nothing else.
#[must_use]
pub fn is_origin(text: &str) -> bool {
    let Ok(uri) = text.parse::<Uri>() else {
        return false;
    };
    let scheme = matches!(uri.scheme_str(), Some("http" | "https"));
    // A path is always there, if only as the '/' that an origin has not.
    let host = uri
        .host()
        .is_some_and(|host| !host.is_empty() && !host.contains('*'));
    let bare = text.matches('/').count() == 2 && !text.contains(['@', '?', '#']);
    scheme && host && bare && text == text.to_lowercase()
}
