//! The dependencies of subcommands that work on a running system, and the message to the services that cache
//! in their own process.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use super::Failure;
use crate::admin::{Dependencies, RebuildTarget};
use crate::cache;
use crate::config::Settings;
use crate::domain::{CurrentDeployment, JobKind};
use crate::nats::{Broker, NatsError};
use crate::store::{self, NewJob};

/// The dependencies that the settings name. The cache is Redis: a service's own process cannot be reached.
pub(super) async fn dependencies(settings: &Settings) -> Result<Dependencies, Failure> {
    let store = store::connect(&settings.store).await?;
    let deployment = CurrentDeployment::from(store.deployment().await?);
    let cache = match &settings.redis {
        Some(options) => Some(cache::on_redis(options, deployment.clone())?),
        None => None,
    };
    Ok(Dependencies {
        broker: connect_broker(settings, deployment).await?.map(Arc::new),
        store,
        cache,
    })
}

/// The broker that the settings name, if any. Waits five seconds at most for its connection.
pub(super) async fn connect_broker(
    settings: &Settings,
    deployment: CurrentDeployment,
) -> Result<Option<Broker>, NatsError> {
    let Some(options) = settings.nats.clone() else {
        return Ok(None);
    };
    let broker = Broker::connect(options, deployment).await?;
    broker.wait_until_connected(Duration::from_secs(5)).await;
    Ok(Some(broker))
}

/// Creates a job that makes a running service drop the cache in its own process, after a subcommand changed
/// rows. Entries on Redis are dropped already.
pub(super) async fn drop_own_caches(
    dependencies: &Dependencies,
    out: &mut impl Write,
) -> Result<(), Failure> {
    if dependencies.cache.is_some() {
        return Ok(());
    }
    let job = NewJob {
        kind: JobKind::Rebuild,
        spec: serde_json::json!({"what": RebuildTarget::Cache}),
        requested_by: "the command line".to_owned(),
        slot: None,
        now: dependencies.store.now(),
    };
    if let Some(job) = dependencies.store.create_job(&job, None).await? {
        writeln!(
            out,
            "created job {} so that a running service drops the cache in its own process",
            job.id
        )?;
    }
    Ok(())
}
