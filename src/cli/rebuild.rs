//! `likewise rebuild`: rebuilds read models, counts and cache from the behaviors while services run.

use std::io::Write;
use std::process::ExitCode;

use clap::ValueEnum;

use super::Failure;
use super::dependencies::{dependencies, drop_own_caches};
use super::output::with_progress;
use crate::admin::{CacheRebuild, Dependencies, read_models};
use crate::config::Settings;

/// Arguments of `likewise rebuild`.
#[derive(Debug, clap::Args)]
pub(super) struct RebuildArgs {
    /// Parts to rebuild; all if none is named
    #[arg(value_enum)]
    what: Option<What>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    /// The likes tables, likewise_like_counts and likewise_behavior_counts
    ReadModels,
    /// The entries on Redis
    Cache,
}

pub(super) async fn run(settings: Settings, arguments: RebuildArgs) -> Result<ExitCode, Failure> {
    let dependencies = dependencies(&settings).await?;
    let wanted = |what| arguments.what.is_none_or(|wanted| wanted == what);
    if wanted(What::ReadModels) {
        rebuild_read_models(dependencies.clone()).await?;
    }
    // Changed rows make the cache in a service's own process stale.
    if wanted(What::Cache) || dependencies.cache.is_none() {
        rebuild_cache(dependencies).await?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn rebuild_read_models(dependencies: Dependencies) -> Result<(), Failure> {
    let mut rebuild = read_models(dependencies, None).await?;
    with_progress(async || rebuild.step().await).await?;
    let report = rebuild.finish().await?;
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "rebuilt read models and counts from {} behaviors; changed {} rows",
        report.checked.behaviors,
        report.mended()
    )?;
    Ok(())
}

async fn rebuild_cache(dependencies: Dependencies) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    if dependencies.cache.is_none() {
        return drop_own_caches(&dependencies, &mut out).await;
    }
    let mut rebuild = CacheRebuild::begin(dependencies);
    let last = with_progress(async || rebuild.step().await).await?;
    let entries = last.map_or(0, |progress| progress.done);
    writeln!(
        out,
        "dropped {entries} cache entries; the next read rebuilds each from the database"
    )?;
    Ok(())
}
