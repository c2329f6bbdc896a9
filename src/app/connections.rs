//! Opens the database, the cache and the broker before the service starts.

use std::sync::Arc;
use std::time::Duration;

use actor_kit::Mailbox;
use futures_util::future::LocalBoxFuture;

use super::error::AppError;
use crate::actors::CacheWriter;
use crate::actors::probe::Probe;
use crate::admin::{AdminService, Dependencies};
use crate::cache::{self, Cache, MemoryCache};
use crate::config::Settings;
use crate::domain::CurrentDeployment;
use crate::nats::{Broker, NatsError};
use crate::store::{self, Gate, Store};

/// How long the start waits for the database and its tables before it goes on without them.
const STORE_WAIT: Duration = Duration::from_secs(3);

/// The pending migration of a starting process.
pub(super) struct Starting {
    /// Closed until the tables are up to date.
    pub(super) gate: Arc<Gate>,
    /// Migrates the tables; `None` when they are up to date.
    pub(super) migrating: Option<LocalBoxFuture<'static, Result<(), AppError>>>,
}

pub(super) async fn open_store(settings: &Settings) -> Result<(Arc<Store>, Starting), AppError> {
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

pub(super) fn open_cache(
    settings: &Settings,
    deployment: &CurrentDeployment,
) -> Result<Arc<dyn Cache>, AppError> {
    Ok(match &settings.redis {
        Some(options) => cache::on_redis(options, deployment.clone())?,
        None => Arc::new(MemoryCache::new(settings.cache_pairs)),
    })
}

/// How long the start waits for NATS. Without NATS, likes are recorded directly until it connects.
const BROKER_WAIT: Duration = Duration::from_secs(3);

pub(super) async fn open_broker(
    settings: &Settings,
    deployment: &CurrentDeployment,
) -> Result<Option<Arc<Broker>>, AppError> {
    let Some(options) = settings.nats.clone() else {
        return Ok(None);
    };
    let broker = Broker::connect(options, deployment.clone()).await?;
    broker.wait_until_connected(BROKER_WAIT).await;
    Ok(Some(Arc::new(broker)))
}

/// Checks the server and the stream, unless they cannot be reached yet.
pub(super) async fn check_broker(broker: &Broker) -> Result<(), AppError> {
    // The check logs why the stream is unusable. Likes go to the database until it is in order.
    if let Err(error @ (NatsError::TooOld { .. } | NatsError::Unusable(_))) = broker.check().await {
        return Err(error.into());
    }
    Ok(())
}

/// The connections that the actors use.
pub(super) struct Connections {
    pub(super) store: Arc<Store>,
    pub(super) cache: Arc<dyn Cache>,
    pub(super) broker: Option<Arc<Broker>>,
    /// Probes them.
    pub(super) probe: Probe,
}

/// Returns the service behind `/admin`.
pub(super) fn admin(
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
        facts_stream: settings
            .facts
            .stream
            .as_ref()
            .map(|stream| stream.name.clone()),
        stream_max_age: settings.nats.as_ref().map(|nats| nats.max_age),
    }
}
