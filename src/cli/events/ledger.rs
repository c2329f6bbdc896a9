//! `likewise events summary`, `search` and `show`.

use std::io::Write;
use std::process::ExitCode;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{Failure, print_json, print_line, uuid};
use crate::admin::{AdminService, Moment, Shows};
use crate::cli::output::table;
use crate::domain::{IdKinds, ResourceType, Status};
use crate::store::LedgerFilter;

/// Arguments of `likewise events summary`.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct SummaryArgs {
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

/// A filter for ledger rows.
#[derive(Debug, Default, clap::Args)]
pub(super) struct FilterArgs {
    /// pending, processing, completed, failed or dead
    #[arg(long)]
    status: Option<Status>,
    /// A resource type, such as video
    #[arg(long, value_name = "TYPE", value_parser = ResourceType::declare)]
    resource_type: Option<ResourceType>,
    /// The resource's id
    #[arg(long, value_name = "ID")]
    resource: Option<String>,
    /// The user's id
    #[arg(long, value_name = "ID")]
    user: Option<String>,
    /// Recorded at this moment or later (2026-11-24T08:00:00Z)
    #[arg(long, value_name = "TIME")]
    since: Option<DateTime<Utc>>,
    /// Recorded before this moment
    #[arg(long, value_name = "TIME")]
    until: Option<DateTime<Utc>>,
    /// A part of the error message
    #[arg(long, value_name = "TEXT")]
    error: Option<String>,
}

impl FilterArgs {
    /// Returns the filter, for ids of these kinds.
    ///
    /// # Errors
    /// If an id is of another kind.
    pub(super) fn filter(self, kinds: IdKinds) -> Result<LedgerFilter, Failure> {
        let resource_id = self.resource.map(|id| kinds.resources.parse(&id));
        let user_id = self.user.map(|id| kinds.users.parse(&id));
        let invalid = |flag: &'static str| move |error| Failure::Id(flag, error);
        Ok(LedgerFilter {
            status: self.status,
            resource_type: self.resource_type,
            resource_id: resource_id.transpose().map_err(invalid("--resource"))?,
            user_id: user_id.transpose().map_err(invalid("--user"))?,
            since: self.since,
            until: self.until,
            error: self.error,
        })
    }
}

/// Arguments of `likewise events search`.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct SearchArgs {
    #[command(flatten)]
    filter: FilterArgs,
    /// The most rows to list
    #[arg(long, value_name = "ROWS", default_value_t = 20)]
    limit: usize,
    /// Print a JSON array instead of a table
    #[arg(long)]
    json: bool,
}

/// Arguments of `likewise events show`.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct ShowArgs {
    /// The event's id
    #[arg(value_parser = uuid)]
    event_id: Uuid,
    /// Print one JSON object instead
    #[arg(long)]
    json: bool,
}

/// The most pages that a search reads to find rows that match.
const MOST_PAGES: usize = 100;

/// The most characters of an error that the table shows.
const SHOWN: usize = 60;

