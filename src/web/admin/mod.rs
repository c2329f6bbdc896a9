//! What operators see and do. With sign-in or a token with an admin scope configured, every route asks for
//! such a token: `admin:read` to see, `admin:operate` to do.

mod actors;
mod faults;

use actix_web::body::{EitherBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::middleware::{Next, from_fn};
use actix_web::web::{self, ServiceConfig};
use actix_web::{HttpMessage, ResponseError};

use super::auth::{Caller, Right};
use super::{Context, Problem, only_get};

pub(super) fn routes(config: &mut ServiceConfig) {
    config.service(
        web::scope("/admin")
            .wrap(from_fn(authorize))
            .service(only_get("/actors", web::get().to(actors::list)))
            .service(
                web::resource("/faults/panic/{actor}")
                    .route(web::post().to(faults::panic))
                    .default_service(web::to(async || Problem::method_not_allowed("POST"))),
            )
            .default_service(web::to(async || Problem::not_found())),
    );
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
