//! What the routes share besides [`Likes`](crate::likes::Likes): made once from the settings, and registered
//! in the application of each HTTP worker.

use std::sync::Arc;

use actix_web::web::{Data, ServiceConfig};
use actor_kit::Registry;

use super::admin::{ActorFeed, FaultInjection};
use super::auth::Auth;
use super::bounds::RequestTimeout;
use super::console::{self, Pages};
use super::guard::Guard;
use super::health::Health;
use super::ids::Ids;
use super::limits::Limits;
use super::openapi::{self, About, Document};
use super::problem::Code;
use crate::actors::process_reports::ProcessReports;
use crate::admin::ActorOperations;
use crate::config::{Settings, WebOptions};
use crate::live::Live;
use crate::store::Finding;
use crate::telemetry::{self, Route, UNMATCHED};

/// What the routes share.
#[derive(Clone)]
pub struct Context {
    /// How the actors are doing.
    registry: Data<Registry>,
    /// How those of the other processes are doing.
    reports: Data<ProcessReports>,
    /// What operators do to actors.
    operations: Data<ActorOperations>,
    /// Reports whether the service is ready.
    health: Data<Health>,
    /// Identifies callers.
    auth: Data<Auth>,
    /// Refuses requests of foreign pages.
    guard: Data<Guard>,
    /// Counts requests.
    pub limits: Data<Limits>,
    request_timeout: Data<RequestTimeout>,
    fault_injection: Data<FaultInjection>,
    document: Data<Document>,
    pages: Data<Pages>,
    ids: Data<Ids>,
    live: Data<Live>,
    actor_feed: Data<ActorFeed>,
}

impl Context {
    /// The context of a service with these settings.
    #[must_use]
    pub fn new(
        settings: &Settings,
        registry: Registry,
        reports: Arc<ProcessReports>,
        operations: ActorOperations,
        health: Health,
        auth: Arc<Auth>,
        live: Arc<Live>,
    ) -> Self {
        let WebOptions {
            hosts,
            cors_origins,
            limits,
            request_timeout,
            ids_as_text: _,
            ..
        } = &settings.web;
        let ids = Ids {
            kinds: settings.store.id_kinds,
            as_text: settings.web.ids_as_text,
        };
        let mut document = openapi::document(&About {
            role: settings.role,
            resource_types: settings.store.resource_types.clone(),
            ids,
            sign_in: auth.is_required(),
            admin_is_open: auth.admin_is_open(),
            public_reads: auth.public_reads(),
        });
        declare(openapi::served(&mut document));
        let document = openapi::bytes(&document);
        Self {
            actor_feed: Data::new(ActorFeed::new(registry.clone(), Arc::clone(&reports))),
            registry: Data::new(registry),
            reports: Data::from(reports),
            operations: Data::new(operations),
            health: Data::new(health),
            pages: Data::new(Pages::new(&console::About::new(
                settings,
                auth.is_required(),
            ))),
            guard: Data::new(Guard::new(hosts, cors_origins, auth.is_required())),
            auth: Data::from(auth),
            limits: Data::new(Limits::new(limits)),
            request_timeout: Data::new(RequestTimeout(*request_timeout)),
            fault_injection: Data::new(FaultInjection(settings.fault_injection)),
            document: Data::new(Document(document)),
            ids: Data::new(ids),
            live: Data::from(live),
        }
    }

    /// Registers it for extractors and middleware.
    pub fn register(&self, config: &mut ServiceConfig) {
        config
            .app_data(self.registry.clone())
            .app_data(self.reports.clone())
            .app_data(self.operations.clone())
            .app_data(self.health.clone())
            .app_data(self.auth.clone())
            .app_data(self.guard.clone())
            .app_data(self.limits.clone())
            .app_data(self.request_timeout.clone())
            .app_data(self.fault_injection.clone())
            .app_data(self.document.clone())
            .app_data(self.pages.clone())
            .app_data(self.ids.clone())
            .app_data(self.live.clone())
            .app_data(self.actor_feed.clone());
    }
}

/// Creates the series of metrics that are known from the start.
fn declare(served: Vec<(String, &'static str)>) {
    for (path, method) in served {
        Route::of(&path).serves(method);
    }
    Route::of(UNMATCHED).serves("GET");
    let codes: Vec<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
    telemetry::declare(&codes, Finding::ALL.map(Finding::as_str).to_vec());
}
