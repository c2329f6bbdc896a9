//! `likewise events retry`, `discard` and `jobs`.

use std::io::{IsTerminal, Write, stderr, stdin};
use std::process::ExitCode;

use clap::Subcommand;
use comfy_table::{CellAlignment, Table, presets};
use indicatif::{ProgressBar, ProgressStyle};

use super::ledger::FilterArgs;
use super::{EventId, Failure, operator, print_json};
use crate::admin::{AdminError, AdminService, Counted, JobAnswer, JobExit, JobRequest, Runner};
use crate::domain::JobKind;
use crate::store::{Job, LedgerFilter};

/// What `retry` and `discard` have in common.
#[derive(Debug, clap::Args)]
pub(super) struct RowsArgs {
    /// One event; without it, a filter says which
    event_id: Option<EventId>,
    #[command(flatten)]
    filter: FilterArgs,
    /// How many rows to pass in a second
    #[arg(long, value_name = "ROWS", default_value_t = 1_000)]
    per_second: u32,
    /// Only count the rows that would be taken
    #[arg(long)]
    dry_run: bool,
    /// Do not ask before it begins
    #[arg(long)]
    yes: bool,
}

/// Arguments of `likewise events retry`.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct RetryArgs {
    #[command(flatten)]
    rows: RowsArgs,
}

/// Arguments of `likewise events discard`.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct DiscardArgs {
    #[command(flatten)]
    rows: RowsArgs,
    /// Why
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

/// Arguments of `likewise events jobs`.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct JobsArgs {
    #[command(subcommand)]
    command: Option<JobsCommand>,
    /// Print JSON instead of a table
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum JobsCommand {
    /// List the last jobs, newest first (the default)
    List {
        /// The most jobs to list
        #[arg(long, value_name = "JOBS", default_value_t = 20)]
        limit: usize,
    },
    /// Show one job
    Show {
        /// The job's id
        id: String,
    },
    /// End a job: nothing more is changed by it
    Cancel {
        /// The job's id
        id: String,
    },
}

pub(super) async fn retry(admin: AdminService, arguments: RetryArgs) -> Result<ExitCode, Failure> {
    let operator = operator();
    if let Some(event_id) = arguments.rows.event_id {
        let entry = admin.retry(event_id, &operator).await?;
        let mut out = std::io::stdout().lock();
        writeln!(out, "{} is tried again by the next worker", entry.event_id)?;
        return Ok(ExitCode::SUCCESS);
    }
    all(admin, JobKind::Retry, arguments.rows, None).await
}

pub(super) async fn discard(
    admin: AdminService,
    arguments: DiscardArgs,
) -> Result<ExitCode, Failure> {
    let operator = operator();
    let reason = arguments.reason;
    if let Some(event_id) = arguments.rows.event_id {
        let entry = admin.discard(event_id, &reason, &operator).await?;
        let mut out = std::io::stdout().lock();
        writeln!(out, "{} is {}", entry.event_id, entry.status)?;
        return Ok(ExitCode::SUCCESS);
    }
    all(admin, JobKind::Discard, arguments.rows, Some(reason)).await
}

