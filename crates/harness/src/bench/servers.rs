//! The servers of a benchmark: MariaDB, PostgreSQL, Redis and NATS processes on free ports of loopback, in folders of
//! their own. Their settings are those of a production server on a small machine: every commit reaches the disk. `service`
//! starts them; dropping a server kills it and deletes its folder.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use super::failure::BenchError;
use crate::process::{Process, ProcessError, Usage, program};

const START_TIMEOUT: Duration = Duration::from_secs(60);
const POLL_INTERVAL: Duration = Duration::from_millis(10);
/// How long one look at a server may take.
const LOOK: Duration = Duration::from_secs(1);

/// The kinds of server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    MariaDb,
    Postgres,
    Redis,
    Nats,
}

impl Kind {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::MariaDb => "mariadb",
            Self::Postgres => "postgres",
            Self::Redis => "redis",
            Self::Nats => "nats",
        }
    }

    const fn program(self) -> (&'static str, &'static str) {
        match self {
            Self::MariaDb => ("mariadbd", "LIKEWISE_TEST_MARIADBD"),
            Self::Postgres => ("PostgreSQL's server", "LIKEWISE_TEST_POSTGRES_BIN"),
            Self::Redis => ("redis-server", "LIKEWISE_TEST_REDIS_SERVER"),
            Self::Nats => ("nats-server", "LIKEWISE_TEST_NATS_SERVER"),
        }
    }
}

/// The paths of programs: those that `scripts/services env` prints, and those that the environment names.
pub(super) struct Programs(BTreeMap<String, String>);

impl Programs {
    /// Finds the programs. The script is that of the repository around the current folder or this program.
    pub(super) fn find() -> Self {
        let mut found = BTreeMap::new();
        let folders = [std::env::current_dir(), std::env::current_exe()];
        let script = folders.into_iter().flatten().find_map(|folder| {
            let mut scripts = folder.ancestors().map(|one| one.join("scripts/services"));
            scripts.find(|script| script.is_file())
        });
        if let Some(script) = script
            && let Ok(printed) = Command::new(script).arg("env").output()
        {
            let printed = String::from_utf8_lossy(&printed.stdout).into_owned();
            let lines = printed.lines().filter_map(|line| {
                let (name, value) = line.strip_prefix("export ")?.split_once('=')?;
                Some((name.to_owned(), value.trim_matches('\'').to_owned()))
            });
            found.extend(lines);
        }
        found.extend(std::env::vars().filter(|(name, _)| name.starts_with("LIKEWISE_TEST_")));
        Self(found)
    }

    fn get(&self, program: &'static str, variable: &'static str) -> Result<PathBuf, BenchError> {
        let path = self.0.get(variable).map(PathBuf::from);
        path.ok_or(BenchError::NoProgram { program, variable })
    }

    fn server(&self, kind: Kind) -> Result<PathBuf, BenchError> {
        let (program, variable) = kind.program();
        let path = self.get(program, variable)?;
        Ok(match kind {
            Kind::Postgres => path.join("postgres"),
            _ => path,
        })
    }

    /// The Node.js that peers written for it run on.
    pub(super) fn node(&self) -> Option<&str> {
        self.0.get("LIKEWISE_TEST_NODE").map(String::as_str)
    }
}

/// A running server on data of its own.
pub(super) struct Server {
    kind: Kind,
    process: Process,
    port: Port,
    // Dropped after the process that writes there.
    _folder: TempDir,
}

