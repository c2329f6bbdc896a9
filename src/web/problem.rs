//! Errors as clients meet them: RFC 9457 problems with a stable code.

use std::fmt;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, Responder, ResponseError};
use serde::Serialize;
use utoipa::ToSchema;

use crate::admin::AdminError;
use crate::domain::FailureKind;
use crate::likes::{NotAccepted, NotRead};
use crate::telemetry::ProblemAnswered;

/// A problem.
#[derive(Debug, Clone)]
pub struct Problem {
    status: StatusCode,
    code: &'static str,
    title: &'static str,
    detail: Box<str>,
    retry_after: Option<Duration>,
    allow: Option<&'static str>,
    challenge: Option<Box<str>>,
    /// What the log says in place of the detail.
    cause: Option<Box<str>>,
}

/// The media type of problems.
pub(super) const CONTENT_TYPE: &str = "application/problem+json";

/// A problem as RFC 9457 has it, with a code that never changes.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub(super) struct ProblemBody {
    /// `urn:likewise:problem:` and the code.
    r#type: String,
    /// What kind of problem it is, for people.
    title: &'static str,
    /// The HTTP status.
    status: u16,
    /// What happened, to what, and what to do, for people.
    detail: String,
    /// What kind of problem it is, for programs.
    code: &'static str,
}

impl Problem {
    pub(super) fn new(
        status: StatusCode,
        code: &'static str,
        title: &'static str,
        detail: impl Into<String>,
    ) -> Self {
        Self {
            status,
            code,
            title,
            detail: detail.into().into(),
            retry_after: None,
            allow: None,
            challenge: None,
            cause: None,
        }
    }

    /// Says in the answer what a caller must show, as RFC 6750 has it.
    pub(super) fn challenge(mut self, challenge: String) -> Self {
        self.challenge = Some(challenge.into());
        self
    }

    pub(super) fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// Its HTTP status.
    pub(super) const fn status(&self) -> StatusCode {
        self.status
    }

    /// As it is written.
    pub(super) fn body(&self) -> ProblemBody {
        ProblemBody {
            r#type: format!("urn:likewise:problem:{}", self.code),
            title: self.title,
            status: self.status.as_u16(),
            detail: self.detail.to_string(),
            code: self.code,
        }
    }

    /// No route has this path.
    #[must_use]
    pub fn not_found() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "not_found",
            "No such route",
            "nothing is served at this path; see the README for the routes",
        )
    }

    /// The route has no such method.
    #[must_use]
    pub fn method_not_allowed(allow: &'static str) -> Self {
        let mut problem = Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method_not_allowed",
            "Method not allowed",
            format!("this path takes {allow}"),
        );
        problem.allow = Some(allow);
        problem
    }

    /// The id in the path is none that a resource can have.
    #[must_use]
    pub fn invalid_resource_id(found: &str) -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "invalid_resource_id",
            "Invalid resource id",
            format!(
                "the id in the path must be a number from 1 to {}, got '{}'",
                i64::MAX,
                shorten(found)
            ),
        )
    }

    /// The id in the path is none that a user can have.
    #[must_use]
    pub fn invalid_user_in_path(found: &str) -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "invalid_user_id",
            "Invalid user id",
            format!(
                "the user in the path must be 'me' or a number from 1 to {}, got '{}'",
                i64::MAX,
                shorten(found)
            ),
        )
    }

    /// The request does not say who asks.
    #[must_use]
    pub fn missing_user() -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "missing_user",
            "Missing user",
            "the header X-User-Id must say which user asks",
        )
    }

    /// The header does not name a user.
    #[must_use]
    pub fn invalid_user_id(found: &str) -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "invalid_user_id",
            "Invalid user id",
            format!(
                "the header X-User-Id must be one number from 1 to {}, got '{}'",
                i64::MAX,
                shorten(found)
            ),
        )
    }

    /// The body is larger than any request needs.
    #[must_use]
    pub fn body_too_large(limit: usize) -> Self {
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "body_too_large",
            "Body too large",
            format!("the body may have at most {limit} bytes"),
        )
    }

    /// The body ended before it was whole.
    #[must_use]
    pub fn incomplete_body(reason: &str) -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "incomplete_body",
            "Incomplete body",
            format!("the body could not be read to its end: {reason}"),
        )
    }

    /// A part of the query says what it cannot.
    #[must_use]
    pub fn invalid_parameter(detail: impl Into<String>) -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "invalid_parameter",
            "Invalid parameter",
            detail,
        )
    }

    /// The body is not what this path takes.
    #[must_use]
    pub fn invalid_body(reason: &str) -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "invalid_body",
            "Invalid body",
            format!("the body cannot be read: {reason}"),
        )
    }

    /// What the path names is not there.
    #[must_use]
    pub fn absent(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "absent", "Not there", detail)
    }

    /// It is in a state in which this cannot be done.
    #[must_use]
    pub fn conflict(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", "Conflict", detail)
    }

    /// It can be read, but makes no sense.
    #[must_use]
    pub fn unprocessable(detail: impl Into<String>) -> Self {
        Self::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "unprocessable",
            "Unprocessable",
            detail,
        )
    }

    /// The header does not name an operator.
    #[must_use]
    pub fn invalid_operator() -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "invalid_operator",
            "Invalid operator",
            "the header X-Operator must be one name of 1 to 64 printable ASCII characters",
        )
    }

    /// No actor has this name.
    #[must_use]
    pub fn unknown_actor(name: &str) -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "unknown_actor",
            "No such actor",
            format!("no actor is called '{}'; see /admin/actors", shorten(name)),
        )
    }

    /// More is waiting than may wait.
    #[must_use]
    pub fn overloaded(detail: impl Into<String>) -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "overloaded",
            "Overloaded",
            detail,
        )
        .retry_after(Duration::from_secs(1))
    }

    /// What is needed cannot be reached now. The detail says which part, and never in that part's own words,
    /// unless operators alone can read it.
    #[must_use]
    pub fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "unavailable",
            "Unavailable",
            detail,
        )
        .retry_after(Duration::from_secs(2))
    }

    /// A fault of ours. The cause is logged, and not answered: it may quote a database, or name a server.
    #[must_use]
    pub fn internal(cause: impl Into<String>) -> Self {
        let mut problem = Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "Internal error",
            "the service failed, and its log says why",
        );
        problem.cause = Some(cause.into().into());
        problem
    }
}

