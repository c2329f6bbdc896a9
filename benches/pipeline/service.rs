//! What is measured: a server and whatever it needs, started anew for each measurement.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use bytes::Bytes;
use harness::process::{Process, program};
use harness::{Client, Method, Request, Target};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::failure::Failure;
use crate::hello::LISTENING;
use crate::servers::{Kind, Server};

const START_TIMEOUT: Duration = Duration::from_secs(30);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
const POLL_INTERVAL: Duration = Duration::from_millis(10);

pub(crate) struct Service {
    pub(crate) target: Target,
    /// Everything whose use of the machine counts.
    pub(crate) processes: Vec<Process>,
    /// The servers that Likewise needs. Dropped after it.
    pub(crate) servers: Vec<(&'static str, Server)>,
    /// How to see that all is done and well; the bare server has nothing to do after its answer.
    pub(crate) ledger: Option<Ledger>,
    /// The roles of the processes, in their order.
    roles: &'static [&'static str],
    /// Holds data and logs. Dropped after the processes that write there.
    folder: TempDir,
}

impl Service {
    /// This very program, as a bare actix-web server.
    pub(crate) async fn hello() -> Result<Self, Failure> {
        let folder = folder()?;
        let this = std::env::current_exe().map_err(Failure::doing("finding this program"))?;
        let mut command = program(this);
        command.arg("--serve-hello");
        let mut hello = Process::start("hello", &mut command, folder.path())?;
        let target = listening(&mut hello).await?;
        Ok(Self {
            target,
            processes: vec![hello],
            servers: Vec::new(),
            ledger: None,
            roles: &[],
            folder,
        })
    }

    /// Likewise with these parts, on empty data.
    pub(crate) async fn likewise(likewise: &Path, parts: Parts) -> Result<Self, Failure> {
        let Some((database, kind)) = parts.database() else {
            let settings = vec![("LIKEWISE_DATABASE_URL", "sqlite://likewise.db".to_owned())];
            return Self::start(likewise, Vec::new(), settings, &["all"]).await;
        };
        let servers = vec![
            (database, Server::start(kind)),
            ("redis", Server::start(Kind::Redis)),
            ("nats", Server::start(Kind::Nats)),
        ];
        without_log(&servers[1].1)?;
        let variables = [
            "LIKEWISE_DATABASE_URL",
            "LIKEWISE_REDIS_URL",
            "LIKEWISE_NATS_URL",
        ];
        let urls = servers.iter().map(|(_, server)| server.url());
        let settings = variables.into_iter().zip(urls).collect();
        Self::start(likewise, servers, settings, &["worker", "api"]).await
    }

