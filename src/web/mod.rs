//! The HTTP API. Handlers are thin: they read a request, call [`Likes`](crate::likes::Likes) and write
//! the answer.

pub mod admin;
mod cursor;
mod extract;
mod health;
mod likes;
mod problem;

use actix_web::web::{self, ServiceConfig};

pub use problem::Problem;

use crate::actors::kit::Registry;
use crate::config::{Role, Settings};
use crate::domain::ResourceType;

/// The largest body that a request may have, in bytes. A like needs none.
pub const BODY_LIMIT: usize = 64 * 1024;

/// What the routes need beside [`Likes`](crate::likes::Likes).
#[derive(Clone)]
pub struct Context {
    /// How the actors are doing.
    pub registry: Registry,
    /// Asked whether the service is ready.
    pub health: health::Health,
    /// The bearer token that `/admin` asks for.
    pub admin_token: Option<String>,
    /// Whether actors can be made to panic.
    pub fault_injection: bool,
}

impl Context {
    /// The context of a service with these settings and parts.
    #[must_use]
    pub fn new(settings: &Settings, registry: Registry, health: health::Health) -> Self {
        Self {
            registry,
            health,
            admin_token: settings.admin_token.clone(),
            fault_injection: settings.fault_injection,
        }
    }
}

pub use health::Health;

/// Every route that a process of this role serves: a worker has no like API.
pub fn routes(config: &mut ServiceConfig, role: Role) {
    if role.is_api() {
        for resource_type in ResourceType::ALL {
            let path = format!("/v1/{resource_type}s/{{id}}/like");
            config.service(
                web::resource(path)
                    .app_data(resource_type)
                    .route(web::put().to(likes::like))
                    .route(web::delete().to(likes::unlike))
                    .route(web::get().to(likes::read))
                    .default_service(web::to(async || {
                        Problem::method_not_allowed("GET, PUT, DELETE")
                    })),
            );
        }
    }
    config
        .service(only_get("/healthz", web::get().to(health::healthz)))
        .service(only_get("/readyz", web::get().to(health::readyz)))
        .service(only_get("/metrics", web::get().to(health::metrics)))
        .configure(admin::routes)
        .default_service(web::to(async || Problem::not_found()));
}

fn only_get(path: &str, route: actix_web::Route) -> actix_web::Resource {
    web::resource(path)
        .route(route)
        .default_service(web::to(async || Problem::method_not_allowed("GET")))
}
