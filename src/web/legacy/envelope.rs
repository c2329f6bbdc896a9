//! The envelope of legacy responses: `code` is 10000 on success, and otherwise the HTTP status.

use actix_web::body::{BoxBody, EitherBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{CONTENT_TYPE, HeaderValue};
use actix_web::middleware::Next;
use serde::Serialize;
use utoipa::ToSchema;

use crate::web::problem::Problem;

/// The code of a success.
const SUCCESS: u16 = 10_000;

/// A response in its envelope.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::web) struct Envelope<T> {
    /// 10000, or the HTTP status of the problem.
    code: u16,
    /// `success`, or the code of the problem and what failed.
    message: String,
    /// The response; null on failure.
    data: Option<T>,
}

impl<T> Envelope<T> {
    /// A successful response.
    pub(in crate::web) fn of(data: T) -> Self {
        Self {
            code: SUCCESS,
            message: "success".to_owned(),
            data: Some(data),
        }
    }
}

/// Puts the problems of the inner service into envelopes, and keeps their headers.
pub(super) async fn enclose<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B, BoxBody>>, actix_web::Error> {
    let response = next.call(request).await?;
    let problem = response.response().error();
    let Some(problem) = problem.and_then(|error| error.as_error::<Problem>()) else {
        return Ok(response.map_into_left_body());
    };
    let envelope = Envelope::<()> {
        code: problem.status().as_u16(),
        message: problem.to_string(),
        data: None,
    };
    let json = serde_json::to_string(&envelope)
        .unwrap_or_else(|error| unreachable!("an envelope is always JSON: {error}"));
    // The response stays that of the problem, which the middleware around it logs.
    Ok(response.map_body(|head, _| {
        let media_type = HeaderValue::from_static("application/json");
        head.headers_mut().insert(CONTENT_TYPE, media_type);
        EitherBody::right(BoxBody::new(json))
    }))
}
