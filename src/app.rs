//! Builds the dependencies, starts the actors and the web server, and stops them in order.

use std::future::ready;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use actix_http::HttpService;
use actix_server::{Server, ServerHandle};
use actix_service::{IntoServiceFactory, Service, ServiceFactoryExt, fn_service, map_config};
use actix_web::App as WebApp;
use actix_web::dev::AppConfig;
use actix_web::middleware::{Condition, from_fn};
use actix_web::rt::net::TcpStream;
use actix_web::web::{Data, PayloadConfig};
use actor_kit::{Mailbox, Registry, Starter};
use futures_util::future::LocalBoxFuture;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;

use crate::actors::{
    BehaviorRecorder, CacheWriter, EventPublisher, HealthMonitor, IdempotencyKeeper, JobRunner,
    NatsSubscriber, RESTARTS, RetryScheduler, SyncPublisher,
};
use crate::admin::{AdminService, Dependencies, Runner};
use crate::cache::{Cache, CacheError, MemoryCache, RedisCache};
use crate::config::{ConfigError, Settings};
use crate::domain::{HybridClock, Version};
use crate::health::{DependenciesUnavailable, Probe};
use crate::likes::{Likes, Lookups};
use crate::messages::Settle;
use crate::nats::{Broker, NatsError};
use crate::store::{self, Gate, Reader, Settled, Store, StoreError};
use crate::telemetry::{
    ActorEvents, Dependency, DependencyFailed, ServiceStarted, ShutdownEnded, ShutdownStarted,
    StartFailed,
};
use crate::web::auth::{Auth, AuthError};
use crate::web::slow_clients::{HEAD_TIMEOUT, TimedStream};
use crate::web::{self, Health};

