//! `likewise config`: prints each setting, its value and where it comes from, and checks them.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use serde::Serialize;

use super::Failure;
use super::dependencies::connect_broker;
use super::output::{table, write_json};
use crate::cache;
use crate::config::{FILE, PartialConfig, SettingReport, Settings};
use crate::domain::CurrentDeployment;
use crate::store;
use crate::web::auth::Auth;

/// Arguments of `likewise config`.
#[derive(Debug, clap::Args)]
pub(super) struct ConfigArgs {
    /// Connect to the database, Redis and NATS as well
    #[arg(long)]
    check: bool,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    settings: Vec<SettingReport>,
    valid: bool,
    problems: Vec<String>,
}

/// Prints the settings. The exit code is 1 if `serve` could not start with them.
pub(super) async fn run(
    given: PartialConfig,
    flags: &BTreeSet<String>,
    arguments: &ConfigArgs,
) -> Result<ExitCode, Failure> {
    let path = Path::new(FILE);
    let settings = given.report(path, flags)?;
    let mut problems = Vec::new();
    problems.extend(
        PartialConfig::check_environment()
            .err()
            .map(|error| error.to_string()),
    );
    match given.load(path) {
        Ok(settings) => {
            problems.extend(
                settings
                    .closed_by_default()
                    .err()
                    .map(|error| error.to_string()),
            );
            problems.extend(
                Auth::load(&settings.auth)
                    .err()
                    .map(|error| error.to_string()),
            );
            if arguments.check {
                problems.extend(unreachable(&settings).await);
            }
        }
        Err(error) => problems.push(error.to_string()),
    }
    let report = Report {
        settings,
        valid: problems.is_empty(),
        problems,
    };
    print(&report, arguments.json)?;
    Ok(if report.valid {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Why the database, Redis and NATS cannot be used. A database that lacks tables or migrations can: `serve` makes them.
async fn unreachable(settings: &Settings) -> Vec<String> {
    let mut problems = Vec::new();
    if let Err(error) = store::reach(&settings.store).await {
        problems.push(format!("LIKEWISE_DATABASE_URL: {error}"));
    }
    if let Some(options) = &settings.redis {
        let reached = match cache::on_redis(options, CurrentDeployment::default()) {
            Ok(cache) => cache.ping().await,
            Err(error) => Err(error),
        };
        problems.extend(
            reached
                .err()
                .map(|error| format!("LIKEWISE_REDIS_URL: {error}")),
        );
    }
    match connect_broker(settings, CurrentDeployment::default()).await {
        Ok(Some(broker)) if !broker.is_connected() => {
            problems.push("LIKEWISE_NATS_URL: no server accepts the connection".to_owned());
        }
        Ok(_) => {}
        Err(error) => problems.push(format!("LIKEWISE_NATS_URL: {error}")),
    }
    problems
}

fn print(report: &Report, json: bool) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    if json {
        return write_json(&mut out, report);
    }
    let mut rows = table(["setting", "value", "from"], &[]);
    for setting in &report.settings {
        rows.add_row([
            setting.variable,
            setting.value.as_deref().unwrap_or("-"),
            setting.source.as_str(),
        ]);
    }
    writeln!(out, "{rows}")?;
    if report.valid {
        return writeln!(out, "the settings are valid");
    }
    for problem in &report.problems {
        writeln!(out, "problem: {problem}")?;
    }
    Ok(())
}