impl Server {
    /// Starts a server on empty data below `parent`, and waits until it answers.
    pub(super) async fn start(
        kind: Kind,
        programs: &Programs,
        parent: &Path,
    ) -> Result<Self, BenchError> {
        let folder = folder(parent)?;
        let data = folder.path().join("data");
        match kind {
            Kind::MariaDb | Kind::Postgres => {
                let templates =
                    programs.get("the template data folders", "LIKEWISE_TEST_TEMPLATES")?;
                copy(&templates.join(kind.name()), &data)?;
            }
            Kind::Redis | Kind::Nats => {
                fs::create_dir(&data).map_err(BenchError::doing("making a data folder"))?;
            }
        }
        let port = Port::free()?;
        let mut command = command(kind, programs, &data, port.number)?;
        command.env("LC_ALL", "C");
        let process = Process::start(kind.name(), &mut command, folder.path())?;
        let mut server = Self {
            kind,
            process,
            port,
            _folder: folder,
        };
        server.answers().await?;
        Ok(server)
    }

    async fn answers(&mut self) -> Result<(), BenchError> {
        let started = Instant::now();
        loop {
            let Err(reason) = ask(self.kind, self.port.address()) else {
                return Ok(());
            };
            if let Some(status) = self.process.ended()? {
                return Err(ProcessError::Ended {
                    name: self.kind.name().to_owned(),
                    status,
                    log: self.process.last_lines(),
                }
                .into());
            }
            if started.elapsed() > START_TIMEOUT {
                return Err(BenchError::NoAnswer {
                    server: self.kind.name().to_owned(),
                    limit: START_TIMEOUT,
                    reason,
                    log: self.process.last_lines(),
                });
            }
            sleep(POLL_INTERVAL).await;
        }
    }

    pub(super) const fn kind(&self) -> Kind {
        self.kind
    }

    pub(super) fn usage(&self) -> Result<Usage, ProcessError> {
        self.process.usage()
    }

    pub(super) fn url(&self) -> String {
        let port = self.port.number;
        match self.kind {
            Kind::MariaDb => format!("mysql://likewise@127.0.0.1:{port}/likewise"),
            Kind::Postgres => format!("postgres://likewise@127.0.0.1:{port}/likewise"),
            Kind::Redis => format!("redis://127.0.0.1:{port}"),
            Kind::Nats => format!("nats://127.0.0.1:{port}"),
        }
    }

    /// Sends a command to Redis, and returns the text of its answer.
    pub(super) fn redis(&self, command: &str) -> Result<String, BenchError> {
        let asking = || BenchError::doing("asking Redis");
        let mut stream = TcpStream::connect(self.port.address()).map_err(asking())?;
        stream
            .set_read_timeout(Some(START_TIMEOUT))
            .map_err(asking())?;
        // Redis closes the connection after QUIT, so the answer ends.
        let commands = format!("{command}\r\nQUIT\r\n");
        stream.write_all(commands.as_bytes()).map_err(asking())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).map_err(asking())?;
        Ok(answer)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // PostgreSQL removes its shared memory only in an ordered stop.
        if self.kind == Kind::Postgres {
            self.process.quit();
        }
    }
}

/// Makes a folder that servers of other users can enter.
pub(super) fn folder(parent: &Path) -> Result<TempDir, BenchError> {
    let making = || BenchError::doing(format!("making a folder in {}", parent.display()));
    let folder = tempfile::Builder::new()
        .prefix("likewise-bench-")
        .tempdir_in(parent)
        .map_err(making())?;
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o711)).map_err(making())?;
    Ok(folder)
}

fn copy(from: &Path, to: &Path) -> Result<(), BenchError> {
    let copying = || BenchError::doing(format!("copying {}", from.display()));
    let copied = Command::new("cp")
        .args(["-a", "--reflink=auto", "--sparse=always"])
        .args([from, to])
        .status()
        .map_err(copying())?;
    if copied.success() {
        return Ok(());
    }
    Err(copying()(std::io::Error::other(copied.to_string())))
}

