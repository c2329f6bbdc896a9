//! What operators see and do. With an admin token configured, every route asks for it.

mod actors;
mod faults;

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header;
use actix_web::middleware::{Next, from_fn};
use actix_web::web::{self, Data, ServiceConfig};
use subtle::ConstantTimeEq;

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
