//! The command line: one file for each subcommand.

mod actors;
mod audit;
mod bench;
mod config;
mod dependencies;
mod deployment;
mod erase;
mod events;
mod format;
mod import;
mod migrate;
mod operator;
mod output;
mod prune;
mod rebuild;
mod reports;
mod serve;
mod service;
mod stream;
mod token;
mod top;
mod users;
mod verify;
mod verify_cache;
mod verify_journal;
mod webhooks;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::ExitCode;

use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser, Subcommand};
use harness::bench::{BenchArgs, BenchError};
use harness::journal::JournalError;
use harness::load::{self, LoadArgs, LoadError};

use crate::admin::AdminError;
use crate::cache::CacheError;
use crate::config::{ConfigError, FILE, LogFormat, PartialConfig};
use crate::domain::InvalidId;
use crate::domain::words::UnknownWord;
use crate::nats::NatsError;
use crate::store::StoreError;
use crate::telemetry::write_failure;

/// Likewise, an event-driven like service
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "Settings also come from likewise.toml (batch_size = 500) and the environment. The secrets have no \
                  flag: LIKEWISE_ADMIN_TOKEN, LIKEWISE_JWT_SECRET, LIKEWISE_WEBHOOK_SECRET."
)]
pub struct Cli {
    #[command(flatten)]
    settings: PartialConfig,
    #[command(subcommand)]
    command: Option<Command>,
    /// The settings that flags have set.
    #[arg(skip)]
    flags: BTreeSet<String>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the like API (the default)
    Serve,
    /// Apply missing migrations to the database
    Migrate,
    /// Print each setting, its value and where it comes from, and check them
    Config(config::ConfigArgs),
    /// Send likes from a file to a running service, and measure latency and rate
    Load(Box<LoadArgs>),
    /// Measure cost, rate and latency of likes and reads on servers of its own
    Bench(Box<BenchArgs>),
    /// Import existing likes from a file or a table while services run
    Import(Box<import::ImportArgs>),
    /// Wait for open ledger rows, then check the guarantees on the data
    Verify(verify::VerifyArgs),
    /// Compare behaviors, ledger, read models, counts and cache of a running service, and repair them
    Audit(audit::AuditArgs),
    /// Rebuild read models, counts and cache of a running service from the behaviors
    Rebuild(rebuild::RebuildArgs),
    /// Delete completed ledger rows and behaviors by age
    Prune(prune::PruneArgs),
    /// Show the actors of a running service, and pause, resume or restart one
    Actors(Box<actors::ActorsArgs>),
    /// Watch a running service in the terminal: throughput, ledger, dependencies, actors
    Top(top::TopArgs),
    /// Inspect events, and retry, discard or republish failed ones
    #[command(
        subcommand,
        after_help = "Exit codes: 0 done, and a job completed; 1 it failed, was cancelled, or was not confirmed; 2 wrong arguments."
    )]
    Events(events::EventsCommand),
    /// Void the likes of a user, restore them, or erase the user
    #[command(subcommand)]
    Users(users::UsersCommand),
    /// Compare the NATS stream with the settings, and apply them
    #[command(subcommand)]
    Stream(stream::StreamCommand),
    /// Erase resources
    #[command(subcommand)]
    Resources(erase::ResourcesCommand),
    /// List receivers of webhooks and dead letters, and retry or discard these
    #[command(subcommand)]
    Webhooks(webhooks::WebhooksCommand),
    /// Show the identity of the deployment, and start a new generation after restoring a backup
    #[command(subcommand)]
    Deployment(deployment::DeploymentCommand),
    /// Create tokens for services
    #[command(subcommand)]
    Token(token::TokenCommand),
}

