//! What operators see and do. With sign-in or a token with an admin scope configured, every route asks for
//! such a token: `admin:read` to see, `admin:operate` to do.

mod actors;
mod faults;
mod jobs;
mod ledger;
mod quarantine;
mod stream;

use std::future::{Ready, ready};

use actix_web::body::{EitherBody, MessageBody};
use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::middleware::{Next, from_fn};
use actix_web::web::{self, ServiceConfig};
use actix_web::{FromRequest, HttpMessage, HttpRequest, ResponseError};
use utoipa::{IntoParams, OpenApi};
use uuid::Uuid;

use super::auth::{Caller, Right};
use super::extract::printable;
use super::{Context, Problem, only_get, only_post};

/// The OpenAPI document of `/admin`.
#[derive(OpenApi)]
#[openapi(
    tags((name = "admin", description = "What operators see and do.")),
    paths(
        actors::list,
        ledger::summary,
        ledger::search,
        ledger::timeline,
        ledger::retry,
        ledger::discard,
        jobs::list,
        jobs::create,
        jobs::show,
        jobs::cancel,
        jobs::audit,
        quarantine::list,
        quarantine::show,
        quarantine::republish,
        quarantine::discard,
        stream::show,
        faults::panic,
    )
)]
pub(super) struct Document;

pub(super) fn routes(config: &mut ServiceConfig) {
    config.service(
        web::scope("/admin")
            .wrap(from_fn(authorize))
            .service(only_get("/actors", web::get().to(actors::list)))
            .service(only_get("/ledger", web::get().to(ledger::summary)))
            .service(only_get("/ledger/events", web::get().to(ledger::search)))
            .service(only_get(
                "/ledger/events/{event_id}",
                web::get().to(ledger::timeline),
            ))
            .service(only_post(
                "/ledger/events/{event_id}/retry",
                web::post().to(ledger::retry),
            ))
            .service(only_post(
                "/ledger/events/{event_id}/discard",
                web::post().to(ledger::discard),
            ))
            .service(
                web::resource("/jobs")
                    .route(web::get().to(jobs::list))
                    .route(web::post().to(jobs::create))
                    .default_service(web::to(async || Problem::method_not_allowed("GET, POST"))),
            )
            .service(only_get("/jobs/{id}", web::get().to(jobs::show)))
            .service(only_post("/jobs/{id}/cancel", web::post().to(jobs::cancel)))
            .service(only_get("/audit", web::get().to(jobs::audit)))
            .service(only_get("/quarantine", web::get().to(quarantine::list)))
            .service(only_get(
                "/quarantine/{id}",
                web::get().to(quarantine::show),
            ))
            .service(only_post(
                "/quarantine/{id}/republish",
                web::post().to(quarantine::republish),
            ))
            .service(only_post(
                "/quarantine/{id}/discard",
                web::post().to(quarantine::discard),
            ))
            .service(only_get("/stream", web::get().to(stream::show)))
            .service(only_post(
                "/faults/panic/{actor}",
                web::post().to(faults::panic),
            ))
            .default_service(web::to(async || Problem::not_found())),
    );
}

/// The event that a path names.
fn event_id(id: &str) -> Result<Uuid, Problem> {
    Uuid::parse_str(id).map_err(|_| {
        Problem::invalid_parameter(format!(
            "the event id in the path must be a UUID, got '{id:.40}'"
        ))
    })
}

/// The operator, for the record: the name in the token, and the name in the header `X-Operator` if it is given.
pub(super) struct Operator(String);

/// The header with an operator's name.
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

/// The longest name.
const LONGEST_NAME: usize = 64;

impl FromRequest for Operator {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let given = printable(request.headers(), "X-Operator", LONGEST_NAME)
            .ok_or_else(Problem::invalid_operator);
        let operator = given.and_then(|given| {
            let caller = Caller::of(request)?;
            let named = caller.name();
            Ok(Self(match (given, &caller) {
                (None, _) => named.into_owned(),
                (Some(given), Caller::Anonymous) => given.to_owned(),
                (Some(given), _) => format!("{given} ({named})"),
            }))
        });
        ready(operator)
    }
}

/// Lets in who may see, or do, what `/admin` offers. Handlers that need to know who it is take a
/// [`Caller`].
async fn authorize<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, actix_web::Error> {
    let may = || {
        let caller = Caller::of(request.request())?;
        let scope = Right::of(request.method()).into();
        Context::of(request.request())?.auth.allow(&caller, scope)?;
        Ok::<_, Problem>(caller)
    };
    match may() {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            Ok(next.call(request).await?.map_into_left_body())
        }
        Err(problem) => Ok(request
            .into_response(problem.error_response())
            .map_into_right_body()),
    }
}
