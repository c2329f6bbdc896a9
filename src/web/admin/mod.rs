//! What operators see and do. With an admin token configured, every route asks for it.

mod actors;
mod faults;
mod jobs;
mod ledger;
mod quarantine;

use std::future::{Ready, ready};

use actix_web::body::MessageBody;
use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::http::header;
use actix_web::middleware::{Next, from_fn};
use actix_web::web::{self, Data, ServiceConfig};
use actix_web::{FromRequest, HttpRequest, Resource, Route};
use subtle::ConstantTimeEq;
use uuid::Uuid;

use super::{Context, Problem, only_get};

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
            .service(only_post(
                "/faults/panic/{actor}",
                web::post().to(faults::panic),
            ))
            .default_service(web::to(async || Problem::not_found())),
    );
}

fn only_post(path: &str, route: Route) -> Resource {
    web::resource(path)
        .route(route)
        .default_service(web::to(async || Problem::method_not_allowed("POST")))
}

/// The event that a path names.
fn event_id(id: &str) -> Result<Uuid, Problem> {
    Uuid::parse_str(id).map_err(|_| {
        Problem::invalid_parameter(format!(
            "the event id in the path must be a UUID, got '{id:.40}'"
        ))
    })
}

/// Who operates: from the header `X-Operator`, for the record.
pub(super) struct Operator(String);

/// Whoever does not say who they are.
const NAMELESS: &str = "admin";

/// The longest name.
const LONGEST_NAME: usize = 64;

impl FromRequest for Operator {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let mut values = request.headers().get_all("X-Operator");
        let name = match (values.next(), values.next()) {
            (None, _) => Some(NAMELESS),
            (Some(value), None) => value
                .to_str()
                .ok()
                .filter(|name| (1..=LONGEST_NAME).contains(&name.len())),
            (Some(_), Some(_)) => None,
        };
        ready(
            name.map(|name| Self(name.to_owned()))
                .ok_or_else(Problem::invalid_operator),
        )
    }
}

async fn authorize(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, actix_web::Error> {
    let expected = request
        .app_data::<Data<Context>>()
        .and_then(|context| context.admin_token.clone());
    if let Some(expected) = expected {
        let given = request
            .headers()
            .get(header::AUTHORIZATION)
            .and_then(|value| value.as_bytes().strip_prefix(b"Bearer "))
            .unwrap_or_default();
        // In constant time, so that the answer's time does not tell how much of it was right.
        if !bool::from(given.ct_eq(expected.as_bytes())) {
            return Err(Problem::unauthorized().into());
        }
    }
    next.call(request).await
}
