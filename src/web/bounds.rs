//! What one request may take: length of its URI and its head, and time.

use std::rc::Rc;
use std::time::Duration;

use actix_web::ResponseError;
use actix_web::body::{EitherBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::middleware::Next;
use tokio::time::timeout;

use super::paced::Pace;
use super::{Context, Problem};

/// The longest URI, in bytes. Those of Likewise have less than 100.
pub const URI_LIMIT: usize = 2 * 1024;

/// The most headers of a request.
pub const HEADERS_LIMIT: usize = 64;

/// The most bytes in the names and values of a request's headers: room for a large token.
pub const HEADER_BYTES_LIMIT: usize = 16 * 1024;

/// How long the head of a request may take to come.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the body of a request may take to come.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(5);

/// Refuses a head that is too large, and answers in time. Work on a like that has begun goes on to its
/// end even if nobody waits for it any more.
///
/// # Errors
/// If the answer takes too long, and those of what it calls.
pub async fn bound<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, actix_web::Error> {
    if let Err(problem) = check(&request) {
        let response = request.into_response(problem.error_response());
        return Ok(response.map_into_right_body());
    }
    let pace = request.conn_data::<Rc<Pace>>().cloned();
    let _open = pace.as_ref().map(Pace::begin);
    let within = Context::of(request.request())?.request_timeout;
    match timeout(within, next.call(request)).await {
        Ok(response) => Ok(response?.map_into_left_body()),
        Err(_) => Err(Problem::timed_out(within).into()),
    }
}

fn check(request: &ServiceRequest) -> Result<(), Problem> {
    let uri = request.uri();
    let length = uri.path().len() + uri.query().map_or(0, str::len);
    if length > URI_LIMIT {
        return Err(Problem::uri_too_long());
    }
    let headers = request.headers();
    let bytes = |(name, value): (
        &actix_web::http::header::HeaderName,
        &actix_web::http::header::HeaderValue,
    )| { name.as_str().len() + value.len() };
    if headers.len() > HEADERS_LIMIT
        || headers.iter().map(bytes).sum::<usize>() > HEADER_BYTES_LIMIT
    {
        return Err(Problem::headers_too_large());
    }
    Ok(())
}

impl Problem {
    fn uri_too_long() -> Self {
        Self::new(
            StatusCode::URI_TOO_LONG,
            "uri_too_long",
            "URI too long",
            format!("path and query may have at most {URI_LIMIT} bytes"),
        )
    }

    fn headers_too_large() -> Self {
        Self::new(
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            "headers_too_large",
            "Headers too large",
            format!(
                "a request may have at most {HEADERS_LIMIT} headers, with {HEADER_BYTES_LIMIT} bytes \
                 together"
            ),
        )
    }

    fn timed_out(within: Duration) -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "timed_out",
            "Not answered in time",
            format!(
                "the request took more than {} s; what it asks for may still be done, and to send it \
                 again is safe",
                within.as_secs()
            ),
        )
        .retry_after(Duration::from_secs(1))
    }

    /// The body comes too slowly.
    pub(super) fn slow_body() -> Self {
        Self::new(
            StatusCode::REQUEST_TIMEOUT,
            "body_timed_out",
            "Body not here in time",
            format!(
                "the body must be here within {} s; nothing was changed",
                BODY_TIMEOUT.as_secs()
            ),
        )
    }
}