/// Why the service could not start.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The settings do not allow it.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Sign-in cannot be set up.
    #[error(transparent)]
    Auth(#[from] AuthError),
    /// The database cannot be used.
    #[error("cannot use the database {url}: {source}")]
    Store {
        /// Which, without its password.
        url: String,
        /// Why.
        source: StoreError,
    },
    /// The cache cannot be used.
    #[error("cannot use the cache: {0}")]
    Cache(#[from] CacheError),
    /// The broker cannot be used.
    #[error("cannot use the broker: {0}")]
    Broker(#[from] NatsError),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}; set LIKEWISE_HTTP_ADDR to another address")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The process cannot be told to stop.
    #[error("cannot wait for signals: {0}")]
    Signals(std::io::Error),
}

/// The running service.
pub struct App {
    server: Server,
    handle: ServerHandle,
    address: SocketAddr,
    actors: Actors,
    signals: Signals,
    draining: Arc<AtomicBool>,
    /// Notified when the database turns out to be unusable after the start.
    unusable: Arc<Notify>,
    drain_timeout: Duration,
}

impl App {
    /// Brings the tables up to date, starts the actors and listens.
    ///
    /// Waits three seconds for the database, and goes on without it: then the tables are brought up to date
    /// once it is there, and until then nothing uses it.
    ///
    /// # Errors
    /// If the settings do not allow it, the database refuses the connection, or a migration fails.
    pub async fn start(settings: Settings) -> Result<Self, AppError> {
        settings.closed_by_default()?;
        let auth = Arc::new(Auth::load(&settings.auth)?);
        let signals = Signals::new().map_err(AppError::Signals)?;
        let (store, starting) = open_store(&settings).await?;
        let cache = open_cache(&settings)?;
        let broker = open_broker(&settings).await?;
        let registry = Registry::new(settings.stall_after, ActorEvents);
        let connections = Connections {
            store: Arc::clone(&store),
            cache: Arc::clone(&cache),
            broker: broker.clone(),
        };
        let clock = Arc::new(HybridClock::default());
        if starting.migrating.is_none() {
            learn(&clock, store.as_ref()).await;
        }
        let actors = Actors::start(&settings, &connections, &registry);
        let unusable = Arc::new(Notify::new());
        let settling = settings
            .role
            .is_worker()
            .then(|| settle_recent(Arc::clone(&store), actors.cache_writer.clone()));
        match starting.migrating {
            None => settling.unwrap_or_else(|| Box::pin(ready(()))).await,
            Some(migrating) => {
                let unusable = Arc::clone(&unusable);
                let (clock, store) = (Arc::clone(&clock), Arc::clone(&store));
                actix::spawn(async move {
                    match migrating.await {
                        Ok(()) => {
                            learn(&clock, store.as_ref()).await;
                            settling.unwrap_or_else(|| Box::pin(ready(()))).await;
                        }
                        Err(error) => {
                            StartFailed { error: &error }.emit();
                            unusable.notify_one();
                        }
                    }
                });
            }
        }
        let likes = Likes {
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
        };
        let draining = Arc::new(AtomicBool::new(false));
        let health = Health {
            probe: connections.probe(),
            registry: registry.clone(),
            draining: Arc::clone(&draining),
            gate: starting.gate,
            role: settings.role,
        };
        let admin = admin(&settings, &connections, &actors.cache_writer);
        let context = web::Context::new(&settings, registry, health, auth);
        let listen = |source| AppError::Listen {
            address: settings.http_addr,
            source,
        };
        let role = settings.role;
        let origins = settings.web.cors_origins.clone();
        let listener = TcpListener::bind(settings.http_addr).map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        // What `HttpServer` does, but with connections that cut off slow clients.
        let builder = Server::build();
        let shutdown = builder.graceful_shutdown_signal();
        let server = builder
            .workers(std::thread::available_parallelism().map_or(2, usize::from))
            .disable_signals()
            .shutdown_timeout(8)
            .listen("likewise", listener, move || {
                let app = WebApp::new()
                    // The last is the outermost: what is refused inside is seen by pages and kept in bounds.
                    .wrap(Condition::new(context.limits.any(), from_fn(web::limit)))
                    .wrap(from_fn(web::guard))
                    .wrap(from_fn(web::bound))
                    .wrap(Condition::new(!origins.is_empty(), web::cors(&origins)))
                    .wrap_fn(|request, next| {
                        let answer = next.call(request);
                        async move {
                            let mut response = answer.await?;
                            web::harden(response.headers_mut());
                            Ok(response)
                        }
                    })
                    .app_data(Data::new(likes.clone()))
                    .configure(|config| context.register(config))
                    .app_data(Data::new(admin.clone()))
                    .app_data(PayloadConfig::new(web::bounds::BODY_LIMIT))
                    .configure(|config| web::routes(config, role))
                    .into_factory()
                    .map_err(|error| {
                        let mut response = error.error_response();
                        web::harden(response.headers_mut());
                        response
                    });
                let shutdown = shutdown.clone();
                let http = HttpService::build()
                    .graceful_shutdown_signal(move || {
                        let shutdown = shutdown.clone();
                        async move { shutdown.notified().await }
                    })
                    .client_request_timeout(HEAD_TIMEOUT)
                    .client_disconnect_timeout(Duration::from_secs(1))
                    .local_addr(address)
                    .on_connect_ext(|stream: &TimedStream, data| {
                        data.insert(stream.activity());
                    })
                    .h1(map_config(app, |()| AppConfig::default()));
                fn_service(|stream: TcpStream| {
                    let peer = stream.peer_addr().ok();
                    ready(Ok((TimedStream::new(stream), peer)))
                })
                .and_then(http)
            })
            .map_err(listen)?;
        let server = server.run();
        ServiceStarted {
            address: &address.to_string(),
            database: store.kind(),
            cache: cache.kind(),
            broker: if broker.is_some() { "NATS" } else { "none" },
            role: role.as_str(),
        }
        .emit();
        Ok(Self {
            handle: server.handle(),
            server,
            address,
            actors,
            signals,
            draining,
            unusable,
            drain_timeout: settings.drain_timeout,
        })
    }

    /// Where it listens: the port that was given out if the settings asked for any.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until a signal or a part given up ends it, then stops in order: no new requests, no new
    /// claims, and then each actor finishes its work before the next one in the flow. Answers the exit code of
    /// the process, which is to end at once: other threads may still be in the middle of a call.
    pub async fn run_until_signal(self) -> u8 {
        let Self {
            server,
            handle,
            actors,
            mut signals,
            draining,
            unusable,
            drain_timeout,
            ..
        } = self;
        let serving = actix::spawn(server);
        let (reason, code) = tokio::select! {
            reason = signals.next() => (reason, 0),
            () = actors.given_up.notified() => ("an actor was given up", 1),
            () = unusable.notified() => ("the database cannot be used", 1),
        };
        ShutdownStarted { reason }.emit();
        let started = Instant::now();
        draining.store(true, Ordering::Relaxed);
        let drained = async {
            handle.stop(true).await;
            actors.drain().await;
        };
        // A second signal, or too long a drain, ends it at once: the ledger keeps what is left.
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

/// How long the start waits for the database and its tables before it goes on without them.
const STORE_WAIT: Duration = Duration::from_secs(3);

/// What a start still waits for.
struct Starting {
    /// Closed until the tables are up to date.
    gate: Arc<Gate>,
    /// Brings them up to date; `None` once they are.
    migrating: Option<LocalBoxFuture<'static, Result<(), AppError>>>,
}

async fn open_store(settings: &Settings) -> Result<(Arc<Store>, Starting), AppError> {
    let url = settings.store.url_without_password();
    let unusable = move |source| AppError::Store {
        url: url.clone(),
        source,
    };
    let gate = Arc::new(Gate::closed());
    let store = store::open(&settings.store, &gate).map_err(&unusable)?;
    let (options, closed) = (settings.store.clone(), Arc::clone(&gate));
    let mut migrating: LocalBoxFuture<'static, Result<(), AppError>> = Box::pin(async move {
        store::migrate_when_reachable(&options, &closed)
            .await
            .map_err(unusable)
    });
    let migrating = match tokio::time::timeout(STORE_WAIT, &mut migrating).await {
        Ok(outcome) => {
            outcome?;
            None
        }
        Err(_) => Some(migrating),
    };
    Ok((store, Starting { gate, migrating }))
}

fn open_cache(settings: &Settings) -> Result<Arc<dyn Cache>, AppError> {
    Ok(match &settings.redis {
        Some(options) => Arc::new(RedisCache::new(options)?),
        None => Arc::new(MemoryCache::new(settings.cache_pairs)),
    })
}

/// How long a read waits for room among the others; one that gets none is told that the service is overloaded.
const LOOKUP_WAIT: Duration = Duration::from_secs(5);

/// How long the start waits for NATS; without it, likes are recorded directly until it comes.
const BROKER_WAIT: Duration = Duration::from_secs(3);

async fn open_broker(settings: &Settings) -> Result<Option<Arc<Broker>>, AppError> {
    let Some(options) = settings.nats.clone() else {
        return Ok(None);
    };
    let broker = Broker::connect(options).await?;
    broker.wait_until_connected(BROKER_WAIT).await;
    // The check logs what keeps the stream from being used; likes go to the database until it can be.
    if let Err(error @ (NatsError::TooOld { .. } | NatsError::Unusable(_))) = broker.check().await {
        return Err(error.into());
    }
    Ok(Some(Arc::new(broker)))
}

/// How many of the last recorded behaviors a starting process learns their newest version from.
const LEARN_FROM: usize = 1_000;

/// Measures the database's clock, and draws no version below those recorded last if this process's clock is a
/// little behind.
async fn learn(clock: &HybridClock, store: &Store) {
    let newest = async {
        store.measure_clock().await?;
        store.newest_version(LEARN_FROM).await
    };
    match newest.await {
        Ok(newest) => clock.observe_at(newest, Version::at(store.now())),
        Err(error) => DependencyFailed {
            dependency: Dependency::Database,
            doing: "reading the newest version",
            error: &error,
        }
        .emit(),
    }
}

/// How many of the last recorded like events a starting worker tells the cache of again.
const RECENT: usize = 20_000;

/// Tells the cache what the database holds of the pairs that were recorded last: a worker that was
/// killed between a commit and its settlement told it nothing.
fn settle_recent(
    store: Arc<Store>,
    cache_writer: Mailbox<CacheWriter>,
) -> LocalBoxFuture<'static, ()> {
    Box::pin(async move {
        let settle = async {
            let pairs = store.recent_pairs(RECENT).await?;
            let found = store.find(&pairs).await?;
            Ok::<_, StoreError>(Settled {
                states: found.states,
                counts: found.counts,
                changed: Vec::new(),
            })
        };
        match settle.await {
            Ok(settled) => {
                // The cache writer answers for itself if the cache cannot be reached.
                let _ = cache_writer.ask_or_wait(Settle { settled }).await;
            }
            Err(error) => DependencyFailed {
                dependency: Dependency::Database,
                doing: "settling what was recorded last",
                error: &error,
            }
            .emit(),
        }
    })
}

/// What the actors work with.
struct Connections {
    store: Arc<Store>,
    cache: Arc<dyn Cache>,
    broker: Option<Arc<Broker>>,
}

impl Connections {
    fn probe(&self) -> Probe {
        Probe {
            store: Arc::clone(&self.store),
            cache: Arc::clone(&self.cache),
            broker: self.broker.clone(),
        }
    }
}

/// Where operators come to.
fn admin(
    settings: &Settings,
    connections: &Connections,
    cache_writer: &Mailbox<CacheWriter>,
) -> AdminService {
    AdminService {
        dependencies: Dependencies {
            store: Arc::clone(&connections.store),
            cache: Some(Arc::clone(&connections.cache)),
            broker: connections.broker.clone(),
        },
        cache_writer: Some(cache_writer.clone()),
        prune: settings.upkeep.prune.clone(),
        stream_max_age: settings.nats.as_ref().map(|nats| nats.max_age),
    }
}

/// The actors and how to reach them, in the order of the flow.
struct Actors {
    publisher: Option<Mailbox<EventPublisher>>,
    subscriber: Option<Mailbox<NatsSubscriber>>,
    recorder: Mailbox<BehaviorRecorder>,
    keeper: Option<Mailbox<IdempotencyKeeper>>,
    sync_publisher: Mailbox<SyncPublisher>,
    cache_writer: Mailbox<CacheWriter>,
    reader: Reader,
    retry_scheduler: Option<Mailbox<RetryScheduler>>,
    /// Kept, for an actor that nobody can reach stops.
    _health_monitor: Mailbox<HealthMonitor>,
    gone: Arc<DependenciesUnavailable>,
    job_runner: Option<Mailbox<JobRunner>>,
    given_up: Arc<Notify>,
}

impl Actors {
    fn start(settings: &Settings, connections: &Connections, registry: &Registry) -> Self {
        let starter = Starter {
            registry: registry.clone(),
            policy: RESTARTS,
            capacity: settings.mailbox_capacity,
            given_up: Arc::default(),
        };
        let store = || Arc::clone(&connections.store);
        let broker = connections.broker.as_ref();
        let reader = Reader::new(store(), settings.read_timeout);
        let cache_writer = starter.start(|context| {
            let cache = Arc::clone(&connections.cache);
            CacheWriter::new(cache, reader.clone(), settings.cache, context)
        });
        let sync_publisher = starter.start(|context| {
            let (cache_writer, broker) = (cache_writer.clone(), broker.cloned());
            SyncPublisher::new(store(), cache_writer, broker, settings.sync, context)
        });
        let recorder = starter.start(|context| {
            let sync_publisher = sync_publisher.clone();
            BehaviorRecorder::new(store(), sync_publisher, settings.recorder, context)
        });
        let keeper = settings.role.is_api().then(|| {
            starter.start(|context| IdempotencyKeeper::new(store(), settings.keeper, context))
        });
        let publisher = broker.filter(|_| settings.role.is_api()).map(|broker| {
            starter.start(|context| {
                EventPublisher::new(Arc::clone(broker), settings.publisher, context)
            })
        });
        let subscriber = broker.filter(|_| settings.role.is_worker()).map(|broker| {
            starter.start(|context| {
                NatsSubscriber::new(
                    Arc::clone(broker),
                    recorder.clone(),
                    cache_writer.clone(),
                    store(),
                    settings.subscriber,
                    context,
                )
            })
        });
        let retry_scheduler = settings.role.is_worker().then(|| {
            starter.start(|context| {
                let sync_publisher = sync_publisher.clone();
                let cache_writer = cache_writer.clone();
                RetryScheduler::new(
                    store(),
                    sync_publisher,
                    cache_writer,
                    settings.retry,
                    context,
                )
            })
        });
        let job_runner = settings.role.is_worker().then(|| {
            starter.start(|context| {
                let runner = Runner::new(admin(settings, connections, &cache_writer));
                JobRunner::new(runner, settings.upkeep.clone(), context)
            })
        });
        let gone = Arc::new(DependenciesUnavailable::default());
        let health_monitor = starter.start(|context| {
            HealthMonitor::new(
                connections.probe(),
                reader.clone(),
                Arc::clone(&gone),
                context,
            )
        });
        Self {
            publisher,
            subscriber,
            recorder,
            keeper,
            sync_publisher,
            cache_writer,
            reader,
            retry_scheduler,
            _health_monitor: health_monitor,
            gone,
            job_runner,
            given_up: starter.given_up,
        }
    }

    async fn drain(&self) {
        if let Some(job_runner) = &self.job_runner {
            job_runner.stop().await;
        }
        if let Some(retry_scheduler) = &self.retry_scheduler {
            // Its claims may wait for the database; the sync publisher drains what they have sent.
            drop(retry_scheduler.stop());
        }
        if let Some(subscriber) = &self.subscriber {
            subscriber.stop().await;
        }
        if let Some(publisher) = &self.publisher {
            publisher.gauge().idle().await;
        }
        self.recorder.gauge().idle().await;
        if let Some(keeper) = &self.keeper {
            keeper.gauge().idle().await;
        }
        self.sync_publisher.gauge().idle().await;
        self.cache_writer.gauge().idle().await;
    }

    fn depth(&self) -> usize {
        let publishing = self.publisher.as_ref();
        let keeping = self.keeper.as_ref();
        publishing.map_or(0, |publisher| publisher.gauge().depth())
            + keeping.map_or(0, |keeper| keeper.gauge().depth())
            + self.recorder.gauge().depth()
            + self.sync_publisher.gauge().depth()
            + self.cache_writer.gauge().depth()
    }
}

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

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "interrupted",
            _ = self.terminate.recv() => "terminated",
        }
    }
}
