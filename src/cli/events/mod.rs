//! `likewise events`: shows the ledger and quarantine, and retries or discards events. Thin: the use cases are in
//! `admin/`.

pub(super) mod jobs;
mod ledger;
mod quarantine;

use std::io::Write;
use std::process::ExitCode;

use clap::Subcommand;
use uuid::Uuid;

use super::Failure;
use super::dependencies::dependencies;
use super::output::write_json;
use crate::admin::AdminService;
use crate::config::Settings;

/// Arguments of `likewise events`.
#[derive(Debug, Subcommand)]
pub(super) enum EventsCommand {
    /// Show the ledger at a glance
    Summary(ledger::SummaryArgs),
    /// List ledger rows, newest first
    #[command(visible_alias = "list")]
    Search(Box<ledger::SearchArgs>),
    /// Show the timeline of one event
    Show(ledger::ShowArgs),
    /// Retry an event, or all events that a filter matches
    Retry(Box<jobs::RetryArgs>),
    /// Close an event as dead, or all events that a filter matches
    Discard(Box<jobs::DiscardArgs>),
    /// List jobs, or cancel one
    Jobs(jobs::JobsArgs),
    /// List messages in quarantine, and republish or discard them
    Quarantine(Box<quarantine::QuarantineArgs>),
}

pub(super) async fn run(settings: Settings, command: EventsCommand) -> Result<ExitCode, Failure> {
    let admin = admin(&settings).await?;
    match command {
        EventsCommand::Summary(arguments) => ledger::summary(&admin, &arguments).await,
        EventsCommand::Search(arguments) => ledger::search(&admin, *arguments).await,
        EventsCommand::Show(arguments) => ledger::show(&admin, &arguments).await,
        EventsCommand::Retry(arguments) => jobs::retry(&admin, *arguments).await,
        EventsCommand::Discard(arguments) => jobs::discard(&admin, *arguments).await,
        EventsCommand::Jobs(arguments) => jobs::jobs(&admin, arguments).await,
        EventsCommand::Quarantine(arguments) => quarantine::run(&admin, *arguments).await,
    }
}

/// Reads the id of an event or of a message, with the words of the API.
fn uuid(text: &str) -> Result<Uuid, &'static str> {
    Uuid::parse_str(text).map_err(|_| "must be a UUID")
}

pub(super) async fn admin(settings: &Settings) -> Result<AdminService, Failure> {
    Ok(AdminService {
        dependencies: dependencies(settings).await?,
        cache_writer: None,
        prune: settings.upkeep.prune.clone(),
        facts_stream: settings
            .facts
            .stream
            .as_ref()
            .map(|stream| stream.name.clone()),
        stream_max_age: settings.nats.as_ref().map(|nats| nats.max_age),
    })
}

/// Prints a line.
pub(super) fn print_line(line: std::fmt::Arguments<'_>) -> Result<(), Failure> {
    writeln!(std::io::stdout(), "{line}")?;
    Ok(())
}

/// Prints JSON for programs.
pub(super) fn print_json(value: &impl serde::Serialize) -> Result<(), Failure> {
    write_json(&mut std::io::stdout().lock(), value)?;
    Ok(())
}
