//! `likewise events quarantine`: lists, republishes and discards messages that could not be decoded.

use std::path::PathBuf;
use std::process::ExitCode;

use chrono::{DateTime, Utc};
use clap::Subcommand;
use uuid::Uuid;

use super::jobs::{AllArgs, run_on_all};
use super::{Failure, print_json, print_line, uuid};
use crate::admin::{AdminError, AdminService, JobRequest, QuarantinedMessage};
use crate::cli::operator::operator;
use crate::cli::output::table;
use crate::domain::JobKind;
use crate::store::QuarantineFilter;

/// Arguments of `likewise events quarantine`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(in crate::cli) struct QuarantineArgs {
    #[command(subcommand)]
    command: Option<QuarantineCommand>,
    #[command(flatten)]
    list: ListArgs,
}

#[derive(Debug, clap::Args)]
struct ListArgs {
    #[command(flatten)]
    filter: MessagesArgs,
    /// The most messages to list
    #[arg(long, value_name = "MESSAGES", default_value_t = 20)]
    limit: usize,
    /// Leave out republished and discarded messages
    #[arg(long)]
    open: bool,
    /// Only republished and discarded messages
    #[arg(long, conflicts_with = "open")]
    resolved: bool,
    /// Print a JSON array instead, with the payloads in full
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum QuarantineCommand {
    /// List the messages, newest first, with the reason (the default)
    List(ListArgs),
    /// Show one message with its payload in full, as JSON
    Show {
        /// The message's id
        #[arg(value_parser = uuid)]
        id: Uuid,
    },
    /// Publish messages again as events: one, or all unresolved ones that match
    Republish {
        #[command(flatten)]
        which: WhichArgs,
        /// A file with the repaired body of the message, a JSON object
        #[arg(long, value_name = "FILE", requires = "id")]
        payload: Option<PathBuf>,
    },
    /// Discard messages: one, or all unresolved ones that match; the database keeps them for the record
    Discard {
        #[command(flatten)]
        which: WhichArgs,
    },
}

/// A filter for messages.
#[derive(Debug, Default, clap::Args)]
struct MessagesArgs {
    /// A part of the reason
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// A part of the subject
    #[arg(long, value_name = "TEXT")]
    subject: Option<String>,
    /// Quarantined at this moment or later (2026-11-24T08:00:00Z)
    #[arg(long, value_name = "TIME")]
    since: Option<DateTime<Utc>>,
    /// Quarantined before this moment
    #[arg(long, value_name = "TIME")]
    until: Option<DateTime<Utc>>,
}

impl From<MessagesArgs> for QuarantineFilter {
    fn from(arguments: MessagesArgs) -> Self {
        Self {
            reason: arguments.reason,
            subject: arguments.subject,
            since: arguments.since,
            until: arguments.until,
        }
    }
}

#[derive(Debug, clap::Args)]
struct WhichArgs {
    /// The message's id; without it, a filter or --all selects messages
    #[arg(
        conflicts_with_all = ["reason", "subject", "since", "until", "all", "dry_run"],
        required_unless_present_any = ["reason", "subject", "since", "until", "all"],
        value_parser = uuid
    )]
    id: Option<Uuid>,
    #[command(flatten)]
    filter: MessagesArgs,
    /// All unresolved messages
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    job: AllArgs,
}

/// The most characters of a payload that the table shows.
const SHOWN: usize = 60;

pub(super) async fn run(
    admin: &AdminService,
    arguments: QuarantineArgs,
) -> Result<ExitCode, Failure> {
    let command = arguments
        .command
        .unwrap_or(QuarantineCommand::List(arguments.list));
    match command {
        QuarantineCommand::List(arguments) => list(admin, arguments).await?,
        QuarantineCommand::Show { id } => print_json(&admin.quarantined(id).await?)?,
        QuarantineCommand::Republish { which, payload } => {
            let Some(id) = which.id else {
                return on_all(admin, JobKind::Republish, which).await;
            };
            let mended = payload.map(|path| mended(&path)).transpose()?;
            let event_id = admin.republish(id, mended.as_ref(), &operator()).await?;
            match which.job.json {
                true => print_json(&serde_json::json!({ "event_id": event_id }))?,
                false => print_line(format_args!("published as event {event_id}"))?,
            }
        }
        QuarantineCommand::Discard { which } => {
            let Some(id) = which.id else {
                return on_all(admin, JobKind::DiscardMessages, which).await;
            };
            let discarded = admin.discard_quarantined(id, &operator()).await?;
            match which.job.json {
                true => print_json(&discarded)?,
                false => print_line(format_args!("{id} is discarded"))?,
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Counts the unresolved messages that match, asks for a confirmation, and resolves them in a job.
async fn on_all(
    admin: &AdminService,
    kind: JobKind,
    which: WhichArgs,
) -> Result<ExitCode, Failure> {
    let verb = match kind {
        JobKind::Republish => "republish",
        _ => "discard",
    };
    let request = JobRequest {
        messages: Some(which.filter.into()),
        ..JobRequest::new(kind)
    };
    run_on_all(admin, request, verb, which.job).await
}

fn mended(path: &std::path::Path) -> Result<serde_json::Value, Failure> {
    let wrong = |reason: String| {
        Failure::Admin(AdminError::Invalid(format!(
            "cannot read {}: {reason}",
            path.display()
        )))
    };
    let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))
}

async fn list(admin: &AdminService, arguments: ListArgs) -> Result<(), Failure> {
    let resolved = match (arguments.open, arguments.resolved) {
        (true, _) => Some(false),
        (_, true) => Some(true),
        (false, false) => None,
    };
    let filter = QuarantineFilter::from(arguments.filter);
    let messages = admin
        .quarantine(&filter, resolved, None, arguments.limit)
        .await?;
    if arguments.json {
        return print_json(&messages);
    }
    if messages.is_empty() {
        return print_line(format_args!("no message is in quarantine"));
    }
    let header = [
        "at", "id", "sequence", "subject", "reason", "payload", "now",
    ];
    let mut table = table(header, &[]);
    for message in &messages {
        table.add_row([
            message.created_at.format("%F %T").to_string(),
            message.id.to_string(),
            message.stream_sequence.to_string(),
            message.subject.clone(),
            message.reason.clone(),
            shown(message),
            message
                .resolution
                .clone()
                .unwrap_or_else(|| "open".to_owned()),
        ]);
    }
    print_line(format_args!("{table}"))
}

fn shown(message: &QuarantinedMessage) -> String {
    let mut shown: String = message.payload.chars().take(SHOWN).collect();
    if shown.len() < message.payload.len() {
        shown.push('…');
    }
    shown.escape_debug().to_string()
}
