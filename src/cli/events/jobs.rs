//! `likewise events retry`, `discard` and `jobs`.

use std::io::{Write, stderr};
use std::process::ExitCode;
use std::time::Duration;

use clap::Subcommand;
use uuid::Uuid;

use super::ledger::FilterArgs;
use super::{Failure, print_json, print_line, uuid};
use crate::admin::{AdminService, Counted, JobAnswer, JobExit, JobRequest, Progress, Runner};
use crate::cli::operator::{confirmed, operator};
use crate::cli::output::{progress_bar, show, table};
use crate::domain::{JobKind, JobState};
use crate::store::Job;

/// The arguments that `retry` and `discard` share.
#[derive(Debug, clap::Args)]
pub(super) struct RowsArgs {
    /// Event id; without it, a filter selects the rows
    #[arg(conflicts_with_all = ["FilterArgs", "dry_run"], value_parser = uuid)]
    event_id: Option<Uuid>,
    #[command(flatten)]
    filter: FilterArgs,
    /// Rows per second
    #[arg(long, value_name = "ROWS", default_value_t = 1_000)]
    per_second: u32,
    #[command(flatten)]
    job: AllArgs,
}

/// How a job on all that match is asked for.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(super) struct AllArgs {
    /// Only count what matches
    #[arg(long)]
    dry_run: bool,
    /// Do not ask for confirmation
    #[arg(long)]
    yes: bool,
    /// Print one JSON object instead: what one change made, what a dry run counted, or the job at its end
    #[arg(long)]
    pub(super) json: bool,
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
    /// Reason for the discard
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
        /// Only jobs of this kind, such as retry or audit
        #[arg(long)]
        kind: Option<JobKind>,
        /// The most jobs to list
        #[arg(long, value_name = "JOBS", default_value_t = 20)]
        limit: usize,
    },
    /// Show one job
    Show {
        /// The job's id
        id: String,
    },
    /// Run a job unless a worker has claimed it, and show its progress until it ends
    Follow {
        /// The job's id
        id: String,
    },
    /// Cancel a job; it changes nothing more
    Cancel {
        /// The job's id
        id: String,
    },
}

pub(super) async fn retry(admin: &AdminService, arguments: RetryArgs) -> Result<ExitCode, Failure> {
    if let Some(event_id) = arguments.rows.event_id {
        let entry = admin.retry(event_id, &operator()).await?;
        match arguments.rows.job.json {
            true => print_json(&entry)?,
            false => print_line(format_args!("the next worker retries {}", entry.event_id))?,
        }
        return Ok(ExitCode::SUCCESS);
    }
    run_job(admin, JobKind::Retry, arguments.rows, None).await
}

pub(super) async fn discard(
    admin: &AdminService,
    arguments: DiscardArgs,
) -> Result<ExitCode, Failure> {
    let reason = arguments.reason;
    if let Some(event_id) = arguments.rows.event_id {
        let entry = admin.discard(event_id, &reason, &operator()).await?;
        match arguments.rows.job.json {
            true => print_json(&entry)?,
            false => print_line(format_args!("{} is {}", entry.event_id, entry.status))?,
        }
        return Ok(ExitCode::SUCCESS);
    }
    run_job(admin, JobKind::Discard, arguments.rows, Some(reason)).await
}

async fn run_job(
    admin: &AdminService,
    kind: JobKind,
    arguments: RowsArgs,
    reason: Option<String>,
) -> Result<ExitCode, Failure> {
    let kinds = admin.dependencies.store.id_kinds();
    let request = JobRequest {
        filter: Some(arguments.filter.filter(kinds)?),
        reason,
        per_second: Some(arguments.per_second),
        ..JobRequest::new(kind)
    };
    run_on_all(admin, request, kind.as_str(), arguments.job).await
}

/// Counts what the request matches, asks for a confirmation, and changes it in a job.
pub(super) async fn run_on_all(
    admin: &AdminService,
    request: JobRequest,
    verb: &str,
    arguments: AllArgs,
) -> Result<ExitCode, Failure> {
    let counted = count(admin, &request).await?;
    if arguments.json && (arguments.dry_run || counted.total == 0) {
        print_json(&counted)?;
        return Ok(ExitCode::SUCCESS);
    }
    let Counted { total, rows, .. } = counted;
    let of_each: Vec<_> = rows
        .iter()
        .map(|(status, rows)| format!("{rows} {status}"))
        .collect();
    let matching = format!("{total} rows match: {}", of_each.join(", "));
    // Standard output is for the job.
    match arguments.json {
        true => writeln!(stderr(), "{matching}")?,
        false => print_line(format_args!("{matching}"))?,
    }
    if arguments.dry_run || total == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    match run_confirmed(admin, request, (verb, "rows"), arguments.yes).await? {
        Some(job) => print_end(&job, arguments.json),
        None => Ok(ExitCode::FAILURE),
    }
}

