//! `likewise users`: voids and restores likes of a user, and erases users. Thin: the use cases are in `admin/`.

use std::process::ExitCode;

use chrono::{DateTime, Utc};
use clap::Subcommand;

use super::Failure;
use super::dependencies::drop_own_caches;
use super::erase::{self, EraseArgs};
use super::events::jobs::{exit_of, print_error, run_to_end};
use super::events::{admin, print_line};
use super::format::plural;
use super::operator::{confirmed, operator};
use crate::admin::{AdminService, JobAnswer, ModerationRequest};
use crate::config::Settings;
use crate::domain::{Moderation, ResourceType};

/// Arguments of `likewise users`.
#[derive(Debug, Subcommand)]
pub(super) enum UsersCommand {
    /// Void likes of a user: they do not count, but the user still sees them
    Void(LikesArgs),
    /// Restore voided likes of a user: they count again
    Restore(LikesArgs),
    /// Erase a user: likes, behaviors, ledger, stored answers, messages and cache
    Erase {
        /// The user's id
        user_id: String,
        #[command(flatten)]
        arguments: EraseArgs,
    },
}

/// The likes of a user.
#[derive(Debug, clap::Args)]
pub(super) struct LikesArgs {
    /// The user's id
    user_id: String,
    /// Reason, for the record; a dry run needs none
    #[arg(long, value_name = "TEXT", required_unless_present = "dry_run")]
    reason: Option<String>,
    /// Only likes of this type
    #[arg(long, value_name = "TYPE")]
    resource_type: Option<ResourceType>,
    /// Only likes of this time or later, as 2026-11-26T00:00:00Z
    #[arg(long, value_name = "TIME")]
    liked_after: Option<DateTime<Utc>>,
    /// Only likes before this time
    #[arg(long, value_name = "TIME")]
    liked_before: Option<DateTime<Utc>>,
    /// Only count the likes
    #[arg(long)]
    dry_run: bool,
    /// Do not ask for confirmation
    #[arg(long)]
    yes: bool,
}

pub(super) async fn run(settings: Settings, command: UsersCommand) -> Result<ExitCode, Failure> {
    let (moderation, arguments) = match command {
        UsersCommand::Void(arguments) => (Moderation::Void, arguments),
        UsersCommand::Restore(arguments) => (Moderation::Restore, arguments),
        UsersCommand::Erase { user_id, arguments } => {
            return erase::user(settings, &user_id, &arguments).await;
        }
    };
    let admin = admin(&settings).await?;
    moderate(&admin, moderation, arguments).await
}

/// Counts the likes, asks for a confirmation, and changes them in a job.
async fn moderate(
    admin: &AdminService,
    moderation: Moderation,
    arguments: LikesArgs,
) -> Result<ExitCode, Failure> {
    let user_id = admin.dependencies.store.id_kinds().users;
    let user_id = user_id.parse(&arguments.user_id);
    let user_id = user_id.map_err(|error| Failure::Id("the user id", error))?;
    let request = |dry_run| ModerationRequest {
        reason: arguments.reason.clone(),
        resource_type: arguments.resource_type,
        liked_after: arguments.liked_after,
        liked_before: arguments.liked_before,
        dry_run,
    };
    let operator = operator();
    let counted = admin
        .moderate(moderation, user_id.clone(), request(true), &operator)
        .await?;
    let JobAnswer::Counted(counted) = counted else {
        unreachable!("a dry run creates no job");
    };
    let of_each: Vec<_> = counted
        .likes
        .iter()
        .map(|(resource_type, likes)| plural(likes.unsigned_abs(), resource_type.as_str()))
        .collect();
    print_line(format_args!(
        "{} of user {user_id}: {}",
        plural(counted.total.unsigned_abs(), "like"),
        of_each.join(", ")
    ))?;
    if arguments.dry_run || counted.total == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    if !arguments.yes && !confirmed(&format!("{moderation} them?"))? {
        return Ok(ExitCode::FAILURE);
    }
    let created = admin
        .moderate(moderation, user_id, request(false), &operator)
        .await?;
    let JobAnswer::Created(job) = created else {
        unreachable!("only a dry run counts");
    };
    let job = run_to_end(admin, &job, "likes").await?;
    print_line(format_args!(
        "job {} is {}: {} changed",
        job.id,
        job.state.as_str(),
        plural(job.changed.unsigned_abs(), "like")
    ))?;
    print_error(&job)?;
    drop_own_caches(&admin.dependencies, &mut std::io::stdout()).await?;
    Ok(exit_of(&job))
}
