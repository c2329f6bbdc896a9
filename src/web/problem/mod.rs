//! Errors of the HTTP API: RFC 9457 problems, each with a stable code from the catalogue. Handlers,
//! extractors and middleware return them; errors of the use cases become problems here.

mod catalogue;

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use actix_web::body::BoxBody;
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, Responder, ResponseError};
use serde::Serialize;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

pub use catalogue::Code;
pub(super) use catalogue::{IDEMPOTENCY_KEY, OPERATOR, Operations};

use crate::admin::AdminError;
use crate::domain::{ErasedKind, FailureKind, TraceParent};
use crate::likes::{NotAccepted, NotOnce, NotRead};
use crate::telemetry::ProblemAnswered;

/// The media type of problems.
pub(super) const CONTENT_TYPE: &str = "application/problem+json";

/// A problem.
#[derive(Debug, Clone)]
pub struct Problem {
    code: Code,
    detail: Box<str>,
    retry_after: Option<Duration>,
    /// A header of the response: `Allow` or `WWW-Authenticate`.
    header: Option<Box<(HeaderName, HeaderValue)>>,
    /// What the log says in place of the detail.
    cause: Option<Box<str>>,
}

/// A problem as RFC 9457 defines it, with a code that never changes.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub(super) struct ProblemBody {
    /// `urn:likewise:problem:` and the code.
    r#type: String,
    /// The kind of problem, for people.
    title: &'static str,
    /// The HTTP status.
    status: u16,
    /// What failed, on what, and what to do, for people.
    detail: String,
    /// The kind of problem, for programs.
    #[schema(value_type = Code)]
    code: &'static str,
}

impl PartialSchema for Code {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .description(Some(
                "The kind of problem, for programs. New kinds may be added.",
            ))
            .enum_values(Some(Self::ALL.iter().map(|code| code.as_str())))
            .into()
    }
}

impl ToSchema for Code {
    fn name() -> Cow<'static, str> {
        Cow::Borrowed("ProblemCode")
    }
}

impl Problem {
    /// A problem with this code. The detail says what failed, on what, and what to do.
    #[must_use]
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self {
            code,
            detail: detail.into().into(),
            retry_after: code.retry_after().map(Duration::from_secs),
            header: None,
            cause: None,
        }
    }

    /// Replaces the catalogue's `Retry-After`.
    pub(super) fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// Adds a header to the response.
    pub(super) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.header = Some(Box::new((name, value)));
        self
    }

    /// The HTTP status.
    pub(super) const fn status(&self) -> StatusCode {
        self.code.status()
    }

    /// Counts and logs that a request was answered with it.
    pub(super) fn answered(&self, trace: Option<TraceParent>) {
        ProblemAnswered {
            code: self.code.as_str(),
            status: self.status().as_u16(),
            detail: self.cause.as_ref().unwrap_or(&self.detail),
            trace,
        }
        .emit();
    }

    /// The body of the response.
    pub(super) fn body(&self) -> ProblemBody {
        ProblemBody {
            r#type: format!("urn:likewise:problem:{}", self.code.as_str()),
            title: self.code.title(),
            status: self.status().as_u16(),
            detail: self.detail.to_string(),
            code: self.code.as_str(),
        }
    }

    /// No route has this path.
    #[must_use]
    pub fn not_found() -> Self {
        Self::new(
            Code::NotFound,
            "no route has this path; /docs lists the routes",
        )
    }

    /// The route does not support the method; `allow` lists the methods that it supports.
    #[must_use]
    pub fn method_not_allowed(allow: &'static str) -> Self {
        Self::new(
            Code::MethodNotAllowed,
            format!("this path supports {allow}"),
        )
        .header(header::ALLOW, HeaderValue::from_static(allow))
    }

    /// The user or the resource was erased.
    #[must_use]
    pub fn erased(kind: ErasedKind) -> Self {
        let code = match kind {
            ErasedKind::User => Code::UserErased,
            ErasedKind::Resource => Code::ResourceErased,
        };
        Self::new(
            code,
            format!("the {kind} was erased; nothing of it is kept, and nothing new is accepted"),
        )
    }

    /// The service failed. The cause is logged and not answered: it may quote a database or name a server.
    #[must_use]
    pub fn internal(cause: impl Into<String>) -> Self {
        let mut problem = Self::new(Code::Internal, "the service failed, and its log says why");
        problem.cause = Some(cause.into().into());
        problem
    }
}

impl From<NotAccepted> for Problem {
    fn from(error: NotAccepted) -> Self {
        let detail = match error {
            NotAccepted::Invalid(error) => {
                return Self::new(Code::InvalidResourceId, error.to_string());
            }
            NotAccepted::Erased(kind) => return Self::erased(kind),
            NotAccepted::Internal(cause) => return Self::internal(cause),
            NotAccepted::Overloaded(_) => {
                let detail = format!("{error}; nothing was changed, try again shortly");
                return Self::new(Code::Overloaded, detail);
            }
            NotAccepted::Unavailable => format!(
                "{error}; try again shortly, which is safe even if this request takes effect"
            ),
            NotAccepted::Overtaken(_) | NotAccepted::DependenciesUnavailable(..) => {
                error.to_string()
            }
        };
        Self::new(Code::Unavailable, detail)
    }
}

impl From<NotRead> for Problem {
    fn from(error: NotRead) -> Self {
        let code = match error {
            NotRead::Internal(cause) => return Self::internal(cause),
            NotRead::Overloaded(_) => Code::Overloaded,
            NotRead::Unknown | NotRead::Unavailable => Code::Unavailable,
        };
        Self::new(code, format!("{error}; try again shortly"))
    }
}

impl From<NotOnce> for Problem {
    fn from(error: NotOnce) -> Self {
        let (code, advice) = match error {
            NotOnce::Reused => (
                Code::IdempotencyKeyReused,
                "send a new key with each new request",
            ),
            NotOnce::InProgress => (
                Code::IdempotencyKeyInProgress,
                "send it again shortly, with the same key",
            ),
            NotOnce::Overloaded(_) => (Code::Overloaded, "nothing was changed, try again shortly"),
            NotOnce::Unavailable => (
                Code::Unavailable,
                "nothing was changed, and a request without a key may be accepted even now",
            ),
        };
        Self::new(code, format!("{error}; {advice}"))
    }
}

impl From<AdminError> for Problem {
    fn from(error: AdminError) -> Self {
        let (code, detail) = match error {
            AdminError::NotFound(detail) => (Code::Absent, detail),
            AdminError::Conflict(detail) => (Code::Conflict, detail),
            AdminError::Invalid(detail) => (Code::Unprocessable, detail),
            AdminError::Unavailable(detail) => (Code::Unavailable, detail),
            AdminError::Store(error) if error.kind() == FailureKind::Invalid => {
                return Self::internal(error.to_string());
            }
            error => (Code::Unavailable, error.to_string()),
        };
        Self::new(code, detail)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.as_str(), self.detail)
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        self.status()
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponse::build(self.status());
        if let Some(wait) = self.retry_after {
            response.insert_header((header::RETRY_AFTER, wait.as_secs().max(1)));
        }
        if let Some((name, value)) = self.header.as_deref() {
            response.insert_header((name.clone(), value.clone()));
        }
        let mut response = response.json(self.body());
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
        response
    }
}

impl Responder for Problem {
    type Body = BoxBody;

    fn respond_to(self, _: &HttpRequest) -> HttpResponse {
        HttpResponse::from_error(self)
    }
}
