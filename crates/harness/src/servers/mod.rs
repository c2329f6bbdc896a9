//! MariaDB, PostgreSQL, Redis and NATS on loopback, each on a port and on data of its own, for the benchmark and the tests.
//!
//! An [`Installation`] is such a server without its process. Its callers start the process, and add the settings for their
//! purpose: the benchmark flushes every commit, and tests do not wait for the disk.

mod port;
mod programs;

use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::geteuid;
use tempfile::TempDir;

pub use self::port::Port;
pub use self::programs::Programs;
use crate::io_error::{IoError, doing};

/// How long a server may take to accept a connection, and to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// A configuration of NATS with storage for the largest stream. By default, NATS offers three quarters of the free disk
/// space.
pub const NATS_STORAGE: &str = "jetstream { max_file_store: 64GB }\n";

/// Why a server cannot be installed.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The path of a program or of the template data folders is unknown.
    #[error(
        "cannot find {what}: run `scripts/services install` in the repository of Likewise and start this program there, or \
         set {variable}"
    )]
    Unknown {
        /// The program or the folders.
        what: &'static str,
        /// The variable that names the path.
        variable: &'static str,
    },
    /// No port is free.
    #[error("no port of 127.0.0.1 between 20000 and 29999 is free")]
    NoPort,
    /// A system call failed.
    #[error(transparent)]
    Io(#[from] IoError),
}

/// The kinds of server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// MariaDB.
    MariaDb,
    /// PostgreSQL.
    Postgres,
    /// Redis.
    Redis,
    /// NATS with JetStream.
    Nats,
}

impl Kind {
    /// Returns the name, which is also that of the template data folder.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::MariaDb => "mariadb",
            Self::Postgres => "postgres",
            Self::Redis => "redis",
            Self::Nats => "nats",
        }
    }

    /// Returns the path of the server's program.
    fn program(self, programs: &Programs) -> Result<PathBuf, ServerError> {
        let (name, variable) = match self {
            Self::MariaDb => ("mariadbd", "LIKEWISE_TEST_MARIADBD"),
            Self::Postgres => ("postgres", "LIKEWISE_TEST_POSTGRES_BIN"),
            Self::Redis => ("redis-server", "LIKEWISE_TEST_REDIS_SERVER"),
            Self::Nats => ("nats-server", "LIKEWISE_TEST_NATS_SERVER"),
        };
        let path = programs.require(name, variable)?;
        Ok(match self {
            // Its variable names a folder.
            Self::Postgres => path.join(name),
            Self::MariaDb | Self::Redis | Self::Nats => path.to_owned(),
        })
    }
}

/// The program, the port and the data of a server. They outlive its process.
#[derive(Debug)]
pub struct Installation {
    kind: Kind,
    program: PathBuf,
    port: Port,
    folder: TempDir,
    /// The user and the group of the data, as whom PostgreSQL runs: it refuses to run as root.
    owner: (u32, u32),
}

impl Installation {
    /// Puts empty data into a folder, and reserves a port.
    ///
    /// # Errors
    /// If the program or the template data folder is unknown, the folder cannot be written, or no port is free.
    pub fn new(kind: Kind, programs: &Programs, folder: TempDir) -> Result<Self, ServerError> {
        let program = kind.program(programs)?;
        // A server that runs as another user must be able to enter the folder.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o711))
            .map_err(doing("opening a folder to other users"))?;
        let data = folder.path().join("data");
        match kind {
            Kind::MariaDb | Kind::Postgres => {
                let what = "the template data folders";
                let templates = programs.require(what, "LIKEWISE_TEST_TEMPLATES")?;
                copy(&templates.join(kind.name()), &data)?;
            }
            Kind::Redis | Kind::Nats => {
                fs::create_dir(&data).map_err(doing("making a data folder"))?;
            }
        }
        let owner = fs::metadata(&data).map_err(doing("reading a data folder"))?;
        let installation = Self {
            kind,
            program,
            port: Port::free()?,
            folder,
            owner: (owner.uid(), owner.gid()),
        };
        if kind == Kind::Nats {
            fs::write(installation.nats_configuration(), NATS_STORAGE)
                .map_err(doing("writing the configuration of NATS"))?;
        }
        Ok(installation)
    }

