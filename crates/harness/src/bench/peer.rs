//! A peer: another program with the HTTP contract and the tables of Likewise. A file `peer.json` describes it; the peers
//! of the repository are in `bench/peers/`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;

use super::failure::BenchError;
use crate::process::program;
use crate::servers::{Kind, Programs};

/// The description of a peer, and its folder.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    pub(super) name: String,
    pub(super) api: Vec<String>,
    pub(super) worker: Option<Vec<String>>,
    /// Whether to measure it also without secondary indexes.
    pub(super) lean: bool,
    servers: Vec<Kind>,
    folder: PathBuf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Description {
    name: String,
    servers: Vec<ServerName>,
    api: Vec<String>,
    worker: Option<Vec<String>>,
    #[serde(default)]
    lean: bool,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum ServerName {
    Mariadb,
    Postgres,
    Redis,
    Nats,
}

impl Peer {
    /// Reads a description: a file, or the folder with `peer.json`.
    pub(super) fn read(path: &Path) -> Result<Self, BenchError> {
        let path = match path.is_dir() {
            true => path.join("peer.json"),
            false => path.to_owned(),
        };
        let refused = |reason: &dyn std::fmt::Display| BenchError::Peer {
            path: path.clone(),
            reason: reason.to_string(),
        };
        let text = fs::read_to_string(&path).map_err(|error| refused(&error))?;
        let given: Description = serde_json::from_str(&text).map_err(|error| refused(&error))?;
        let commands = [Some(&given.api), given.worker.as_ref()];
        if commands.into_iter().flatten().any(Vec::is_empty) {
            return Err(refused(&"a command is empty"));
        }
        let folder = path.parent().unwrap_or(Path::new("."));
        let folder = fs::canonicalize(folder).map_err(|error| refused(&error))?;
        let kind = |name: &ServerName| match name {
            ServerName::Mariadb => Kind::MariaDb,
            ServerName::Postgres => Kind::Postgres,
            ServerName::Redis => Kind::Redis,
            ServerName::Nats => Kind::Nats,
        };
        Ok(Self {
            servers: given.servers.iter().map(kind).collect(),
            name: given.name,
            api: given.api,
            worker: given.worker,
            lean: given.lean,
            folder,
        })
    }

    pub(super) fn servers(&self) -> Vec<Kind> {
        self.servers.clone()
    }

    /// The command of a role. Words that begin with `./` or `../` are paths from the description; `node` is the Node.js of
    /// `scripts/services`, or else the one on `PATH`.
    pub(super) fn command(&self, role: &str, programs: &Programs) -> Command {
        let words = match (role, &self.worker) {
            ("worker", Some(worker)) => worker,
            _ => &self.api,
        };
        let mut words = words.iter().map(|word| match word.as_str() {
            "node" => programs
                .get("LIKEWISE_TEST_NODE")
                .map_or_else(|| PathBuf::from(word), Path::to_owned),
            path if path.starts_with('.') => self.folder.join(path),
            word => PathBuf::from(word),
        });
        let mut command = program(words.next().unwrap_or_default());
        command.args(words);
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_description_is_named_with_its_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("peer.json");
        for text in [
            "{",
            r#"{"name": "x", "servers": ["oracle"], "api": ["x"]}"#,
            r#"{"name": "x", "servers": [], "api": []}"#,
            r#"{"name": "x", "servers": [], "api": ["x"], "wroker": ["x"]}"#,
        ] {
            fs::write(&path, text).expect("a file");
            let error = Peer::read(folder.path()).expect_err(text).to_string();
            assert!(error.contains("peer.json: "), "{error}");
        }
        fs::write(&path, r#"{"name": "x", "servers": ["redis"], "api": ["./run", "api"], "worker": ["node", "./w"]}"#)
            .expect("a file");
        let peer = Peer::read(folder.path()).expect("valid");
        assert_eq!(peer.servers(), [Kind::Redis]);
        assert!(!peer.lean);
    }
}
