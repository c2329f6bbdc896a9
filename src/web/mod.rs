//! The HTTP API. Handlers are thin: they read a request, call [`Likes`](crate::likes::Likes) and write
//! the answer.

mod action;
pub mod admin;
pub mod auth;
pub mod bounds;
mod cors;
mod cursor;
mod extract;
pub mod guard;
mod health;
mod idempotency;
mod likes;
pub mod limits;
mod moment;
pub mod openapi;
pub mod paced;
mod problem;

use std::sync::Arc;
use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::http::header::{self, HeaderMap, HeaderValue};
use actix_web::web::{self, Bytes, Data, ServiceConfig};
use actor_kit::Registry;

pub use bounds::bound;
pub use cors::{cors, is_origin};
pub use guard::guard;
pub use limits::limit;
pub use problem::Problem;

use self::auth::Auth;
use self::guard::{Guard, HostName};
use self::limits::{LimitOptions, Limits};

use crate::config::{Role, Settings};

/// The largest body that a request may have, in bytes: room for the most behaviors that it may have.
pub const BODY_LIMIT: usize = 256 * 1024;

/// Which requests may come, and how many.
#[derive(Debug, Clone)]
pub struct WebOptions {
    /// Whose pages may call from a browser.
    pub cors_origins: Vec<String>,
    /// The hosts that requests may be for, beside loopback names.
    pub hosts: Vec<HostName>,
    /// How many requests users and addresses may make.
    pub limits: LimitOptions,
    /// How long a request may take until it is answered.
    pub request_timeout: Duration,
}

/// What the routes need beside [`Likes`](crate::likes::Likes).
#[derive(Clone)]
pub struct Context {
    /// How the actors are doing.
    pub registry: Registry,
    /// LikeRequest whether the service is ready.
    pub health: health::Health,
    /// Knows who calls.
    pub auth: Arc<Auth>,
    /// Refuses what pages of other sites send.
    pub guard: Arc<Guard>,
    /// Counts requests.
    pub limits: Arc<Limits>,
    /// How long a request may take until it is answered.
    pub request_timeout: Duration,
    /// Whether actors can be made to panic.
    pub fault_injection: bool,
    /// The OpenAPI document.
    pub document: Bytes,
}

impl Context {
    /// The context of a service with these settings and parts.
    #[must_use]
    pub fn new(
        settings: &Settings,
        registry: Registry,
        health: health::Health,
        auth: Arc<Auth>,
    ) -> Self {
        let document = openapi::bytes(openapi::About {
            role: settings.role,
            sign_in: auth.is_required(),
            admin_is_open: auth.admin_is_open(),
        });
        let WebOptions {
            hosts,
            cors_origins,
            ..
        } = &settings.web;
        Self {
            registry,
            health,
            guard: Arc::new(Guard::new(hosts, cors_origins, auth.is_required())),
            auth,
            limits: Arc::new(Limits::new(&settings.web.limits)),
            request_timeout: settings.web.request_timeout,
            fault_injection: settings.fault_injection,
            document,
        }
    }

    /// The context that a request is served in.
    fn of(request: &HttpRequest) -> Result<&Self, Problem> {
        request
            .app_data::<Data<Self>>()
            .map(|context| &***context)
            .ok_or_else(|| Problem::internal("the routes have no context"))
    }
}

pub use health::Health;

/// Every route that a process of this role serves: a worker has no like API.
pub fn routes(config: &mut ServiceConfig, role: Role) {
    if role.is_api() {
        config.configure(likes::routes).configure(action::routes);
    }
    config
        .service(only_get("/healthz", web::get().to(health::healthz)))
        .service(only_get("/readyz", web::get().to(health::readyz)))
        .service(only_get("/metrics", web::get().to(health::metrics)))
        .configure(openapi::routes)
        .configure(admin::routes)
        .default_service(web::to(async || Problem::not_found()));
}

/// Adds to an answer what holds for all of them unless it says something else: its content is what its type
/// says, and no cache keeps it.
pub fn harden(headers: &mut HeaderMap) {
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "no-store"),
    ] {
        if !headers.contains_key(&name) {
            headers.insert(name, HeaderValue::from_static(value));
        }
    }
}

fn only_get(path: &str, route: actix_web::Route) -> actix_web::Resource {
    web::resource(path)
        .route(route)
        .default_service(web::to(async || Problem::method_not_allowed("GET")))
}

fn only_post(path: &str, route: actix_web::Route) -> actix_web::Resource {
    web::resource(path)
        .route(route)
        .default_service(web::to(async || Problem::method_not_allowed("POST")))
}
