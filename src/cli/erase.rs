//! `likewise users erase` and `likewise resources erase`: erases a user or a resource, and waits for the proof. Thin: the
//! use case is in `admin/erasures.rs`.

use std::process::ExitCode;

use clap::Subcommand;

use super::Failure;
use super::events::jobs::follow;
use super::events::{admin, print_json, print_line};
use super::operator::operator;
use crate::admin::{AdminError, ErasureReport};
use crate::config::Settings;
use crate::domain::{DataSubject, JobState, Resource, ResourceType};

/// What the subcommands share.
#[derive(Debug, clap::Args)]
pub(super) struct EraseArgs {
    /// Erase without asking; it cannot be undone
    #[arg(long)]
    yes: bool,
    /// Print the proof as JSON
    #[arg(long)]
    json: bool,
}

/// Arguments of `likewise resources`.
#[derive(Debug, Subcommand)]
pub(super) enum ResourcesCommand {
    /// Erase a resource: its likes, behaviors, ledger, count, messages and cache
    Erase {
        /// The type of the resource
        #[arg(value_name = "TYPE")]
        resource_type: ResourceType,
        /// The resource's id
        id: String,
        #[command(flatten)]
        arguments: EraseArgs,
    },
}

pub(super) async fn user(
    settings: Settings,
    user_id: &str,
    arguments: &EraseArgs,
) -> Result<ExitCode, Failure> {
    let id = settings.store.id_kinds.users.parse(user_id);
    let id = id.map_err(|error| Failure::Id("the user id", error))?;
    erase(settings, DataSubject::User(id), arguments).await
}

pub(super) async fn resource(
    settings: Settings,
    command: ResourcesCommand,
) -> Result<ExitCode, Failure> {
    let ResourcesCommand::Erase {
        resource_type,
        id,
        arguments,
    } = command;
    let id = settings.store.id_kinds.resources.parse(&id);
    let id = id.map_err(|error| Failure::Id("the resource id", error))?;
    let subject = DataSubject::Resource(Resource { resource_type, id });
    erase(settings, subject, &arguments).await
}

/// Marks the subject as erased, and runs the job here unless a worker has claimed it.
async fn erase(
    settings: Settings,
    subject: DataSubject,
    arguments: &EraseArgs,
) -> Result<ExitCode, Failure> {
    if !arguments.yes {
        return Err(Failure::Admin(AdminError::Invalid(format!(
            "erasing {subject} cannot be undone; pass --yes"
        ))));
    }
    let admin = admin(&settings).await?;
    let mut erasure = admin.erase(&subject, &operator()).await?;
    if erasure.state.is_open() {
        follow(&admin, &erasure.job_id, "rows").await?;
        erasure = admin.erasure(&erasure.id).await?;
    }
    if arguments.json {
        print_json(&erasure)?;
    } else {
        print(&erasure)?;
    }
    Ok(match erasure.state {
        JobState::Completed => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

fn print(erasure: &ErasureReport) -> Result<(), Failure> {
    let deleted = &erasure.deleted;
    print_line(format_args!(
        "erasure {} is {}: deleted {} behaviors, {} ledger rows, {} likes, {} messages in quarantine, \
         {} idempotency keys, {} messages of the stream",
        erasure.id,
        erasure.state.as_str(),
        deleted.behaviors,
        deleted.ledger_rows,
        deleted.likes,
        deleted.quarantined_messages,
        deleted.idempotency_keys,
        deleted.stream_messages
    ))?;
    if let Some(error) = &erasure.error_message {
        print_line(format_args!("{error}"))?;
    }
    Ok(())
}
