//! Builds the parts, starts the actors and the web server, and stops them in order.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use actix::{Actor, Context, Handler, Supervised};
use actix_web::dev::{Server, ServerHandle};
use actix_web::web::{Data, PayloadConfig};
use actix_web::{App as WebApp, HttpServer};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;

use crate::actors::kit::{Guardian, GuardianPolicy, Mailbox, Provoke, Registry, Vitals};
use crate::actors::retry_scheduler::StopClaiming;
use crate::actors::{BehaviorRecorder, CacheWriter, RetryScheduler, SyncPublisher};
use crate::cache::{Cache, MemoryCache};
use crate::config::{ConfigError, Settings};
use crate::domain::HybridClock;
use crate::likes::Likes;
use crate::store::{self, Store, StoreError};
use crate::telemetry::{Migrated, ServiceStarted, ShutdownEnded, ShutdownStarted};
use crate::web::{self, Health};

/// Why the service could not start.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The settings do not allow it.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The database cannot be used.
    #[error("cannot use the database {url}: {source}")]
    Store {
        /// Which, without its password.
        url: String,
        /// Why.
        source: StoreError,
    },
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
    drain_timeout: Duration,
}

impl App {
    /// Brings the tables up to date, starts the actors and listens.
    ///
    /// # Errors
    /// If the settings do not allow it, or a part that it cannot do without is not there.
    pub async fn start(settings: Settings) -> Result<Self, AppError> {
        settings.closed_by_default()?;
        let signals = Signals::new().map_err(AppError::Signals)?;
        let store = open_store(&settings).await?;
        let cache: Arc<dyn Cache> = Arc::new(MemoryCache::new(settings.cache_pairs));
        let registry = Registry::new(settings.stall_after);
        let actors = Actors::start(&settings, &store, &cache, &registry);
        let likes = Likes {
            clock: Arc::new(HybridClock::default()),
            cache: Arc::clone(&cache),
            cache_writer: actors.cache_writer.clone(),
            recorder: actors.recorder.clone(),
        };
        let draining = Arc::new(AtomicBool::new(false));
        let health = Health {
            store: Arc::clone(&store),
            cache: Arc::clone(&cache),
            registry: registry.clone(),
            draining: Arc::clone(&draining),
        };
        let context = web::Context::new(&settings, registry, health);
        let listen = |source| AppError::Listen {
            address: settings.http_addr,
            source,
        };
        let server = HttpServer::new(move || {
            WebApp::new()
                .app_data(Data::new(likes.clone()))
                .app_data(Data::new(context.clone()))
                .app_data(PayloadConfig::new(web::BODY_LIMIT))
                .configure(web::routes)
        })
        .workers(std::thread::available_parallelism().map_or(2, usize::from))
        .disable_signals()
        .shutdown_timeout(8)
        .bind(settings.http_addr)
        .map_err(listen)?;
        let address = server
            .addrs()
            .first()
            .copied()
            .unwrap_or(settings.http_addr);
        let server = server.run();
        ServiceStarted {
            address: &address.to_string(),
            database: store.kind(),
            cache: cache.kind(),
        }
        .emit();
        Ok(Self {
            handle: server.handle(),
            server,
            address,
            actors,
            signals,
            draining,
            drain_timeout: settings.drain_timeout,
        })
    }

    /// Where it listens: the port that was given out if the settings asked for any.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until a signal or a part given up ends it, then stops in order: no new requests, no new
    /// claims, and then each actor finishes its work before the next one in the flow.
    pub async fn run_until_signal(self) -> ExitCode {
        let Self {
            server,
            handle,
            actors,
            mut signals,
            draining,
            drain_timeout,
            ..
        } = self;
        let serving = actix::spawn(server);
        let (reason, code) = tokio::select! {
            reason = signals.next() => (reason, ExitCode::SUCCESS),
            () = actors.given_up.notified() => ("an actor was given up", ExitCode::FAILURE),
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

async fn open_store(settings: &Settings) -> Result<Arc<dyn Store>, AppError> {
    let unusable = |source| AppError::Store {
        url: settings.store.url_without_password(),
        source,
    };
    let migrations = store::migrate(&settings.store).await.map_err(unusable)?;
    Migrated {
        migrations: &migrations,
    }
    .emit();
    store::connect(&settings.store).await.map_err(unusable)
}

/// The actors and how to reach them, in the order of the flow.
struct Actors {
    recorder: Mailbox<BehaviorRecorder>,
    sync_publisher: Mailbox<SyncPublisher>,
    cache_writer: Mailbox<CacheWriter>,
    retry_scheduler: actix::Addr<RetryScheduler>,
    given_up: Arc<Notify>,
}

impl Actors {
    fn start(
        settings: &Settings,
        store: &Arc<dyn Store>,
        cache: &Arc<dyn Cache>,
        registry: &Registry,
    ) -> Self {
        let given_up = Arc::new(Notify::new());
        let starter = Starter {
            policy: settings.guardian,
            capacity: settings.mailbox_capacity,
            registry,
            given_up: &given_up,
        };
        let cache_writer = starter.start(CacheWriter::NAME, |vitals| {
            CacheWriter::new(Arc::clone(cache), Arc::clone(store), settings.cache, vitals)
        });
        let sync_publisher = starter.start(SyncPublisher::NAME, |vitals| {
            SyncPublisher::new(
                Arc::clone(store),
                cache_writer.clone(),
                settings.sync,
                vitals,
            )
        });
        let recorder = starter.start(BehaviorRecorder::NAME, |vitals| {
            BehaviorRecorder::new(
                Arc::clone(store),
                sync_publisher.clone(),
                settings.recorder,
                vitals,
            )
        });
        let retry_scheduler = starter.start(RetryScheduler::NAME, |vitals| {
            RetryScheduler::new(
                Arc::clone(store),
                sync_publisher.clone(),
                settings.retry,
                vitals,
            )
        });
        Self {
            recorder,
            sync_publisher,
            cache_writer,
            retry_scheduler: retry_scheduler.addr().clone(),
            given_up,
        }
    }

    async fn drain(&self) {
        self.retry_scheduler.do_send(StopClaiming);
        self.recorder.gauge().idle().await;
        self.sync_publisher.gauge().idle().await;
        self.cache_writer.gauge().idle().await;
    }

    fn depth(&self) -> usize {
        self.recorder.gauge().depth()
            + self.sync_publisher.gauge().depth()
            + self.cache_writer.gauge().depth()
    }
}

/// Starts actors under guardians, each with a mailbox, known to the registry.
struct Starter<'a> {
    policy: GuardianPolicy,
    capacity: usize,
    registry: &'a Registry,
    given_up: &'a Arc<Notify>,
}

impl Starter<'_> {
    fn start<A>(&self, name: &'static str, build: impl FnOnce(Arc<Vitals>) -> A) -> Mailbox<A>
    where
        A: Supervised + Actor<Context = Context<A>> + Handler<Provoke>,
    {
        let vitals = self.registry.register(name);
        let actor = build(Arc::clone(&vitals));
        let given_up = Arc::clone(self.given_up);
        let addr = Guardian::start(self.policy, Arc::clone(&vitals), given_up, |_| actor);
        let mailbox = Mailbox::new(name, addr, self.capacity);
        vitals.watch_mailbox(mailbox.gauge());
        mailbox
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
