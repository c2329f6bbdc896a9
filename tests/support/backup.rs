//! Backups of a database with its own tools, made and restored as `docs/operations.md` describes.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

use super::database::Database;
use super::servers::program;

/// A backup.
pub struct Backup {
    folder: TempDir,
    database: Database,
}

/// The parts of a URL that the tools take as arguments.
struct Place {
    user: String,
    port: String,
    name: String,
}

impl Place {
    fn of(url: &str) -> Self {
        let (_, rest) = url.split_once("://").expect("a scheme");
        let (user, rest) = rest.split_once('@').expect("a user");
        let (server, name) = rest.split_once('/').expect("a database");
        let (_, port) = server.split_once(':').expect("a port");
        Self {
            user: user.to_owned(),
            port: port.to_owned(),
            name: name.to_owned(),
        }
    }
}

fn mariadb(tool: &str, url: &str) -> Command {
    let place = Place::of(url);
    let mut command = Command::new(tool);
    command.args(["--no-defaults", "--protocol=tcp", "--host=127.0.0.1"]);
    command.args([
        format!("--port={}", place.port),
        format!("--user={}", place.user),
    ]);
    if tool == "mariadb-dump" {
        command.arg("--single-transaction");
    }
    command.arg(place.name);
    command
}

fn postgres(tool: &str) -> Command {
    Command::new(program("LIKEWISE_TEST_POSTGRES_BIN").join(tool))
}

#[track_caller]
fn succeeds(output: std::io::Result<Output>) {
    let output = output.expect("the tool starts");
    assert!(output.status.success(), "{output:?}");
}

impl Backup {
    /// Makes a backup, also of a database in use.
    #[track_caller]
    pub fn of(database: &Database) -> Self {
        let backup = Self {
            folder: tempfile::tempdir().expect("a temporary folder"),
            database: database.clone(),
        };
        let path = backup.path();
        match database {
            Database::Sqlite(_) => {
                database.execute(&[&format!("VACUUM INTO '{}'", path.display())]);
            }
            Database::MariaDb(_) => {
                let file = File::create(&path).expect("a file");
                succeeds(
                    mariadb("mariadb-dump", &database.url())
                        .stdout(file)
                        .output(),
                );
            }
            Database::Postgres(_) => {
                let url = database.url();
                let mut dump = postgres("pg_dump");
                dump.args(["--format=custom", "--file"]).arg(&path).arg(url);
                succeeds(dump.output());
            }
        }
        backup
    }

    /// Restores it into its database. A service may use a database on a server meanwhile.
    #[track_caller]
    pub fn restore(&self) {
        let path = self.path();
        let url = self.database.url();
        match &self.database {
            Database::Sqlite(file) => {
                for suffix in ["-wal", "-shm"] {
                    let mut name = file.clone().into_os_string();
                    name.push(suffix);
                    let _ = fs::remove_file(Path::new(&name));
                }
                fs::copy(&path, file).expect("a copy");
            }
            Database::MariaDb(_) => {
                let file = File::open(&path).expect("the backup");
                succeeds(mariadb("mariadb", &url).stdin(file).output());
            }
            Database::Postgres(_) => {
                let mut restore = postgres("pg_restore");
                restore.args(["--clean", "--if-exists", "--single-transaction", "--dbname"]);
                succeeds(restore.arg(url).arg(&path).output());
            }
        }
    }

    fn path(&self) -> std::path::PathBuf {
        self.folder.path().join("backup")
    }
}
