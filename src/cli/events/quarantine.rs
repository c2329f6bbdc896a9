//! `likewise events quarantine`: lists, republishes and discards messages that could not be decoded.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;
use uuid::Uuid;

use super::{Failure, print_json, print_line};
use crate::admin::{AdminError, AdminService, QuarantinedMessage};
use crate::cli::operator::operator;
use crate::cli::output::table;
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
    /// The most messages to list
    #[arg(long, value_name = "MESSAGES", default_value_t = 20)]
    limit: usize,
    /// Leave out republished and discarded messages
    #[arg(long)]
    open: bool,
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
        id: Uuid,
    },
    /// Publish a message again as an event, with the body from a file if one is given
    Republish {
        /// The message's id
        id: Uuid,
        /// A file with the repaired body, a JSON object
        #[arg(long, value_name = "FILE")]
        payload: Option<PathBuf>,
    },
    /// Discard a message; the database keeps it for the record
    Discard {
        /// The message's id
        id: Uuid,
    },
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
        QuarantineCommand::List(arguments) => list(admin, &arguments).await?,
        QuarantineCommand::Show { id } => print_json(&admin.quarantined(id).await?)?,
        QuarantineCommand::Republish { id, payload } => {
            let mended = payload.map(|path| mended(&path)).transpose()?;
            let event_id = admin.republish(id, mended.as_ref(), &operator()).await?;
            print_line(format_args!("published as event {event_id}"))?;
        }
        QuarantineCommand::Discard { id } => {
            admin.discard_quarantined(id, &operator()).await?;
            print_line(format_args!("{id} is discarded"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
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

async fn list(admin: &AdminService, arguments: &ListArgs) -> Result<(), Failure> {
    let resolved = arguments.open.then_some(false);
    let messages = admin
        .quarantine(
            &QuarantineFilter::default(),
            resolved,
            None,
            arguments.limit,
        )
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