/// The error of a subcommand.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Cache(#[from] CacheError),
    #[error(transparent)]
    Broker(#[from] NatsError),
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Admin(#[from] AdminError),
    #[error(transparent)]
    Load(#[from] Box<LoadError>),
    #[error(transparent)]
    Bench(#[from] Box<BenchError>),
    #[error(transparent)]
    BenchTool(#[from] bench::ToolError),
    #[error(transparent)]
    Service(#[from] service::ServiceError),
    #[error(transparent)]
    Unconfirmed(#[from] operator::Unconfirmed),
    #[error(
        "no process of the deployment has an id that begins with '{0}'; `likewise actors --scope cluster` lists them"
    )]
    NoProcess(String),
    #[error("several processes have ids that begin with '{0}'; give more of the id")]
    Processes(String),
    #[error("this needs a terminal; `likewise actors --json` prints what it shows")]
    NoTerminal,
    #[error("{0} {1}")]
    Id(&'static str, InvalidId),
    #[error("a resource_type of the journal: {0}")]
    ResourceType(UnknownWord),
    #[error("cannot create a token: the system has no randomness")]
    NoRandomness,
    #[error("cannot write to standard output: {0}")]
    Output(#[from] std::io::Error),
}

impl Cli {
    /// Parses the arguments of this process. Ends it with a message if they are wrong.
    #[must_use]
    pub fn from_arguments() -> Self {
        let matches = Self::command().get_matches();
        let mut cli = Self::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
        let mut level = Some(&matches);
        while let Some(matches) = level {
            cli.flags.extend(given_as_flags(matches));
            level = matches.subcommand().map(|(_, matches)| matches);
        }
        cli
    }

    /// Returns how the log is written.
    #[must_use]
    pub fn log_format(&self) -> LogFormat {
        self.settings.log_format_at_start(Path::new(FILE))
    }

    /// Runs the subcommand. Prints an error to standard error, with exit code 1.
    #[must_use]
    pub fn run(self) -> ExitCode {
        let format = self.log_format();
        actix::System::new()
            .block_on(self.dispatch())
            .unwrap_or_else(|failure| {
                write_failure(format, &failure);
                ExitCode::FAILURE
            })
    }

    async fn dispatch(self) -> Result<ExitCode, Failure> {
        let given = self.settings.with_secrets_from_environment();
        let flags = self.flags;
        let settings = || {
            PartialConfig::check_environment()?;
            given.clone().load(Path::new(FILE))
        };
        match self.command.unwrap_or(Command::Serve) {
            Command::Serve => serve::run(settings()?).await,
            Command::Migrate => migrate::run(settings()?).await,
            Command::Config(arguments) => config::run(given.clone(), &flags, &arguments).await,
            Command::Load(arguments) => Ok(load::run(*arguments).await.map_err(Box::new)?),
            Command::Bench(arguments) => bench::run(*arguments, settings).await,
            Command::Actors(arguments) => actors::run(&settings()?, *arguments),
            Command::Top(arguments) => top::run(&settings()?, &arguments).await,
            Command::Events(command) => events::run(settings()?, command).await,
            Command::Audit(arguments) => audit::run(settings()?, arguments).await,
            Command::Import(arguments) => import::run(settings()?, *arguments).await,
            Command::Rebuild(arguments) => rebuild::run(settings()?, arguments).await,
            Command::Prune(arguments) => prune::run(settings()?, arguments).await,
            Command::Users(command) => users::run(settings()?, command).await,
            Command::Stream(command) => stream::run(settings()?, command).await,
            Command::Resources(command) => erase::resource(settings()?, command).await,
            Command::Webhooks(webhooks::WebhooksCommand::Secret) => {
                webhooks::secret().map(|()| ExitCode::SUCCESS)
            }
            Command::Webhooks(command) => webhooks::run(settings()?, command).await,
            Command::Deployment(command) => deployment::run(settings()?, command).await,
            Command::Token(command) => token::run(&command),
            Command::Verify(arguments) => verify::run(settings()?, arguments).await,
        }
    }
}

/// The ids of the arguments that the command line gives.
fn given_as_flags(matches: &ArgMatches) -> impl Iterator<Item = String> {
    matches
        .ids()
        .map(clap::Id::as_str)
        .filter(|id| matches.try_contains_id(id).is_ok())
        .filter(|id| matches.value_source(id) == Some(ValueSource::CommandLine))
        .map(str::to_owned)
}
