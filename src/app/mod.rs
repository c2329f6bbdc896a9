//! The running service: opens its connections, starts the actors and the HTTP server, and stops them in order.

mod actors;
mod connections;
mod error;
mod server;
mod startup;

pub use error::AppError;

use std::future::ready;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_server::{Server, ServerHandle};
use actor_kit::Registry;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;

use self::actors::Actors;
use self::connections::{Connections, admin, check_broker, open_broker, open_cache, open_store};
use self::server::{BoundAddress, HttpServer};
use self::startup::{identify, learn, report_missing, settle_recent};
use crate::actors::deployment::DeploymentWatch;
use crate::actors::probe::Probe;
use crate::actors::process_reports::{ProcessReports, Reporter};
use crate::actors::processes::{self, Differences, Heartbeats};
use crate::admin::ActorOperations;
use crate::config::Settings;
use crate::domain::{CurrentDeployment, HybridClock};
use crate::likes::{Likes, Lookups};
use crate::live::{Announcer, Feed, Hub, Live};
use crate::store::OperationQueue;
use crate::telemetry::{ActorEvents, ServiceStarted, ShutdownEnded, ShutdownStarted, StartFailed};
use crate::web::auth::{self, Auth};
use crate::web::{self, Draining, Health};
use crate::webhooks::Webhook;

/// The running service.
pub struct App {
    server: Server,
    handle: ServerHandle,
    address: SocketAddr,
    actors: Actors,
    signals: Signals,
    draining: Arc<Draining>,
    /// Notified when the database turns out to be unusable after the start.
    unusable: Arc<Notify>,
    drain_delay: Duration,
    drain_timeout: Duration,
    announcer: Arc<Announcer>,
    live: Arc<Live>,
    heartbeats: Heartbeats,
    /// Reports the actors of this process to the others.
    reporter: Reporter,
}

impl App {
    /// Migrates the tables, starts the actors and listens. If the address is taken, it does nothing else.
    ///
    /// Waits three seconds for the database, and starts without it after that. The process then migrates the tables
    /// when the database answers, and does not use it before.
    ///
    /// # Errors
    /// If the settings are invalid, the address is taken, the database refuses the connection, or a migration fails.
    pub async fn start(settings: Settings) -> Result<Self, AppError> {
        settings.closed_by_default()?;
        let auth = Arc::new(Auth::load(&settings.auth)?);
        let signals = Signals::new().map_err(AppError::Signals)?;
        let hangup = signal(SignalKind::hangup()).map_err(AppError::Signals)?;
        actix::spawn(auth::watch(Arc::clone(&auth), hangup));
        let webhooks = match &settings.facts.webhooks {
            Some(options) => Webhook::all(options, settings.facts.ids_as_text)?,
            None => Vec::new(),
        };
        let listen = |source| AppError::Listen {
            address: settings.http_addr,
            source,
        };
        let bound = BoundAddress::bind(settings.http_addr).map_err(listen)?;
        let (store, starting) = open_store(&settings).await?;
        let current = CurrentDeployment::default();
        let cache = open_cache(&settings, &current)?;
        let broker = open_broker(&settings, &current).await?;
        let mut deployment = DeploymentWatch::new(
            Arc::clone(&store),
            Arc::clone(&cache),
            broker.clone(),
            current.clone(),
        );
        match starting.migrating {
            None => identify(&mut deployment).await,
            Some(_) => deployment.assume().await,
        }
        if let Some(broker) = &broker {
            check_broker(broker).await?;
        }
        let registry = Registry::new(settings.stuck_after, ActorEvents);
        let connections = Connections {
            store: Arc::clone(&store),
            cache: Arc::clone(&cache),
            broker: broker.clone(),
            probe: Probe::new(Arc::clone(&store), Arc::clone(&cache), broker.clone()),
        };
        let clock = Arc::new(HybridClock::default());
        if starting.migrating.is_none() {
            learn(&clock, store.as_ref()).await;
        }
        let own = processes::own(&settings);
        let id = own.id.clone();
        let hub = Arc::new(Hub::new(settings.web.ids_as_text));
        let watched = settings.role.is_api().then(|| Arc::clone(&hub));
        let announcer = Arc::new(Announcer::new(watched.clone(), broker.clone()));
        actix::spawn(Arc::clone(&announcer).run());
        let (reports, reporter) = ProcessReports::start(
            own.clone(),
            registry.clone(),
            current.clone(),
            settings.nats.clone(),
        )
        .map_err(AppError::Reports)?;
        let queue = OperationQueue::new(Arc::clone(&store));
        let operations = ActorOperations::new(queue.clone(), Arc::clone(&reports));
        let actors = Actors::start(
            &settings,
            &connections,
            webhooks,
            &id,
            &queue,
            &registry,
            &announcer,
        );
        if let Some(hub) = watched {
            let feed = Feed::new(hub, actors.reader.clone(), broker.clone(), current.clone());
            actix::spawn(feed.run());
        }
        let live = Arc::new(Live::new(
            hub,
            settings.web.live_connections,
            settings.read_timeout,
        ));
        let unusable = Arc::new(Notify::new());
        let settling = settings
            .role
            .is_worker()
            .then(|| settle_recent(Arc::clone(&store), actors.cache_writer.clone()));
        match starting.migrating {
            None => {
                settling.unwrap_or_else(|| Box::pin(ready(()))).await;
                actix::spawn(deployment.watch());
            }
            Some(migrating) => {
                let unusable = Arc::clone(&unusable);
                let (clock, store) = (Arc::clone(&clock), Arc::clone(&store));
                actix::spawn(async move {
                    match migrating.await {
                        Ok(()) => {
                            identify(&mut deployment).await;
                            learn(&clock, store.as_ref()).await;
                            settling.unwrap_or_else(|| Box::pin(ready(()))).await;
                            deployment.watch().await;
                        }
                        Err(error) => {
                            StartFailed { error: &error }.emit();
                            unusable.notify_one();
                        }
                    }
                });
            }
        }
        let likes = Arc::new(Likes {
            resource_types: settings.store.resource_types.clone(),
            clock,
            in_flight: Arc::default(),
            cache: Arc::clone(&cache),
            reader: actors.reader.clone(),
            lookups: Arc::new(Lookups::new(settings.mailbox_capacity, LOOKUP_WAIT)),
            cache_writer: actors.cache_writer.clone(),
            publisher: actors.publisher.clone(),
            recorder: actors.recorder.clone(),
            keeper: actors.keeper.clone(),
            gone: Arc::clone(&actors.gone),
        });
        let draining = Arc::new(Draining::default());
        let differences = Differences::default();
        let heartbeats = Heartbeats::begin(Arc::clone(&store), own, differences.clone());
        let health = Health {
            differences,
            probe: connections.probe.clone(),
            registry: registry.clone(),
            unready_after: settings.unready_after,
            draining: Arc::clone(&draining),
            gate: starting.gate,
            deployment: current.clone(),
            role: settings.role,
            runtime: tokio::runtime::Handle::current(),
        };
        let admin = admin(&settings, &connections, &actors.cache_writer);
        let context = web::Context::new(
            &settings,
            registry,
            reports,
            operations,
            health,
            auth,
            Arc::clone(&live),
        );
        let origins = settings.web.cors_origins.clone();
        let listener = bound.listen().map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let role = settings.role;
        let server = HttpServer {
            context,
            likes,
            admin,
            role,
            origins,
            draining: Arc::clone(&draining),
        };
        let server = server.listen(listener).map_err(listen)?;
        ServiceStarted {
            url: &format!("http://{address}"),
            database: store.kind(),
            cache: cache.kind(),
            broker: if broker.is_some() { "NATS" } else { "none" },
            role: role.as_str(),
        }
        .emit();
        actix::spawn(report_missing(connections.probe.clone()));
        Ok(Self {
            handle: server.handle(),
            server,
            address,
            actors,
            signals,
            draining,
            unusable,
            drain_delay: settings.drain_delay,
            drain_timeout: settings.drain_timeout,
            announcer,
            live,
            heartbeats,
            reporter,
        })
    }