    /// A process for each role. The first records what the last one accepts.
    async fn start(
        likewise: &Path,
        servers: Vec<(&'static str, Server)>,
        settings: Vec<(&'static str, String)>,
        roles: &'static [&'static str],
    ) -> Result<Self, Failure> {
        let folder = folder()?;
        let likewise = fs::canonicalize(likewise).map_err(Failure::doing("finding likewise"))?;
        let (processes, addresses) = launch(&likewise, &settings, roles, folder.path()).await?;
        let (recording, target) = addresses;
        Ok(Self {
            target,
            processes,
            servers,
            ledger: Some(Ledger {
                likewise,
                settings,
                worker: recording,
                folder: folder.path().to_owned(),
            }),
            roles,
            folder,
        })
    }

    /// Ends Likewise and starts it on the same data, with nothing in the cache.
    pub(crate) async fn restart_cold(&mut self) -> Result<(), Failure> {
        let Some(ledger) = &mut self.ledger else {
            return Ok(());
        };
        self.processes.clear();
        for (name, server) in &self.servers {
            if *name == "redis" {
                command(server, b"FLUSHALL\r\n")?;
            }
        }
        let path = self.folder.path();
        let started = launch(&ledger.likewise, &ledger.settings, self.roles, path).await?;
        let (processes, (recording, target)) = started;
        self.processes = processes;
        ledger.worker = recording;
        self.target = target;
        Ok(())
    }
}

/// Starts a process for each role. Returns them, the address of the first and that of the last.
async fn launch(
    likewise: &Path,
    settings: &[(&'static str, String)],
    roles: &[&'static str],
    folder: &Path,
) -> Result<(Vec<Process>, (Target, Target)), Failure> {
    let mut processes = Vec::new();
    let mut addresses = Vec::new();
    for role in roles {
        let mut command = with_settings(likewise, settings);
        command
            .env("LIKEWISE_HTTP_ADDR", "127.0.0.1:0")
            .env("LIKEWISE_ROLE", role);
        let name = if *role == "all" { "likewise" } else { role };
        let mut process = Process::start(name, &mut command, folder)?;
        addresses.push(listening(&mut process).await?);
        processes.push(process);
    }
    let last = addresses.remove(addresses.len() - 1);
    let first = addresses.into_iter().next().unwrap_or(last.clone());
    Ok((processes, (first, last)))
}

/// Has Redis keep no log on its disk: what is lost of a cache is built anew from the database.
fn without_log(redis: &Server) -> Result<(), Failure> {
    command(redis, b"CONFIG SET appendonly no\r\n")
}

/// Has Redis do something that it answers with OK.
fn command(redis: &Server, command: &[u8]) -> Result<(), Failure> {
    let failed = || Failure::doing("setting Redis up");
    let address = redis.url().replace("redis://", "");
    let mut stream = TcpStream::connect(address).map_err(failed())?;
    stream.write_all(command).map_err(failed())?;
    let mut answer = [0; 5];
    stream.read_exact(&mut answer).map_err(failed())?;
    if &answer == b"+OK\r\n" {
        return Ok(());
    }
    Err(failed()(io::Error::other("the command was refused")))
}

/// What Likewise runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Parts {
    /// SQLite and the in-process cache, in one process
    Embedded,
    /// MariaDB, Redis and NATS, with an api and a worker
    Mariadb,
    /// PostgreSQL, Redis and NATS, with an api and a worker
    Postgres,
}

impl Parts {
    const fn database(self) -> Option<(&'static str, Kind)> {
        match self {
            Self::Embedded => None,
            Self::Mariadb => Some(("mariadb", Kind::MariaDb)),
            Self::Postgres => Some(("postgres", Kind::Postgres)),
        }
    }
}

/// Observes the ledger of a running service from outside.
pub(crate) struct Ledger {
    likewise: PathBuf,
    settings: Vec<(&'static str, String)>,
    /// The process that records events.
    worker: Target,
    folder: PathBuf,
}

/// What `likewise verify` has found.
pub(crate) struct Verified {
    /// When it found the ledger closed, if it had to wait for that.
    pub(crate) closed: Option<Instant>,
}

impl Ledger {
    /// Waits until the service has completed this number of ledger rows since its start.
    pub(crate) async fn completed(&self, rows: u64) -> Result<(), Failure> {
        const METRIC: &str = "likewise_ledger_rows_completed_total ";
        let request = Request::to(&self.worker, Method::GET, "/metrics", 0, Bytes::new());
        let mut client = Client::open(&self.worker, ANSWER_TIMEOUT).await;
        loop {
            client.send(&request).await.map_err(Failure::Metrics)?;
            let metrics = String::from_utf8_lossy(client.body());
            let mut lines = metrics.lines();
            let completed = lines.find_map(|line| line.strip_prefix(METRIC)?.trim().parse().ok());
            if completed.unwrap_or(0) >= rows {
                return Ok(());
            }
            sleep(POLL_INTERVAL).await;
        }
    }

    /// Waits for the ledger to close, and fails unless every promise holds on the data.
    pub(crate) async fn verify(&self) -> Result<Verified, Failure> {
        #[derive(serde::Deserialize)]
        struct Report {
            holds: bool,
            waited_seconds: f64,
        }
        // `likewise verify` looks before it waits, so a shorter wait is none.
        const ONE_LOOK: f64 = 0.1;

        let path = self.folder.join("verify.json");
        let out = File::create(&path).map_err(Failure::doing("making a file"))?;
        let mut command = with_settings(&self.likewise, &self.settings);
        command.args(["verify", "--json"]).stdout(out);
        let started = Instant::now();
        let mut verify = Process::start("verify", &mut command, &self.folder)?;
        let status = verify.finished().await?;
        let printed = fs::read_to_string(&path).unwrap_or_default();
        let Ok(report) = serde_json::from_str::<Report>(&printed) else {
            return Err(Failure::NoReport(verify.last_lines()));
        };
        if !status.success() || !report.holds {
            return Err(Failure::Unkept(printed));
        }
        let waited = Duration::from_secs_f64(report.waited_seconds.max(0.0));
        Ok(Verified {
            closed: (report.waited_seconds >= ONE_LOOK).then(|| started + waited),
        })
    }
}

/// A folder on the disk that the repository is on: elsewhere, a flush to the disk may cost nothing.
fn folder() -> Result<TempDir, Failure> {
    let parent = env!("CARGO_TARGET_TMPDIR");
    fs::create_dir_all(parent).map_err(Failure::doing("making a folder"))?;
    tempfile::tempdir_in(parent).map_err(Failure::doing("making a folder"))
}

/// Likewise with these settings and no others.
fn with_settings(likewise: &Path, settings: &[(&'static str, String)]) -> Command {
    let mut command = program(likewise);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("LIKEWISE_") {
            command.env_remove(name);
        }
    }
    command
        .env("RUST_LOG", "info")
        .envs(settings.iter().map(|(name, value)| (name, value)));
    command
}

async fn listening(server: &mut Process) -> Result<Target, Failure> {
    let rest = server.logged(LISTENING, START_TIMEOUT).await?;
    let address = rest.split([',', ' ']).next().unwrap_or_default();
    let target = format!("http://{address}").parse();
    target.map_err(|_| Failure::Address(address.to_owned()))
}
