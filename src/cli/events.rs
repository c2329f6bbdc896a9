//! `likewise events`: what became of messages from the stream.

use std::io::Write;
use std::process::ExitCode;

use clap::Subcommand;
use comfy_table::{Table, presets};
use serde::Serialize;

use super::Failure;
use crate::config::Settings;
use crate::store::{self, QuarantinedEvent};

/// Arguments of `likewise events`.
#[derive(Debug, Subcommand)]
pub(super) enum EventsCommand {
    /// List the messages that are no events, newest first, with the reason
    Quarantine {
        /// The most messages to list
        #[arg(long, value_name = "MESSAGES", default_value_t = 20)]
        limit: usize,
        /// Print a JSON array instead, with the payloads in full
        #[arg(long)]
        json: bool,
    },
}

#[derive(Serialize)]
struct Row<'a> {
    id: uuid::Uuid,
    stream_sequence: i64,
    subject: &'a str,
    message_id: Option<&'a str>,
    reason: &'a str,
    created_at: chrono::DateTime<chrono::Utc>,
    /// The payload as text, with what is no UTF-8 replaced.
    payload: String,
    /// The payload's bytes in hexadecimal.
    payload_hex: String,
}

/// How much of a payload the table shows, in characters.
const SHOWN: usize = 60;

pub(super) async fn run(settings: Settings, command: EventsCommand) -> Result<ExitCode, Failure> {
    let EventsCommand::Quarantine { limit, json } = command;
    let store = store::connect(&settings.store).await?;
    let events = store.quarantined(limit).await?;
    let mut out = std::io::stdout().lock();
    if json {
        let rows: Vec<_> = events.iter().map(row).collect();
        serde_json::to_writer_pretty(&mut out, &rows).map_err(std::io::Error::from)?;
        writeln!(out)?;
        return Ok(ExitCode::SUCCESS);
    }
    if events.is_empty() {
        writeln!(out, "no message is in quarantine")?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new();
    table.load_preset(presets::UTF8_FULL_CONDENSED);
    table.set_header(["at", "sequence", "subject", "reason", "payload"]);
    for event in &events {
        let payload = String::from_utf8_lossy(&event.payload);
        let mut shown: String = payload.chars().take(SHOWN).collect();
        if shown.len() < payload.len() {
            shown.push('…');
        }
        table.add_row([
            event.created_at.format("%F %T").to_string(),
            event.stream_sequence.to_string(),
            event.subject.clone(),
            event.reason.clone(),
            shown.escape_debug().to_string(),
        ]);
    }
    writeln!(out, "{table}")?;
    Ok(ExitCode::SUCCESS)
}

fn row(event: &QuarantinedEvent) -> Row<'_> {
    Row {
        id: event.id,
        stream_sequence: event.stream_sequence,
        subject: &event.subject,
        message_id: event.message_id.as_deref(),
        reason: &event.reason,
        created_at: event.created_at,
        payload: String::from_utf8_lossy(&event.payload).into_owned(),
        payload_hex: hex::encode(&event.payload),
    }
}