    /// Returns the address of the listener, with the assigned port if the settings name port 0.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until a signal, an actor that was given up, or an unusable database ends it, then stops in order: `/readyz`
    /// fails, after the drain delay no new requests and no new claims, and then each actor finishes its work before the
    /// next one in the flow. Returns the exit code. The process must exit at once, because other threads may still be
    /// in a call.
    pub async fn run_until_signal(self) -> u8 {
        let Self {
            server,
            handle,
            actors,
            mut signals,
            draining,
            unusable,
            drain_delay,
            drain_timeout,
            announcer,
            live,
            heartbeats,
            reporter,
            ..
        } = self;
        let serving = actix::spawn(server);
        let failed = async || {
            tokio::select! {
                () = actors.given_up.notified() => "an actor was given up",
                () = unusable.notified() => "the database cannot be used",
            }
        };
        let (reason, mut code, delay) = tokio::select! {
            Ended { by, may_wait } = signals.next() => {
                (by, 0, if may_wait { drain_delay } else { Duration::ZERO })
            }
            reason = failed() => (reason, 1, Duration::ZERO),
        };
        ShutdownStarted { reason, delay }.emit();
        let started = Instant::now();
        draining.begin();
        if !delay.is_zero() {
            tokio::select! {
                () = tokio::time::sleep(delay) => {}
                _ = signals.next() => {}
                _ = failed() => code = 1,
            }
        }
        let drained = async {
            // Their clients connect to another process.
            live.close();
            handle.stop(true).await;
            actors.drain().await;
            announcer.finish().await;
            heartbeats.end().await;
            reporter.stop().await;
        };
        // A second signal, or the drain timeout, ends it at once. The ledger keeps the remaining work.
        tokio::select! {
            _ = tokio::time::timeout(drain_timeout, drained) => {}
            _ = signals.next() => {}
        }
        serving.abort();
        ShutdownEnded {
            took: started.elapsed(),
            left: actors.depth(),
        }
        .emit();
        code
    }
}

/// How long a read waits for its permits. After that, the service answers that it is overloaded.
const LOOKUP_WAIT: Duration = Duration::from_secs(5);

/// The signals that end the service.
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) -> Ended {
        let (by, may_wait) = tokio::select! {
            _ = self.interrupt.recv() => ("interrupted", false),
            _ = self.terminate.recv() => ("terminated", true),
        };
        Ended { by, may_wait }
    }
}

/// The signal that ended the service.
struct Ended {
    by: &'static str,
    /// Whether the drain delay applies: not to SIGINT, which a person sends from a terminal.
    may_wait: bool,
}
