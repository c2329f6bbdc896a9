//! `likewise bench`. The harness runs the benchmark; the tools here are the parts of it that need a database, Redis, NATS
//! or a web server. The harness starts each as a process of its own: this program with `bench --tool NAME`.

mod check;
mod hello;
mod parts;
mod rows;
mod tables;

use std::process::ExitCode;

use harness::bench::{self, BenchArgs, BenchError};

use super::Failure;
use crate::config::Settings;

/// Why a tool failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum ToolError {
    #[error("there is no tool `{0}`")]
    Unknown(String),
    #[error("this tool needs {0}")]
    Needs(&'static str),
    #[error("the database: {0}")]
    Database(String),
    #[error("{0}: {1}")]
    Sql(diesel::result::Error, String),
    #[error("NATS: {0}")]
    Nats(String),
}

/// Runs the benchmark, or one of its tools.
pub(super) async fn run(
    args: BenchArgs,
    settings: impl FnOnce() -> Result<Settings, crate::config::ConfigError>,
) -> Result<ExitCode, Failure> {
    let Some(tool) = args.tool.clone() else {
        return Ok(bench::run(args).await.map_err(Box::<BenchError>::from)?);
    };
    match tool.as_str() {
        "hello" => hello::serve().await?,
        "redis" => parts::redis(&settings()?, &args).await?,
        "publish" => parts::publish(&settings()?, &args, 1).await?,
        "publish-batch" => parts::publish(&settings()?, &args, parts::A_MESSAGE).await?,
        "pull" => parts::pull(&settings()?, &args, 1).await?,
        "pull-batch" => parts::pull(&settings()?, &args, parts::A_MESSAGE).await?,
        "database" => parts::database(&settings()?, &args, false).await?,
        "database-two" => parts::database(&settings()?, &args, true).await?,
        "fill" => rows::fill(&settings()?, args.rows, args.hot_likes).await?,
        "lean" => tables::drop_secondary_indexes(&settings()?).await?,
        "sizes" => tables::print_sizes(&settings()?).await?,
        "check" => return check::run(&settings()?, args.from.as_deref()).await,
        _ => return Err(ToolError::Unknown(tool).into()),
    }
    Ok(ExitCode::SUCCESS)
}