/// The start of what a client sent, so that an answer is never as long as an attack.
fn shorten(found: &str) -> String {
    found.chars().take(40).collect()
}

impl From<NotAccepted> for Problem {
    fn from(error: NotAccepted) -> Self {
        match error {
            NotAccepted::Invalid(error) => Self::invalid_resource_id(&error.to_string()),
            NotAccepted::Overloaded(_) => {
                Self::overloaded(format!("{error}; nothing was changed, try again shortly"))
            }
            NotAccepted::Unavailable => Self::unavailable(format!(
                "{error}; try again shortly, which is safe even if this one arrives all the same"
            )),
            NotAccepted::Overtaken(_) | NotAccepted::DependenciesUnavailable(..) => {
                Self::unavailable(error.to_string())
            }
            NotAccepted::Internal(cause) => Self::internal(cause),
        }
    }
}

impl From<AdminError> for Problem {
    fn from(error: AdminError) -> Self {
        match error {
            AdminError::NotFound(detail) => Self::absent(detail),
            AdminError::Conflict(detail) => Self::conflict(detail),
            AdminError::Invalid(detail) => Self::unprocessable(detail),
            AdminError::Unavailable(detail) => Self::unavailable(detail),
            AdminError::Store(error) if error.kind() == FailureKind::Invalid => {
                Self::internal(error.to_string())
            }
            error => Self::unavailable(error.to_string()),
        }
    }
}

impl From<NotRead> for Problem {
    fn from(error: NotRead) -> Self {
        match error {
            NotRead::Overloaded(_) => Self::overloaded(format!("{error}; try again shortly")),
            NotRead::Unknown | NotRead::Unavailable => {
                Self::unavailable(format!("{error}; try again shortly"))
            }
            NotRead::Internal(cause) => Self::internal(cause),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.detail)
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        self.status
    }

    fn error_response(&self) -> HttpResponse {
        ProblemAnswered {
            code: self.code,
            status: self.status.as_u16(),
            detail: self.cause.as_ref().unwrap_or(&self.detail),
        }
        .emit();
        let mut response = HttpResponse::build(self.status);
        if let Some(wait) = self.retry_after {
            response.insert_header((header::RETRY_AFTER, wait.as_secs().max(1)));
        }
        if let Some(allow) = self.allow {
            response.insert_header((header::ALLOW, HeaderValue::from_static(allow)));
        }
        if let Some(challenge) = &self.challenge {
            response.insert_header((header::WWW_AUTHENTICATE, &**challenge));
        }
        let mut response = response.json(self.body());
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
        response
    }
}

impl Responder for Problem {
    type Body = actix_web::body::BoxBody;

    fn respond_to(self, _: &HttpRequest) -> HttpResponse {
        HttpResponse::from_error(self)
    }
}
