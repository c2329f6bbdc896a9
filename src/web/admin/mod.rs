//! `/admin`, for operators. With sign-in, or once a token with an admin scope is configured, every route requires
//! such a token: `admin:read` to read, `admin:operate` to write.

mod actors;
mod faults;
mod history;
mod jobs;
mod ledger;
mod live;
mod moderation;
mod operations;
mod quarantine;
mod session;
mod stream;
mod webhooks;

use actix_web::HttpMessage;
use actix_web::body::{EitherBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::middleware::{Next, from_fn};
use actix_web::web::{self, ServiceConfig};
use utoipa::OpenApi;

pub(super) use faults::FaultInjection;
pub(super) use live::ActorFeed;

use super::app_data::shared;
use super::auth::{Auth, Right, caller};
use super::methods::{get, only_get, only_post};
use super::problem::Problem;
use super::requests::resource;

/// Its operations, for the OpenAPI document.
#[derive(OpenApi)]
#[openapi(
    tags((name = "admin", description = "For operators.")),
    paths(
        session::show,
        actors::list,
        actors::show,
        actors::pause,
        actors::resume,
        actors::restart,
        live::watch,
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
        moderation::void,
        moderation::restore,
        operations::list,
        history::show,
        quarantine::list,
        quarantine::show,
        quarantine::republish,
        quarantine::discard,
        stream::show,
        webhooks::list,
        webhooks::dead,
        webhooks::show,
        webhooks::retry,
        webhooks::discard,
        faults::panic,
        faults::block,
    )
)]
pub(super) struct Document;

pub(super) fn routes(config: &mut ServiceConfig) {
    config.service(
        web::scope("/admin")
            .wrap(from_fn(authorize))
            .service(only_get("/session", get().to(session::show)))
            .service(only_get("/actors", get().to(actors::list)))
            .service(only_get("/actors/{name}", get().to(actors::show)))
            .service(only_post(
                "/actors/{name}/pause",
                web::post().to(actors::pause),
            ))
            .service(only_post(
                "/actors/{name}/resume",
                web::post().to(actors::resume),
            ))
            .service(only_post(
                "/actors/{name}/restart",
                web::post().to(actors::restart),
            ))
            .service(only_get("/live", get().to(live::watch)))
            .service(only_get("/ledger", get().to(ledger::summary)))
            .service(only_get("/ledger/events", get().to(ledger::search)))
            .service(only_get(
                "/ledger/events/{event_id}",
                get().to(ledger::timeline),
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
                resource("/jobs")
                    .route(get().to(jobs::list))
                    .route(web::post().to(jobs::create))
                    .default_service(web::to(async || {
                        Problem::method_not_allowed("GET, HEAD, POST")
                    })),
            )
            .service(only_get("/jobs/{id}", get().to(jobs::show)))
            .service(only_post("/jobs/{id}/cancel", web::post().to(jobs::cancel)))
            .service(only_get("/audit", get().to(jobs::audit)))
            .service(only_post(
                "/users/{id}/likes/void",
                web::post().to(moderation::void),
            ))
            .service(only_post(
                "/users/{id}/likes/restore",
                web::post().to(moderation::restore),
            ))
            .service(only_get("/history", get().to(history::show)))
            .service(only_get("/operations", get().to(operations::list)))
            .service(only_get("/quarantine", get().to(quarantine::list)))
            .service(only_get("/quarantine/{id}", get().to(quarantine::show)))
            .service(only_post(
                "/quarantine/{id}/republish",
                web::post().to(quarantine::republish),
            ))
            .service(only_post(
                "/quarantine/{id}/discard",
                web::post().to(quarantine::discard),
            ))
            .service(only_get("/stream", get().to(stream::show)))
            .service(only_get("/webhooks", get().to(webhooks::list)))
            .service(only_get("/webhooks/dead", get().to(webhooks::dead)))
            .service(only_get("/webhooks/dead/{id}", get().to(webhooks::show)))
            .service(only_post(
                "/webhooks/retry",
                web::post().to(webhooks::retry),
            ))
            .service(only_post(
                "/webhooks/discard",
                web::post().to(webhooks::discard),
            ))
            .service(only_post(
                "/faults/panic/{actor}",
                web::post().to(faults::panic),
            ))
            .service(only_post(
                "/faults/block/{actor}",
                web::post().to(faults::block),
            ))
            .default_service(web::to(async || Problem::not_found())),
    );
}

/// Refuses callers without the scope that the method requires.
async fn authorize<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, actix_web::Error> {
    let authorized = || {
        let caller = caller(request.request())?;
        let scope = Right::of(request.method()).admin_scope();
        shared::<Auth>(request.request())?.authorize_admin(&caller, scope)?;
        Ok::<_, Problem>(caller)
    };
    match authorized() {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            Ok(next.call(request).await?.map_into_left_body())
        }
        Err(problem) => Ok(request.error_response(problem).map_into_right_body()),
    }
}
