//! What is measured: a server and whatever it needs, started anew for each measurement.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use likewise::cli::load::Target;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::failure::Failure;
use crate::hello::LISTENING;
use crate::process::{Process, program};

const START_PATIENCE: Duration = Duration::from_secs(30);
const ANSWER_PATIENCE: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(10);

pub(crate) struct Service {
    pub(crate) target: Target,
    /// Everything whose use of the machine counts.
    pub(crate) processes: Vec<Process>,
    /// How to see that all is done and well; the bare server has nothing to do after its answer.
    pub(crate) ledger: Option<Ledger>,
    /// Holds data and logs. Dropped after the processes that write there.
    _folder: TempDir,
}

impl Service {
    /// This very program, as a bare actix-web server.
    pub(crate) async fn hello() -> Result<Self, Failure> {
        let folder = folder()?;
        let this = std::env::current_exe().map_err(Failure::doing("finding this program"))?;
        let mut command = program(this);
        command.arg("--serve-hello");
        let mut hello = Process::start("hello", &mut command, folder.path())?;
        let (target, _) = listening(&mut hello).await?;
        Ok(Self {
            target,
            processes: vec![hello],
            ledger: None,
            _folder: folder,
        })
    }

    /// Likewise on its own: SQLite, the in-process cache, no NATS.
    pub(crate) async fn embedded(likewise: &Path) -> Result<Self, Failure> {
        let folder = folder()?;
        let settings = vec![("LIKEWISE_DATABASE_URL", "sqlite://likewise.db".to_owned())];
        Self::likewise(likewise, folder, settings, vec![]).await
    }

    /// Likewise with these settings, and the processes that it needs.
    async fn likewise(
        likewise: &Path,
        folder: TempDir,
        settings: Vec<(&'static str, String)>,
        mut processes: Vec<Process>,
    ) -> Result<Self, Failure> {
        let likewise = fs::canonicalize(likewise).map_err(Failure::doing("finding likewise"))?;
        let mut command = with_settings(&likewise, &settings);
        command.env("LIKEWISE_HTTP_ADDR", "127.0.0.1:0");
        let mut process = Process::start("likewise", &mut command, folder.path())?;
        let (target, address) = listening(&mut process).await?;
        processes.push(process);
        Ok(Self {
            target,
            processes,
            ledger: Some(Ledger {
                likewise,
                settings,
                address,
                folder: folder.path().to_owned(),
            }),
            _folder: folder,
        })
    }
}

/// The way of Likewise's events, seen from outside.
pub(crate) struct Ledger {
    likewise: PathBuf,
    settings: Vec<(&'static str, String)>,
    address: String,
    folder: PathBuf,
}

/// What `likewise verify` has found.
pub(crate) struct Verified {
    /// When it found the ledger closed, if it had to wait for that.
    pub(crate) closed: Option<Instant>,
}

impl Ledger {
    /// Waits until the service has counted so many ledger rows as completed since its start.
    pub(crate) async fn completed(&self, rows: u64) -> Result<(), Failure> {
        while self.completed_now()? < rows {
            sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    fn completed_now(&self) -> Result<u64, Failure> {
        const METRIC: &str = "likewise_ledger_rows_completed_total ";
        let answer =
            get(&self.address, "/metrics").map_err(Failure::doing("reading the metrics"))?;
        Ok(answer
            .lines()
            .find_map(|line| line.strip_prefix(METRIC)?.trim().parse().ok())
            .unwrap_or_default())
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
            return Err(Failure::Ended {
                name: verify.name(),
                status,
                said: verify.last_lines(),
            });
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
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).map_err(Failure::doing("making a folder"))
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

async fn listening(server: &mut Process) -> Result<(Target, String), Failure> {
    let said = server.logged(LISTENING, START_PATIENCE).await?;
    let address = said.split([',', ' ']).next().unwrap_or_default().to_owned();
    let target = format!("http://{address}").parse();
    let target = target.map_err(|error| Failure::Unreadable {
        path: address.clone().into(),
        reason: format!("{error}"),
    })?;
    Ok((target, address))
}

/// Blocks this thread, which is done with the load when it asks.
fn get(address: &str, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(ANSWER_PATIENCE))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
