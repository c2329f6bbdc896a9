//! What `audit`, `rebuild` and `prune` have in common: their dependencies and their progress bar.

use std::io::{IsTerminal, Write, stderr};
use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use indicatif::{ProgressBar, ProgressStyle};

use super::Failure;
use crate::admin::RebuildTarget;
use crate::admin::{Dependencies, Progress};
use crate::cache::{Cache, RedisCache};
use crate::config::Settings;
use crate::domain::JobKind;
use crate::nats::Broker;
use crate::store::{self, NewJob};

/// The dependencies that the settings name. A cache in the service's own process cannot be reached from here.
pub(super) async fn dependencies(settings: &Settings) -> Result<Dependencies, Failure> {
    let cache = match &settings.redis {
        Some(options) => Some(Arc::new(RedisCache::new(options)?) as Arc<dyn Cache>),
        None => None,
    };
    let broker = match settings.nats.clone() {
        Some(options) => {
            let broker = Broker::connect(options).await?;
            broker.wait_until_connected(Duration::from_secs(5)).await;
            Some(Arc::new(broker))
        }
        None => None,
    };
    Ok(Dependencies {
        store: store::connect(&settings.store).await?,
        cache,
        broker,
    })
}

/// Has running services drop what they hold in caches of their own, after rows were changed behind them: as a
/// job, which the next worker runs. On Redis the entries have been dropped already.
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
        now: Utc::now(),
    };
    if let Some(job) = dependencies.store.create_job(&job, None).await? {
        writeln!(
            out,
            "a running service drops the cache in its own process now (job {})",
            job.id
        )?;
    }
    Ok(())
}

/// A progress bar on standard error, if that is a terminal.
pub(super) struct Bar(ProgressBar);

impl Bar {
    /// A bar that has not moved yet.
    pub(super) fn start() -> Self {
        if !stderr().is_terminal() {
            return Self(ProgressBar::hidden());
        }
        let style = ProgressStyle::with_template(
            "{msg:12} {wide_bar} {human_pos} of {human_len} rows · {per_sec} · {eta} left",
        )
        .expect("a constant template is valid");
        Self(ProgressBar::new(0).with_style(style))
    }

    /// Shows how far the work has come.
    pub(super) fn show(&self, progress: Progress) {
        self.0.set_length(progress.total);
        self.0.set_position(progress.done);
        self.0.set_message(progress.stage);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