/// Counts what the request matches.
pub(in crate::cli) async fn count(
    admin: &AdminService,
    request: &JobRequest,
) -> Result<Counted, Failure> {
    let dry_run = JobRequest {
        dry_run: true,
        ..request.clone()
    };
    match admin.request_job(dry_run, &operator()).await? {
        JobAnswer::Counted(counted) => Ok(counted),
        JobAnswer::Created(_) => unreachable!("a dry run creates no job"),
    }
}

/// Asks for a confirmation unless it is given, and runs a job on what the request matches to its end. Returns `None` if it
/// is declined. The words are what it does, and what it changes.
pub(in crate::cli) async fn run_confirmed(
    admin: &AdminService,
    request: JobRequest,
    (verb, changes): (&str, &'static str),
    is_confirmed: bool,
) -> Result<Option<Job>, Failure> {
    if !is_confirmed && !confirmed(&format!("{verb} them?"))? {
        return Ok(None);
    }
    let JobAnswer::Created(job) = admin.request_job(request, &operator()).await? else {
        unreachable!("only a dry run counts");
    };
    Ok(Some(run_to_end(admin, &job, changes).await?))
}

/// Prints how a job ended, and returns its exit code.
fn print_end(job: &Job, json: bool) -> Result<ExitCode, Failure> {
    if json {
        print_json(job)?;
    } else {
        print_line(format_args!(
            "job {} is {}: {} of {} rows passed, {} changed",
            job.id,
            job.state.as_str(),
            job.done,
            job.total.unwrap_or(job.done),
            job.changed
        ))?;
        print_error(job)?;
    }
    Ok(exit_of(job))
}

/// Prints why a job failed.
pub(in crate::cli) fn print_error(job: &Job) -> Result<(), Failure> {
    match &job.error_message {
        Some(error) => Ok(print_line(format_args!("{error}"))?),
        None => Ok(()),
    }
}

/// Returns the exit code of a job: that of a failure unless it completed.
pub(in crate::cli) fn exit_of(job: &Job) -> ExitCode {
    match job.state {
        JobState::Completed => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

/// Runs the job here unless a worker has claimed it, with its progress, and returns it as it ended. `stage` names what it
/// changes.
pub(in crate::cli) async fn run_to_end(
    admin: &AdminService,
    job: &Job,
    stage: &'static str,
) -> Result<Job, Failure> {
    // Standard output may be read by a program.
    writeln!(
        stderr(),
        "job {}: Ctrl-C leaves it to a worker, `likewise events jobs cancel` cancels it",
        job.id
    )?;
    follow(admin, &job.id, stage).await?;
    Ok(admin.job(&job.id).await?)
}

/// Runs the job here unless a worker has claimed it, and shows its progress until it ends.
pub(in crate::cli) async fn follow(
    admin: &AdminService,
    job_id: &str,
    stage: &'static str,
) -> Result<(), Failure> {
    const LOOK_EVERY: Duration = Duration::from_millis(250);
    let bar = progress_bar();
    let runner = Runner::hurried(admin.clone());
    loop {
        let exit = runner
            .run_next(Some(job_id), &mut |progress| show(&bar, progress))
            .await?;
        if exit == Some(JobExit::Finished) {
            break;
        }
        let now = admin.job(job_id).await?;
        show(
            &bar,
            Progress {
                stage,
                done: now.done.unsigned_abs(),
                total: now.total.unwrap_or_default().unsigned_abs(),
            },
        );
        if !now.state.is_open() {
            break;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    bar.finish_and_clear();
    Ok(())
}

pub(super) async fn jobs(admin: &AdminService, arguments: JobsArgs) -> Result<ExitCode, Failure> {
    let all = JobsCommand::List {
        kind: None,
        limit: 20,
    };
    let (jobs, one) = match arguments.command.unwrap_or(all) {
        JobsCommand::List { kind, limit } => (admin.jobs(kind, limit).await?, false),
        JobsCommand::Follow { id } => {
            let job = admin.job(&id).await?;
            follow(admin, &job.id, "rows").await?;
            return print_end(&admin.job(&job.id).await?, arguments.json);
        }
        JobsCommand::Show { id } => (vec![admin.job(&id).await?], true),
        JobsCommand::Cancel { id } => (vec![admin.cancel_job(&id, &operator()).await?], true),
    };
    match (arguments.json, jobs.first()) {
        (true, Some(job)) if one => print_json(job)?,
        (true, _) => print_json(&jobs)?,
        (false, _) => print(&jobs)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn print(jobs: &[Job]) -> Result<(), Failure> {
    if jobs.is_empty() {
        return print_line(format_args!("there are no jobs"));
    }
    let header = [
        "made", "job", "kind", "state", "done", "of", "changed", "for", "error",
    ];
    let mut table = table(header, &[4, 5, 6]);
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
    print_line(format_args!("{table}"))
}