fn command(kind: Kind, programs: &Programs, data: &Path, port: u16) -> Result<Command, BenchError> {
    let mut command = program(programs.server(kind)?);
    let port = port.to_string();
    match kind {
        Kind::MariaDb => {
            command.arg("--no-defaults");
            if rustix::process::geteuid().is_root() {
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
                "--max-connections=300",
                "--innodb-buffer-pool-size=1G",
                "--innodb-log-file-size=512M",
                "--innodb-flush-log-at-trx-commit=1",
                "--innodb-use-native-aio=OFF",
            ]);
        }
        Kind::Postgres => {
            command.arg("-D").arg(data).args(["-p", &port]);
            for setting in [
                "listen_addresses=127.0.0.1",
                "unix_socket_directories=",
                "max_connections=300",
                "shared_buffers=512MB",
                "max_wal_size=4GB",
                "dynamic_shared_memory_type=mmap",
            ] {
                command.args(["-c", setting]);
            }
            if rustix::process::geteuid().is_root() {
                // It refuses to run as root. The data belongs to the user that it must run as.
                let owner =
                    fs::metadata(data).map_err(BenchError::doing("reading a data folder"))?;
                command.uid(owner.uid()).gid(owner.gid());
            }
        }
        Kind::Redis => {
            command
                .args(["--bind", "127.0.0.1", "--port", &port, "--dir"])
                .arg(data);
            // What is lost of a cache is read from the database again.
            command.args(["--save", "", "--appendonly", "no", "--daemonize", "no"]);
        }
        Kind::Nats => {
            let config = data.with_file_name("nats.conf");
            // By default, NATS offers three quarters of the free disk space.
            fs::write(&config, "jetstream { max_file_store: 64GB }\n")
                .map_err(BenchError::doing("writing nats.conf"))?;
            command.arg("--config").arg(config);
            command.args([
                "--addr",
                "127.0.0.1",
                "--port",
                &port,
                "--jetstream",
                "--store_dir",
            ]);
            command.arg(data);
        }
    }
    Ok(command)
}

/// Asks a server something that only a ready server answers.
fn ask(kind: Kind, address: SocketAddr) -> Result<(), String> {
    let text = |error: std::io::Error| error.to_string();
    let mut connection = TcpStream::connect_timeout(&address, LOOK).map_err(text)?;
    connection.set_read_timeout(Some(LOOK)).map_err(text)?;
    let question: &[u8] = match kind {
        Kind::MariaDb | Kind::Nats => b"",
        Kind::Postgres => b"\0\0\0\x29\0\x03\0\0user\0likewise\0database\0likewise\0\0",
        Kind::Redis => b"PING\r\n",
    };
    connection.write_all(question).map_err(text)?;
    let mut answer = [0; 2_048];
    let length = connection.read(&mut answer).map_err(text)?;
    let answer = &answer[..length];
    let ready = match kind {
        Kind::MariaDb => answer.get(4) == Some(&10),
        Kind::Postgres => answer.first() == Some(&b'R'),
        Kind::Redis => answer.starts_with(b"+PONG"),
        Kind::Nats => String::from_utf8_lossy(answer).contains("\"jetstream\":true"),
    };
    if ready {
        return Ok(());
    }
    Err(String::from_utf8_lossy(answer).into_owned())
}

/// A port of loopback that is reserved while this value lives. It is below the ephemeral range, where a client that
/// retries a dead server could connect to itself. The listener on another loopback address keeps other benchmarks
/// and tests from choosing it.
struct Port {
    number: u16,
    _claim: TcpListener,
}

impl Port {
    fn free() -> Result<Self, BenchError> {
        static NEXT: Mutex<u16> = Mutex::new(0);
        let mut next = NEXT.lock().unwrap_or_else(PoisonError::into_inner);
        if *next == 0 {
            *next = (std::process::id() % 10_000) as u16;
        }
        for _ in 0..10_000 {
            *next = (*next + 1) % 10_000;
            let number = 20_000 + *next;
            let Ok(claim) = TcpListener::bind((Ipv4Addr::new(127, 0, 0, 2), number)) else {
                continue;
            };
            if TcpListener::bind((Ipv4Addr::LOCALHOST, number)).is_ok() {
                return Ok(Self {
                    number,
                    _claim: claim,
                });
            }
        }
        Err(BenchError::NoPort)
    }

    fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.number).into()
    }
}