pub(super) async fn summary(
    admin: &AdminService,
    arguments: &SummaryArgs,
) -> Result<ExitCode, Failure> {
    let health = admin.ledger_health().await?;
    if arguments.json {
        print_json(&health)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut out = std::io::stdout().lock();
    let mut table = table(["status", "rows"], &[1]);
    for status in Status::ALL {
        let rows = health.rows.get(&status).copied().unwrap_or_default();
        let rows = match status == Status::Completed && health.completed_is_estimate {
            true => format!("about {rows}"),
            false => rows.to_string(),
        };
        table.add_row([status.as_str().to_owned(), rows]);
    }
    writeln!(out, "{table}")?;
    match health.oldest_open_at {
        Some(at) => writeln!(
            out,
            "{} rows are due; the oldest open row was recorded at {}",
            health.due,
            at.format("%F %T")
        )?,
        None => writeln!(out, "no row is open")?,
    }
    for error in &health.errors {
        writeln!(out, "{:>8}  {}", error.rows, error.error_message)?;
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn search(
    admin: &AdminService,
    arguments: SearchArgs,
) -> Result<ExitCode, Failure> {
    let filter = arguments
        .filter
        .filter(admin.dependencies.store.id_kinds())?;
    // A page may end before it is full if no index finds the rows that match.
    let mut events = Vec::new();
    let mut after = None;
    for _ in 0..MOST_PAGES {
        let left = arguments.limit - events.len();
        let page = admin.search(&filter, after.take(), left).await?;
        events.extend(page.entries);
        after = page.next;
        if after.is_none() || events.len() >= arguments.limit {
            break;
        }
    }
    // Standard output may be read by a program.
    if let Some((moment, _)) = after.filter(|_| events.len() < arguments.limit) {
        writeln!(
            std::io::stderr(),
            "searched the last {} rows, down to {}; search further back with --until, or name a status, a \
             user or a time",
            MOST_PAGES * 10_000,
            moment.format("%FT%TZ")
        )?;
    }
    if arguments.json {
        print_json(&events)?;
        return Ok(ExitCode::SUCCESS);
    }
    if events.is_empty() {
        print_line(format_args!("no ledger row matches"))?;
        return Ok(ExitCode::SUCCESS);
    }
    let header = [
        "recorded", "event", "user", "action", "resource", "status", "failed", "error",
    ];
    let mut table = table(header, &[]);
    for event in &events {
        let error = event.error_message.as_deref().unwrap_or_default();
        table.add_row([
            event.created_at.format("%F %T").to_string(),
            event.event_id.clone(),
            event.user_id.to_string(),
            event.action.clone(),
            format!("{} {}", event.resource_type, event.resource_id),
            event.status.clone(),
            event.retry_count.to_string(),
            error.chars().take(SHOWN).collect(),
        ]);
    }
    print_line(format_args!("{table}"))?;
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn show(admin: &AdminService, arguments: &ShowArgs) -> Result<ExitCode, Failure> {
    let timeline = admin.timeline(arguments.event_id).await?;
    if arguments.json {
        print_json(&timeline)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut out = std::io::stdout().lock();
    if let Some(ledger) = &timeline.ledger {
        writeln!(
            out,
            "{} of {} {} by user {}: {}",
            ledger.action, ledger.resource_type, ledger.resource_id, ledger.user_id, ledger.status
        )?;
    }
    if let Some(trace_id) = &timeline.trace_id {
        writeln!(out, "trace {trace_id}")?;
    }
    for moment in &timeline.timeline {
        let at = moment
            .at
            .map_or_else(String::new, |at| at.format("%F %T%.6f").to_string());
        writeln!(out, "{at:26}  {:9}  {}", moment.step, details(moment))?;
    }
    if let Some(ledger) = &timeline.ledger
        && let Some(due) = ledger.next_attempt_at
    {
        writeln!(out, "{:26}  due", due.format("%F %T%.6f").to_string())?;
    }
    if let Some(read_model) = &timeline.read_model {
        let liked = if read_model.liked {
            "liked"
        } else {
            "not liked"
        };
        let by = match read_model.shows {
            Shows::This => "by this event",
            Shows::Newer => "by a newer event",
            Shows::Older => "by an older event: this one has had no effect yet",
        };
        writeln!(out, "now {liked}, {by}")?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The details of a step.
fn details(moment: &Moment) -> String {
    let details = [
        moment.source.as_ref().map(|source| format!("by {source}")),
        moment
            .stream_sequence
            .map(|sequence| format!("stream sequence {sequence}")),
        moment.attempt.map(|attempt| format!("attempt {attempt}")),
        moment.operator.as_ref().map(|name| format!("by {name}")),
        moment.error_message.clone(),
    ];
    details.into_iter().flatten().collect::<Vec<_>>().join(", ")
}
