//! `likewise prune`: deletes completed ledger rows and superseded behaviors by age, in bounded batches.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use super::Failure;
use super::dependencies::dependencies;
use super::output::with_progress;
use crate::admin::Prune;
use crate::config::{MOST_RETENTION_DAYS, PruneOptions, Settings};

/// Arguments of `likewise prune`.
#[derive(Debug, clap::Args)]
pub(super) struct PruneArgs {
    /// Delete completed ledger rows that are older
    #[arg(long, value_name = "DAYS", value_parser = days())]
    ledger_days: Option<u32>,
    /// Delete behaviors that are older and that no read model needs
    #[arg(long, value_name = "DAYS", value_parser = days())]
    behaviors_days: Option<u32>,
    /// Append the behaviors to this file first (gzip, one JSON object a line)
    #[arg(long, value_name = "FILE", requires = "behaviors_days")]
    archive: Option<PathBuf>,
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Returns the parser of an age in days.
fn days() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=i64::from(MOST_RETENTION_DAYS))
}

pub(super) async fn run(settings: Settings, arguments: PruneArgs) -> Result<ExitCode, Failure> {
    let age = |days: u32| DAY * days;
    let options = PruneOptions {
        ledger_after: arguments.ledger_days.map(age),
        behaviors_after: arguments.behaviors_days.map(age),
        archive: arguments.archive,
    };
    let mut out = std::io::stdout().lock();
    if options.ledger_after.is_none() && options.behaviors_after.is_none() {
        writeln!(
            out,
            "nothing to do: pass --ledger-days, --behaviors-days or both"
        )?;
        return Ok(ExitCode::FAILURE);
    }
    let mut prune = Prune::begin(dependencies(&settings).await?, options, None).await?;
    with_progress(async || prune.step().await).await?;
    writeln!(
        out,
        "deleted {} ledger rows and {} behaviors",
        prune.ledger_rows(),
        prune.behaviors()
    )?;
    Ok(ExitCode::SUCCESS)
}
