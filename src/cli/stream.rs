//! `likewise stream`: compares the settings of the stream and its consumer with the configured ones, and applies
//! them.

use std::io::Write;
use std::process::ExitCode;

use chrono::{DateTime, Utc};

use super::Failure;
use super::dependencies::connect_broker;
use super::output::{table, write_json};
use crate::config::Settings;
use crate::domain::{CurrentDeployment, Deployment};
use crate::nats::{Applied, Broker, NatsError, Setting, Severity, StreamReport, StreamState};
use crate::store::{self, StoreError};

#[derive(Debug, clap::Subcommand)]
pub(super) enum StreamCommand {
    /// Show the stream's settings, configured and current side by side
    Show {
        /// Print one JSON object instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Change the stream and its consumer to the configured settings, or create them
    Apply {
        /// Print what would change, and change nothing
        #[arg(long)]
        dry_run: bool,
        /// Allow that fewer servers than now keep each message
        #[arg(long)]
        fewer_replicas: bool,
        /// Print one JSON object instead of text
        #[arg(long)]
        json: bool,
    },
}

pub(super) async fn run(settings: Settings, command: StreamCommand) -> Result<ExitCode, Failure> {
    let broker = connect(settings).await?;
    let mut out = std::io::stdout().lock();
    match command {
        StreamCommand::Show { json } => {
            let report = broker.inspect().await?;
            if json {
                write_json(&mut out, &report)?;
            } else {
                show(&mut out, &report)?;
            }
            Ok(ExitCode::SUCCESS)
        }
        StreamCommand::Apply {
            dry_run,
            fewer_replicas,
            json,
        } => {
            let applied = broker.apply(dry_run, fewer_replicas).await?;
            if json {
                write_json(&mut out, &applied)?;
            } else {
                print_applied(&mut out, &applied)?;
            }
            Ok(if applied.refusals.is_empty() {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            })
        }
    }
}

async fn connect(settings: Settings) -> Result<Broker, Failure> {
    let deployment = match deployment(&settings).await {
        Ok(deployment) => CurrentDeployment::from(deployment),
        Err(error) => {
            // Ignore a closed standard error.
            let _ = writeln!(
                std::io::stderr(),
                "likewise: the consumer is left out, because the database names it: {error}"
            );
            CurrentDeployment::default()
        }
    };
    let broker = connect_broker(&settings, deployment).await?;
    let (Some(broker), Some(options)) = (broker, settings.nats) else {
        return Err(NatsError::Unusable("LIKEWISE_NATS_URL is not set".to_owned()).into());
    };
    if !broker.is_connected() {
        let url = options.url_without_password();
        return Err(NatsError::Unavailable(format!("no connection to {url}")).into());
    }
    Ok(broker)
}

async fn deployment(settings: &Settings) -> Result<Deployment, StoreError> {
    store::connect(&settings.store).await?.deployment().await
}

fn show(out: &mut impl Write, report: &StreamReport) -> std::io::Result<()> {
    let mut table = table(
        ["of", "setting", "configured", "current", "difference"],
        &[],
    );
    for setting in &report.settings {
        table.add_row([
            setting.owner.as_str().to_owned(),
            setting.name.to_owned(),
            plain(&setting.configured),
            plain(&setting.current),
            setting.difference.map_or("", Severity::as_str).to_owned(),
        ]);
    }
    writeln!(out, "{table}")?;
    if let Some(holds) = &report.holds {
        let age = |at: Option<DateTime<Utc>>| match at {
            Some(at) => {
                let age = holds.described_at - at;
                format!(", the oldest {} s old", age.num_seconds())
            }
            None => String::new(),
        };
        writeln!(
            out,
            "stream {} holds {} messages, {} bytes{}; {} unacknowledged{}",
            report.stream,
            holds.messages,
            holds.bytes,
            age(holds.oldest_at),
            holds.unacknowledged,
            age(holds.oldest_unacknowledged_at)
        )?;
    }
    writeln!(
        out,
        "{}",
        match report.state {
            StreamState::Absent => {
                "the stream or its consumer is absent; the next process that starts creates it"
            }
            StreamState::AsConfigured => "every setting is as configured",
            StreamState::Differs => {
                "settings differ; `likewise stream apply` changes the stream to the configured ones"
            }
            StreamState::Misconfigured => {
                "acknowledged likes could be lost, so likes go to the database until `likewise stream \
                 apply` has changed it"
            }
        }
    )
}

fn print_applied(out: &mut impl Write, applied: &Applied) -> std::io::Result<()> {
    for change in &applied.changes {
        print_change(out, change)?;
    }
    if applied.creates {
        writeln!(out, "creates the stream or its consumer, which is absent")?;
    }
    if let Some(sequence) = applied.redelivers_from {
        writeln!(
            out,
            "redelivers from message {sequence}, because the consumer skipped messages; \
             events that arrive twice count once"
        )?;
    }
    for refusal in &applied.refusals {
        writeln!(out, "refused: {refusal}")?;
    }
    let nothing = applied.changes.is_empty() && !applied.creates;
    writeln!(
        out,
        "{}",
        match (applied.refusals.is_empty(), nothing, applied.dry_run) {
            (false, _, _) => "nothing was changed",
            (_, true, _) => "every setting is as configured; nothing was changed",
            (_, _, true) => "nothing was changed: this was a dry run",
            _ => "changed",
        }
    )
}

fn print_change(out: &mut impl Write, change: &Setting) -> std::io::Result<()> {
    writeln!(
        out,
        "{} {}: {} -> {}",
        change.owner.as_str(),
        change.name,
        plain(&change.current),
        plain(&change.configured)
    )
}

/// Formats a value for people.
fn plain(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::Null => "-".to_owned(),
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Array(items) => {
            let items: Vec<_> = items.iter().map(plain).collect();
            items.join(" ")
        }
        value => value.to_string(),
    }
}