    /// Returns the kind.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// Returns the path of the program.
    #[must_use]
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Returns the folder of everything that the server writes.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Returns the data folder.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.folder().join("data")
    }

    /// Returns the path of NATS's configuration file, which is [`NATS_STORAGE`] at first.
    #[must_use]
    pub fn nats_configuration(&self) -> PathBuf {
        self.folder().join("nats.conf")
    }

    /// Returns the address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// Returns the URL for Likewise's settings.
    #[must_use]
    pub fn url(&self) -> String {
        let address = self.address();
        match self.kind {
            Kind::MariaDb => format!("mysql://likewise@{address}/likewise"),
            Kind::Postgres => format!("postgres://likewise@{address}/likewise"),
            Kind::Redis => format!("redis://{address}"),
            Kind::Nats => format!("nats://{address}"),
        }
    }

    /// Completes a command of the program: the server listens on its port of loopback only, and writes into its folder
    /// only. Later arguments may set anything else.
    pub fn apply_to(&self, command: &mut Command) {
        let is_root = geteuid().is_root();
        let port = self.address().port().to_string();
        let data = self.data();
        command.env("LC_ALL", "C");
        match self.kind {
            Kind::MariaDb => {
                command.arg("--no-defaults");
                if is_root {
                    command.arg("--user=root");
                }
                command.args([
                    &format!("--datadir={}", data.display()),
                    // A starting server deletes the temporary tables in its folder, in a shared one those of others too.
                    &format!("--tmpdir={}", data.display()),
                    &format!("--port={port}"),
                    "--bind-address=127.0.0.1",
                    "--socket=",
                    "--pid-file=server.pid",
                    "--skip-name-resolve",
                    "--character-set-server=utf8mb4",
                    "--innodb-use-native-aio=OFF",
                ]);
            }
            Kind::Postgres => {
                command.arg("-D").arg(data).args(["-p", &port]);
                for setting in [
                    "listen_addresses=127.0.0.1",
                    "unix_socket_directories=",
                    "dynamic_shared_memory_type=mmap",
                ] {
                    command.args(["-c", setting]);
                }
                if is_root {
                    let (user, group) = self.owner;
                    command.uid(user).gid(group);
                }
            }
            Kind::Redis => {
                command.args(["--bind", "127.0.0.1", "--port", &port, "--dir"]);
                command.arg(data).args(["--save", "", "--daemonize", "no"]);
            }
            Kind::Nats => {
                command.arg("--config").arg(self.nats_configuration());
                command.args(["--addr", "127.0.0.1", "--port", &port]);
                command.args(["--jetstream", "--store_dir"]).arg(data);
            }
        }
    }

    /// Asks the server a question that only a ready one answers.
    ///
    /// # Errors
    /// Why it is not ready: another answer, or why there is none.
    pub fn answers(&self) -> Result<(), String> {
        let text = |error: io::Error| error.to_string();
        let mut connection =
            TcpStream::connect_timeout(&self.address(), ANSWER_TIMEOUT).map_err(text)?;
        connection
            .set_read_timeout(Some(ANSWER_TIMEOUT))
            .map_err(text)?;
        let question: &[u8] = match self.kind {
            Kind::MariaDb | Kind::Nats => b"",
            Kind::Postgres => b"\0\0\0\x29\0\x03\0\0user\0likewise\0database\0likewise\0\0",
            Kind::Redis => b"PING\r\n",
        };
        connection.write_all(question).map_err(text)?;
        let mut answer = [0; 2_048];
        let length = connection.read(&mut answer).map_err(text)?;
        let answer = &answer[..length];
        let is_ready = match self.kind {
            Kind::MariaDb => answer.get(4) == Some(&10),
            Kind::Postgres => answer.first() == Some(&b'R'),
            Kind::Redis => answer.starts_with(b"+PONG"),
            Kind::Nats => String::from_utf8_lossy(answer).contains("\"jetstream\":true"),
        };
        if is_ready {
            return Ok(());
        }
        Err(String::from_utf8_lossy(answer).into_owned())
    }
}

/// Copies a template data folder, with its owner.
fn copy(from: &Path, to: &Path) -> Result<(), ServerError> {
    let copying = || doing(format!("copying {}", from.display()));
    let copied = Command::new("cp")
        .args(["-a", "--reflink=auto", "--sparse=always"])
        .args([from, to])
        .status()
        .map_err(copying())?;
    if copied.success() {
        return Ok(());
    }
    Err(copying()(io::Error::other(copied.to_string())).into())
}
