//! The servers of a benchmark, with the settings of production servers on a small machine: every commit reaches the disk.
//! `service` starts them; dropping a server kills it and deletes its folder.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use super::failure::BenchError;
use crate::io_error::doing;
use crate::process::{Process, ProcessError, Usage, program};
use crate::servers::{Installation, Kind, Programs};

const START_TIMEOUT: Duration = Duration::from_secs(60);
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// A running server on data of its own.
pub(super) struct Server {
    process: Process,
    // Dropped after the process that writes there.
    installation: Installation,
}

impl Server {
    /// Starts a server on empty data below `parent`, and waits until it answers.
    pub(super) async fn start(
        kind: Kind,
        programs: &Programs,
        parent: &Path,
    ) -> Result<Self, BenchError> {
        let installation = Installation::new(kind, programs, folder(parent)?)?;
        let mut command = program(installation.program());
        installation.apply_to(&mut command);
        command.args(settings(kind));
        let process = Process::start(kind.name(), &mut command, installation.folder())?;
        let mut server = Self {
            process,
            installation,
        };
        server.until_ready().await?;
        Ok(server)
    }

    async fn until_ready(&mut self) -> Result<(), BenchError> {
        let started = Instant::now();
        loop {
            let Err(reason) = self.installation.answers() else {
                return Ok(());
            };
            if let Some(status) = self.process.ended()? {
                return Err(ProcessError::Ended {
                    name: self.kind().name().to_owned(),
                    status,
                    log: self.process.last_lines(),
                }
                .into());
            }
            if started.elapsed() > START_TIMEOUT {
                return Err(BenchError::NoAnswer {
                    server: self.kind().name().to_owned(),
                    limit: START_TIMEOUT,
                    reason,
                    log: self.process.last_lines(),
                });
            }
            sleep(POLL_INTERVAL).await;
        }
    }

    pub(super) const fn kind(&self) -> Kind {
        self.installation.kind()
    }

    pub(super) fn usage(&self) -> Result<Usage, ProcessError> {
        self.process.usage()
    }

    pub(super) fn url(&self) -> String {
        self.installation.url()
    }

    /// Sends a command to Redis, and returns the text of its answer.
    pub(super) fn redis(&self, command: &str) -> Result<String, BenchError> {
        let asking = || doing("asking Redis");
        let mut stream = TcpStream::connect(self.installation.address()).map_err(asking())?;
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
        if self.kind() == Kind::Postgres {
            self.process.quit();
        }
    }
}

/// Makes a folder for a server or a service.
pub(super) fn folder(parent: &Path) -> Result<TempDir, BenchError> {
    let made = tempfile::Builder::new()
        .prefix("likewise-bench-")
        .tempdir_in(parent);
    Ok(made.map_err(doing(format!("making a folder in {}", parent.display())))?)
}

const fn settings(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::MariaDb => &[
            "--max-connections=300",
            "--innodb-buffer-pool-size=1G",
            "--innodb-log-file-size=512M",
            "--innodb-flush-log-at-trx-commit=1",
        ],
        Kind::Postgres => &[
            "-c",
            "max_connections=300",
            "-c",
            "shared_buffers=512MB",
            "-c",
            "max_wal_size=4GB",
        ],
        // What is lost of a cache is read from the database again.
        Kind::Redis => &["--appendonly", "no"],
        Kind::Nats => &[],
    }
}
