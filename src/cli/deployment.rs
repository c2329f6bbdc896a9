//! `likewise deployment`: shows the identity of the deployment, and starts a new generation after a restore.

use std::io::Write;
use std::process::ExitCode;

use super::Failure;
use super::output::write_json;
use crate::config::Settings;
use crate::domain::Deployment;
use crate::store;

#[derive(Debug, clap::Subcommand)]
pub(super) enum DeploymentCommand {
    /// Print the id, and the generation that names cache keys and the NATS consumer
    Show {
        /// Print one JSON object instead of text
        #[arg(long)]
        json: bool,
    },
    /// Start a new generation: the cache starts empty, and events in the stream are taken again
    #[command(
        long_about = "Start a new generation: the cache starts empty, and events that the stream still holds are taken \
                      again. Run it after restoring a backup, before the services start. Services notice most restores \
                      by themselves. Events that the database has already count once."
    )]
    Renew {
        /// Print one JSON object instead of text
        #[arg(long)]
        json: bool,
    },
}

pub(super) async fn run(
    settings: Settings,
    command: DeploymentCommand,
) -> Result<ExitCode, Failure> {
    let store = store::connect(&settings.store).await?;
    let found = store.deployment().await?;
    match command {
        DeploymentCommand::Show { json } => print(&found, json)?,
        DeploymentCommand::Renew { json } => print(&store.start_generation(&found).await?, json)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn print(deployment: &Deployment, json: bool) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    if json {
        return write_json(&mut out, deployment);
    }
    let Deployment { id, generation } = deployment;
    writeln!(out, "deployment {id}, generation {generation}")
}