/// Everything that the filter matches: counted, asked about, and then done here, as a job.
async fn all(
    admin: AdminService,
    kind: JobKind,
    arguments: RowsArgs,
    reason: Option<String>,
) -> Result<ExitCode, Failure> {
    let operator = operator();
    let request = |dry_run, filter: &LedgerFilter| JobRequest {
        kind,
        filter: Some(filter.clone()),
        reason: reason.clone().filter(|_| kind == JobKind::Discard),
        per_second: Some(arguments.per_second),
        dry_run,
        repair: false,
        what: None,
        ledger_days: None,
        behaviors_days: None,
    };
    let filter = arguments.filter.filter();
    let counted = admin.request_job(request(true, &filter), &operator).await?;
    let JobAnswer::Counted(Counted { total, rows, .. }) = counted else {
        unreachable!("a dry run makes no job");
    };
    let of_each: Vec<_> = rows
        .iter()
        .map(|(status, rows)| format!("{rows} {status}"))
        .collect();
    let mut out = std::io::stdout().lock();
    writeln!(out, "{total} rows match: {}", of_each.join(", "))?;
    if arguments.dry_run || total == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    if !arguments.yes && !confirmed(kind)? {
        writeln!(out, "nothing was changed")?;
        return Ok(ExitCode::FAILURE);
    }
    let created = admin
        .request_job(request(false, &filter), &operator)
        .await?;
    let JobAnswer::Created(job) = created else {
        unreachable!("this is no dry run");
    };
    writeln!(
        out,
        "job {}: Ctrl-C leaves it to a worker, `likewise events jobs cancel` ends it",
        job.id
    )?;
    follow(&admin, &job).await?;
    let job = admin.job(&job.id).await?;
    writeln!(
        out,
        "job {} is {}: {} of {} rows passed, {} changed",
        job.id,
        job.state.as_str(),
        job.done,
        job.total.unwrap_or(job.done),
        job.changed
    )?;
    Ok(ExitCode::SUCCESS)
}

fn confirmed(kind: JobKind) -> Result<bool, Failure> {
    if !stdin().is_terminal() {
        return Err(Failure::Admin(AdminError::Invalid(
            "there is no terminal to ask on; say --yes".to_owned(),
        )));
    }
    let mut out = std::io::stdout().lock();
    write!(out, "{kind} them? [y/N] ")?;
    out.flush()?;
    let mut answer = String::new();
    stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// Runs the job here unless a worker was faster, and shows how far it is until it has ended.
async fn follow(admin: &AdminService, job: &Job) -> Result<(), Failure> {
    const LOOK_EVERY: std::time::Duration = std::time::Duration::from_millis(250);
    let bar = if stderr().is_terminal() {
        let style = ProgressStyle::with_template(
            "{wide_bar} {human_pos} of {human_len} rows · {per_sec} · {eta} left",
        )
        .expect("a constant template is valid");
        ProgressBar::new(job.total.unwrap_or(0).unsigned_abs()).with_style(style)
    } else {
        ProgressBar::hidden()
    };
    let runner = Runner::hurried(admin.clone());
    loop {
        let shown = bar.clone();
        let ended = runner
            .run_next(Some(&job.id), &mut |progress| {
                shown.set_position(progress.done);
            })
            .await?;
        if ended == Some(JobExit::Finished) {
            break;
        }
        let now = admin.job(&job.id).await?;
        bar.set_position(now.done.unsigned_abs());
        if !now.state.is_open() {
            break;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    bar.finish_and_clear();
    Ok(())
}

pub(super) async fn jobs(admin: &AdminService, arguments: JobsArgs) -> Result<ExitCode, Failure> {
    let command = arguments.command.unwrap_or(JobsCommand::List { limit: 20 });
    let (jobs, one) = match command {
        JobsCommand::List { limit } => (admin.jobs(None, limit).await?, false),
        JobsCommand::Show { id } => (vec![admin.job(&id).await?], true),
        JobsCommand::Cancel { id } => (vec![admin.cancel_job(&id).await?], true),
    };
    match (arguments.json, jobs.first()) {
        (true, Some(job)) if one => print_json(job)?,
        (true, _) => print_json(&jobs)?,
        (false, _) => print(&jobs)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn print(jobs: &[Job]) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    if jobs.is_empty() {
        writeln!(out, "there are no jobs")?;
        return Ok(());
    }
    let mut table = Table::new();
    table.load_preset(presets::UTF8_FULL_CONDENSED);
    table.set_header([
        "made", "job", "kind", "state", "done", "of", "changed", "for", "error",
    ]);
    for job in jobs {
        table.add_row([
            job.created_at.format("%F %T").to_string(),
            job.id.clone(),
            job.kind.to_string(),
            job.state.as_str().to_owned(),
            job.done.to_string(),
            job.total
                .map_or_else(String::new, |total| total.to_string()),
            job.changed.to_string(),
            job.requested_by.clone(),
            job.error_message.clone().unwrap_or_default(),
        ]);
    }
    for column in 4..=6 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    writeln!(out, "{table}")?;
    Ok(())
}
