//! `likewise actors`: shows the actors of a running service, or of its whole deployment, and pauses, resumes or restarts one.
//! Asks the service over HTTP: only it knows its actors.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Subcommand, ValueEnum};
use serde_json::Value;

use super::Failure;
use super::events::{print_json, print_line};
use super::format::{
    MESSAGE_COLUMNS, duration, facts, level, message_rows, millis, oldest, runs_now, waits_for,
    whole,
};
use super::operator::confirmed;
use super::output::table;
use super::reports::{ActorReport, ActorState, DeploymentReport, ProcessReport};
use super::service::{Service, ServiceArgs, ServiceError, encoded};
use crate::config::Settings;

/// The longest wait for an answer. Another process answers a command within five seconds, or not at all.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Arguments of `likewise actors`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct ActorsArgs {
    #[command(subcommand)]
    command: Option<ActorsCommand>,
    #[command(flatten)]
    show: ShowArgs,
}

#[derive(Debug, clap::Args)]
struct ShowArgs {
    /// Actor to show in full; without it, a table of all
    name: Option<String>,
    /// Whose actors: those of the process that answers, or of every process of the deployment
    #[arg(long, value_enum, default_value_t)]
    scope: Scope,
    /// Id of a process of the deployment, or its beginning: only its actors
    #[arg(long, value_name = "ID")]
    process: Option<String>,
    /// Print the JSON of the API instead
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    service: ServiceArgs,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Scope {
    #[default]
    Process,
    Cluster,
}

#[derive(Debug, Subcommand)]
enum ActorsCommand {
    /// Pause an actor: its messages stay queued, and requests that need it get 503
    Pause(OperateArgs),
    /// Resume a paused actor
    Resume(OperateArgs),
    /// Restart an actor as after a panic: its messages stay
    Restart(OperateArgs),
}

#[derive(Debug, clap::Args)]
struct OperateArgs {
    /// The actor's name
    name: String,
    /// Id of the process that has the actor, or its beginning; by default the process that answers
    #[arg(long, value_name = "ID")]
    process: Option<String>,
    /// Do not ask for confirmation
    #[arg(long)]
    yes: bool,
    /// Print the JSON of the actor instead
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    service: ServiceArgs,
}

pub(super) fn run(settings: &Settings, arguments: ActorsArgs) -> Result<ExitCode, Failure> {
    match arguments.command {
        None => show(settings, &arguments.show)?,
        Some(command) => return operate(settings, command),
    }
    Ok(ExitCode::SUCCESS)
}

fn show(settings: &Settings, arguments: &ShowArgs) -> Result<(), Failure> {
    let service = Service::new(settings, &arguments.service, TIMEOUT)?;
    let name = arguments.name.as_deref().map(encoded);
    let path = name.map_or_else(String::new, |name| format!("/{name}"));
    let is_whole = arguments.scope == Scope::Cluster || arguments.process.is_some();
    if arguments.json && !is_whole {
        let answer: Value = service.get(&format!("/admin/actors{path}"))?;
        return print_json(&answer);
    }
    let mut answer: Value = service.get(&format!("/admin/actors{path}?scope=cluster"))?;
    // Without a scope, the answer names the process all the same.
    keep(&mut answer, |process| {
        is_whole || process["is_this"] == true
    });
    if let Some(wanted) = &arguments.process {
        let id = id_of(&answer, wanted)?;
        keep(&mut answer, |process| process["id"] == id.as_str());
    }
    if arguments.json {
        return print_json(&answer);
    }
    let DeploymentReport {
        note, processes, ..
    } = serde_json::from_value(answer).map_err(|error| ServiceError::Strange {
        url: service.url().clone(),
        status: 200,
        reason: error.to_string(),
    })?;
    for process in &processes {
        print(process, arguments.name.is_some())?;
    }
    match note.filter(|_| is_whole) {
        Some(note) => print_line(format_args!("{note}")),
        None => Ok(()),
    }
}

/// Removes the processes from an answer that are not to be kept.
fn keep(answer: &mut Value, is_kept: impl Fn(&Value) -> bool) {
    if let Some(processes) = answer["processes"].as_array_mut() {
        processes.retain(is_kept);
    }
}

/// Returns the id of the process whose id begins like this.
fn id_of(deployment: &Value, wanted: &str) -> Result<String, Failure> {
    let processes = deployment["processes"].as_array();
    let ids = processes.into_iter().flatten();
    let ids = ids.filter_map(|process| process["id"].as_str());
    let mut found = ids.filter(|id| id.starts_with(wanted));
    match (found.next(), found.next()) {
        (Some(id), None) => Ok(id.to_owned()),
        (None, _) => Err(Failure::NoProcess(wanted.to_owned())),
        (Some(_), Some(_)) => Err(Failure::Processes(wanted.to_owned())),
    }
}

fn print(process: &ProcessReport, in_full: bool) -> Result<(), Failure> {
    if in_full {
        return process
            .report
            .actors
            .iter()
            .try_for_each(|actor| print_actor(process, actor));
    }
    let up = duration(process.report.uptime_seconds * 1e3);
    print_line(format_args!(
        "{}, version {}, up {up}, reported {} ago, id {}",
        process.title(),
        process.version,
        millis(process.age_ms),
        process.id
    ))?;
    let header = [
        "actor",
        "state",
        "for",
        "mailbox",
        "oldest",
        "processed",
        "errors",
        "restarts",
        "p99",
        "runs now",
        "waits for",
    ];
    let mut table = table(header, &[2, 4, 5, 6, 7, 8]);
    for actor in &process.report.actors {
        let in_state = actor.in_state(process.report.captured_at);
        let is_off = actor.state == ActorState::Disabled;
        let unless_off = |text: String| if is_off { String::new() } else { text };
        table.add_row([
            actor.name.clone(),
            actor.state.as_str().to_owned(),
            unless_off(millis(in_state.num_milliseconds().unsigned_abs())),
            unless_off(level(actor.mailbox)),
            oldest(actor.mailbox),
            unless_off(whole(actor.processed)),
            unless_off(whole(actor.errors)),
            unless_off(whole(actor.restarts)),
            unless_off(duration(actor.slowest_p99())),
            runs_now(actor),
            waits_for(actor),
        ]);
    }
    print_line(format_args!("{table}"))?;
    for actor in &process.report.actors {
        if let Some(reason) = &actor.reason {
            let state = actor.state.as_str();
            print_line(format_args!("{} is {state}: {reason}", actor.name))?;
        }
    }
    Ok(())
}

fn print_actor(process: &ProcessReport, actor: &ActorReport) -> Result<(), Failure> {
    print_line(format_args!("{}", actor.name))?;
    for (name, value) in facts(process, actor) {
        print_line(format_args!("  {name:12}  {value}"))?;
    }
    if actor.messages.is_empty() {
        return Ok(());
    }
    let mut table = table(MESSAGE_COLUMNS, &[1, 2, 3, 4, 5, 6]);
    table.add_rows(message_rows(actor));
    print_line(format_args!("{table}"))
}

fn operate(settings: &Settings, command: ActorsCommand) -> Result<ExitCode, Failure> {
    let (action, effect, arguments) = match command {
        ActorsCommand::Pause(arguments) => (
            "pause",
            Some("its messages wait, and requests that need it get 503"),
            arguments,
        ),
        ActorsCommand::Resume(arguments) => ("resume", None, arguments),
        ActorsCommand::Restart(arguments) => (
            "restart",
            Some("its messages stay, and its schedule begins anew"),
            arguments,
        ),
    };
    let service = Service::new(settings, &arguments.service, TIMEOUT)?;
    let place = match &arguments.process {
        None => String::new(),
        Some(wanted) => {
            let deployment: Value = service.get("/admin/actors?scope=cluster")?;
            format!("?process={}", encoded(&id_of(&deployment, wanted)?))
        }
    };
    let name = &arguments.name;
    if let Some(effect) = effect.filter(|_| !arguments.yes)
        && !confirmed(&format!("{action} {name} ({effect})?"))?
    {
        return Ok(ExitCode::FAILURE);
    }
    let answer: Value =
        service.post(&format!("/admin/actors/{}/{action}{place}", encoded(name)))?;
    if arguments.json {
        print_json(&answer)?;
        return Ok(ExitCode::SUCCESS);
    }
    let state = answer["state"].as_str().unwrap_or_default();
    let reason = answer["reason"].as_str();
    let reason = reason.map_or_else(String::new, |reason| format!(": {reason}"));
    match action {
        "restart" => print_line(format_args!("{name} restarts"))?,
        _ => print_line(format_args!("{name} is {state}{reason}"))?,
    }
    Ok(ExitCode::SUCCESS)
}
