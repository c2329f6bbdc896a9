//! `likewise webhooks`: lists the receivers of webhooks and their dead letters, retries or discards these, and makes
//! secrets.

use std::process::ExitCode;

use clap::Subcommand;

use super::Failure;
use super::events::jobs::{count, exit_of, print_error, run_confirmed};
use super::events::{admin, print_json, print_line};
use super::operator::operator;
use super::output::table;
use crate::admin::{AdminService, Counted, JobRequest};
use crate::config::Settings;
use crate::domain::JobKind;
use crate::store::{DeadLetterAction, DeadLetterFilter};
use crate::webhooks::new_secret;

/// Arguments of `likewise webhooks`.
#[derive(Debug, Subcommand)]
pub(super) enum WebhooksCommand {
    /// List the receivers, with how many facts wait for each
    List(ListArgs),
    /// List dead letters, oldest first
    Dead(DeadArgs),
    /// Send dead letters again, with all their attempts
    Retry(WhichArgs),
    /// Delete dead letters: their receiver never gets these facts
    Discard(WhichArgs),
    /// Print a new secret for LIKEWISE_WEBHOOK_SECRET
    Secret,
}

#[derive(Debug, clap::Args)]
pub(super) struct ListArgs {
    /// Print a JSON array instead
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct DeadArgs {
    /// Only those of this receiver
    #[arg(long, value_name = "URL")]
    receiver: Option<String>,
    /// The most dead letters to list
    #[arg(long, value_name = "FACTS", default_value_t = 100)]
    limit: usize,
    /// Print a JSON array instead
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct WhichArgs {
    #[command(flatten)]
    which: Which,
    /// Only count them
    #[arg(long, conflicts_with = "ids")]
    dry_run: bool,
    /// Do not ask for confirmation
    #[arg(long)]
    yes: bool,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Which {
    /// The ids of dead letters
    #[arg(value_name = "ID")]
    ids: Vec<i64>,
    /// Those of this receiver
    #[arg(long, value_name = "URL")]
    receiver: Option<String>,
    /// All of them
    #[arg(long)]
    all: bool,
}

pub(super) async fn run(settings: Settings, command: WebhooksCommand) -> Result<ExitCode, Failure> {
    let admin = admin(&settings).await?;
    match command {
        WebhooksCommand::List(arguments) => list(&admin, &arguments).await?,
        WebhooksCommand::Dead(arguments) => dead(&admin, arguments).await?,
        WebhooksCommand::Retry(arguments) => {
            return resolve(&admin, DeadLetterAction::Retry, arguments).await;
        }
        WebhooksCommand::Discard(arguments) => {
            return resolve(&admin, DeadLetterAction::Discard, arguments).await;
        }
        WebhooksCommand::Secret => secret()?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints a new secret.
pub(super) fn secret() -> Result<(), Failure> {
    let secret = new_secret().ok_or(Failure::NoRandomness)?;
    print_line(format_args!("{secret}"))
}

async fn list(admin: &AdminService, arguments: &ListArgs) -> Result<(), Failure> {
    let receivers = admin.webhooks().await?;
    if arguments.json {
        return print_json(&receivers);
    }
    if receivers.is_empty() {
        return print_line(format_args!(
            "no webhook is configured (LIKEWISE_WEBHOOK_URLS), and no fact waits for one"
        ));
    }
    let header = ["receiver", "waiting", "dead", "oldest", "configured"];
    let mut table = table(header, &[1, 2]);
    for receiver in &receivers {
        let oldest = receiver.oldest_at.map(|at| at.format("%F %T").to_string());
        table.add_row([
            receiver.receiver.clone(),
            receiver.waiting.to_string(),
            receiver.dead.to_string(),
            oldest.unwrap_or_default(),
            if receiver.configured { "yes" } else { "no" }.to_owned(),
        ]);
    }
    print_line(format_args!("{table}"))
}

async fn dead(admin: &AdminService, arguments: DeadArgs) -> Result<(), Failure> {
    let filter = DeadLetterFilter {
        receiver: arguments.receiver,
        ..DeadLetterFilter::default()
    };
    let letters = admin.dead_webhooks(&filter, 0, arguments.limit).await?;
    if arguments.json {
        return print_json(&letters);
    }
    if letters.is_empty() {
        return print_line(format_args!("there are no dead letters"));
    }
    let header = [
        "id",
        "dead since",
        "receiver",
        "fact",
        "user",
        "resource",
        "attempts",
        "last error",
    ];
    let mut table = table(header, &[0, 6]);
    for letter in &letters {
        table.add_row([
            letter.id.to_string(),
            letter.dead_at.format("%F %T").to_string(),
            letter.receiver.clone(),
            letter.fact.to_string(),
            letter.user_id.to_string(),
            format!("{} {}", letter.resource_type, letter.resource_id),
            letter.attempts.to_string(),
            letter.last_error.clone().unwrap_or_default(),
        ]);
    }
    print_line(format_args!("{table}"))
}

/// Retries or discards the dead letters with these ids; or counts those that match, asks for a confirmation, and changes
/// them in a job.
async fn resolve(
    admin: &AdminService,
    action: DeadLetterAction,
    arguments: WhichArgs,
) -> Result<ExitCode, Failure> {
    let Which { ids, receiver, .. } = arguments.which;
    let (kind, verb, done) = match action {
        DeadLetterAction::Retry => (JobKind::RetryWebhooks, "send", "sent again"),
        DeadLetterAction::Discard => (JobKind::DiscardWebhooks, "delete", "deleted"),
    };
    if !ids.is_empty() {
        let operator = operator();
        let changed = admin.resolve_dead_webhooks(action, &ids, &operator).await?;
        print_line(format_args!("{changed} dead letters are {done}"))?;
        return Ok(ExitCode::SUCCESS);
    }
    let request = JobRequest {
        dead_letters: Some(DeadLetterFilter {
            receiver,
            ..DeadLetterFilter::default()
        }),
        ..JobRequest::new(kind)
    };
    let Counted { total, .. } = count(admin, &request).await?;
    print_line(format_args!("{total} dead letters match"))?;
    if arguments.dry_run || total == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    let words = (verb, "dead letters");
    let Some(job) = run_confirmed(admin, request, words, arguments.yes).await? else {
        return Ok(ExitCode::FAILURE);
    };
    print_line(format_args!(
        "job {} is {}: {} dead letters are {done}",
        job.id,
        job.state.as_str(),
        job.changed
    ))?;
    print_error(&job)?;
    Ok(exit_of(&job))
}
