//! The limits of one request: the size of its URI and headers, and its time. A middleware.

use std::rc::Rc;
use std::time::Duration;

use actix_web::body::{EitherBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::middleware::Next;
use tokio::time::timeout;

use super::app_data::shared;
use super::problem::{Code, Problem};
use super::slow_clients::Activity;

/// The most bytes of a body, which has room for the most behaviors of a batch.
pub const BODY_LIMIT: usize = 256 * 1024;

/// The most bytes of path and query. Those of Likewise have less than 100.
pub const URI_LIMIT: usize = 2 * 1024;

/// The most bytes of path and query of a list of watched resources, which has room for 100 UUIDs. Gateways accept as much.
pub const LIVE_URI_LIMIT: usize = 8 * 1024;

/// The path of that list.
const LIVE: &str = "/v1/likes/live";

/// The most headers of a request.
pub const HEADERS_LIMIT: usize = 64;

/// The most bytes of the names and values of a request's headers, which has room for a large token.
pub const HEADER_BYTES_LIMIT: usize = 16 * 1024;

/// How long the body of a request may take to arrive.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the service may take to answer a request.
#[derive(Debug, Clone, Copy)]
pub(super) struct RequestTimeout(pub(super) Duration);

/// Refuses a request whose URI or headers are too large, and answers in time. A like that is being accepted
/// takes effect even if the client no longer waits.
///
/// # Errors
/// If the answer takes too long, and the errors of the inner service.
pub async fn bound<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, actix_web::Error> {
    if let Err(problem) = check(&request) {
        return Ok(request.error_response(problem).map_into_right_body());
    }
    let activity = request.conn_data::<Rc<Activity>>().cloned();
    let _active = activity.as_ref().map(Activity::begin);
    let RequestTimeout(limit) = *shared(request.request())?;
    match timeout(limit, next.call(request)).await {
        Ok(response) => Ok(response?.map_into_left_body()),
        Err(_) => {
            let detail = format!(
                "the request took more than {} s; it may still take effect, and sending it again is safe",
                limit.as_secs()
            );
            Err(Problem::new(Code::TimedOut, detail).into())
        }
    }
}

fn check(request: &ServiceRequest) -> Result<(), Problem> {
    let uri = request.uri();
    let limit = if uri.path() == LIVE {
        LIVE_URI_LIMIT
    } else {
        URI_LIMIT
    };
    if uri.path().len() + uri.query().map_or(0, str::len) > limit {
        let detail = format!("path and query may have at most {limit} bytes");
        return Err(Problem::new(Code::UriTooLong, detail));
    }
    let headers = request.headers();
    let bytes = |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len();
    if headers.len() > HEADERS_LIMIT
        || headers.iter().map(bytes).sum::<usize>() > HEADER_BYTES_LIMIT
    {
        let detail = format!(
            "a request may have at most {HEADERS_LIMIT} headers of {HEADER_BYTES_LIMIT} bytes together"
        );
        return Err(Problem::new(Code::HeadersTooLarge, detail));
    }
    Ok(())
}
