//! A program to measure, its servers and its commands.

use std::path::Path;
use std::process::Command;

use super::peer::Peer;
use super::{On, Place};
use crate::process::program;
use crate::servers::Kind;

/// Logged by Likewise when it listens, with its address behind it.
const LISTENING: &str = "listening url=http://";
/// Logged by any other contestant when it listens, with its address behind it.
const OTHER_LISTENING: &str = "listening on http://";

/// A program to measure.
#[derive(Debug, Clone)]
pub(super) enum Contestant {
    /// A bare actix-web server, which stores nothing.
    Hello,
    /// Likewise with this number of workers beside its api.
    Likewise { on: On, workers: u16 },
    /// Another program with the same HTTP contract.
    Peer { peer: Peer, lean: bool },
}

impl Contestant {
    pub(super) fn name(&self) -> String {
        match self {
            Self::Hello => "hello".to_owned(),
            Self::Likewise { .. } => "likewise".to_owned(),
            Self::Peer { peer, lean: false } => peer.name.clone(),
            Self::Peer { peer, lean: true } => format!("{}, lean schema", peer.name),
        }
    }

    pub(super) fn servers(&self) -> Vec<Kind> {
        match self {
            Self::Hello => Vec::new(),
            Self::Likewise { on, .. } => match on.database() {
                None => Vec::new(),
                Some(database) => vec![database, Kind::Redis, Kind::Nats],
            },
            Self::Peer { peer, .. } => peer.servers(),
        }
    }

    pub(super) const fn stores(&self) -> bool {
        !matches!(self, Self::Hello)
    }

    /// The number of workers; 0 if the api records likes itself.
    pub(super) fn workers(&self) -> u16 {
        match self {
            Self::Likewise {
                on: On::Embedded, ..
            }
            | Self::Hello => 0,
            Self::Likewise { workers, .. } => *workers,
            Self::Peer { peer, .. } => u16::from(peer.worker.is_some()),
        }
    }

    /// The name and the role of the process that serves requests.
    pub(super) const fn serving(&self) -> (&'static str, &'static str) {
        match self {
            Self::Hello => ("hello", "hello"),
            Self::Likewise {
                on: On::Embedded, ..
            } => ("likewise", "all"),
            Self::Likewise { .. } | Self::Peer { .. } => ("api", "api"),
        }
    }

    /// What a process logs when it listens, before its address.
    pub(super) const fn listening(&self) -> &'static str {
        match self {
            Self::Likewise { .. } => LISTENING,
            Self::Hello | Self::Peer { .. } => OTHER_LISTENING,
        }
    }

    /// The command of a process with this role. The environment has the URLs of the servers, as Likewise names them.
    pub(super) fn command(
        &self,
        place: &Place,
        role: &str,
        environment: &[(&'static str, String)],
    ) -> Command {
        match self {
            Self::Hello => {
                let mut command = without_settings(&place.own);
                command.args(["bench", "--tool", "hello"]);
                command
            }
            Self::Likewise { .. } => {
                let mut command = without_settings(&place.likewise);
                command
                    .env("RUST_LOG", "info")
                    // The daily jobs of a worker would run in the middle of a measurement.
                    .env("LIKEWISE_AUDIT_INTERVAL_SECONDS", "0")
                    .env("LIKEWISE_RETENTION_LEDGER_DAYS", "0")
                    .env("LIKEWISE_HTTP_ADDR", "127.0.0.1:0")
                    .env("LIKEWISE_ROLE", role)
                    .envs(environment.iter().cloned());
                command
            }
            Self::Peer { peer, .. } => {
                let mut command = peer.command(role, &place.programs);
                command.env("LISTEN", "127.0.0.1:0");
                for (name, value) in environment {
                    command.env(name.trim_start_matches("LIKEWISE_"), value);
                }
                command
            }
        }
    }
}

/// A program without the settings of Likewise that this process inherited.
pub(super) fn without_settings(path: &Path) -> Command {
    let mut command = program(path);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("LIKEWISE_") {
            command.env_remove(name);
        }
    }
    command
}
