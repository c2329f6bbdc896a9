//! The operator of a request, for the record.

use std::future::{Ready, ready};

use actix_web::dev::Payload;
use actix_web::http::header::HeaderName;
use actix_web::{FromRequest, HttpRequest};
use utoipa::IntoParams;

use crate::web::auth::{Caller, caller};
use crate::web::headers::printable;
use crate::web::problem::{Code, OPERATOR, Problem};

/// The name of the operator: the caller of the token, with the name in the header `X-Operator`, if there is one.
pub(super) struct Operator(pub(super) String);

/// The header, for the OpenAPI document.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[allow(dead_code, reason = "only described; `Operator` reads it")]
pub(super) struct OperatorHeader {
    /// The name of the operator, for the record.
    #[param(
        rename = "X-Operator",
        nullable = false,
        min_length = 1,
        max_length = 64,
        pattern = "^[ -~]+$"
    )]
    operator: Option<String>,
}

/// [`OPERATOR`], parsed.
static X_OPERATOR: HeaderName = HeaderName::from_static("x-operator");

/// The longest name.
const LONGEST_NAME: usize = 64;

impl FromRequest for Operator {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let given = printable(request.headers(), &X_OPERATOR, LONGEST_NAME).map_err(|()| {
            let detail = format!(
                "the header {OPERATOR} must be one name of 1 to {LONGEST_NAME} printable ASCII characters"
            );
            Problem::new(Code::InvalidOperator, detail)
        });
        ready(given.and_then(|given| {
            let caller = caller(request)?;
            let name = caller.name();
            Ok(Self(match (given, &caller) {
                (None, _) => name.into_owned(),
                (Some(given), Caller::Anonymous) => given.to_owned(),
                (Some(given), _) => format!("{given} ({name})"),
            }))
        }))
    }
}
