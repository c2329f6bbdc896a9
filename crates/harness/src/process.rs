//! A child process whose CPU time and memory are measured, on Linux. The benchmark starts its servers with it.
//! The process is killed when its [`Process`] is dropped or when the thread that started it ends.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::LazyLock;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::{Instant, sleep};

use crate::io_error::{IoError, doing};

const POLL_INTERVAL: Duration = Duration::from_millis(10);
/// The number of log lines that an error shows.
const LINES_SHOWN: usize = 20;

/// Why a process could not be started, awaited or measured.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// A system call failed.
    #[error(transparent)]
    Io(#[from] IoError),
    /// The process did not log the awaited text in time.
    #[error("{name} did not start within {limit:?}; its log ends with:\n{log}")]
    NotStarted {
        /// The process.
        name: String,
        /// The time limit.
        limit: Duration,
        /// The end of its log.
        log: String,
    },
    /// The process ended before it logged the awaited text.
    #[error("{name} ended ({status}); its log ends with:\n{log}")]
    Ended {
        /// The process.
        name: String,
        /// Its exit status.
        status: ExitStatus,
        /// The end of its log.
        log: String,
    },
    /// A file in `/proc` is missing or has an unexpected form.
    #[error("cannot read {}: {reason}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The cause.
        reason: String,
    },
}

/// A running child process that logs to a file.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

/// The resources that a process has used since its start.
#[derive(Debug, Clone, Copy)]
pub struct Usage {
    /// CPU time of all threads, in user and kernel mode.
    pub cpu: Duration,
    /// Peak resident memory, in bytes.
    pub peak_memory: u64,
}

impl Process {
    /// Starts a program in a folder. Its standard error goes to the file `{name}.log` there.
    ///
    /// # Errors
    /// [`ProcessError::Io`].
    pub fn start(
        name: impl Into<String>,
        command: &mut Command,
        folder: &Path,
    ) -> Result<Self, ProcessError> {
        let name = name.into();
        let log = folder.join(format!("{name}.log"));
        let file = File::create(&log).map_err(doing("making a log file"))?;
        let child = command
            .current_dir(folder)
            .stderr(file)
            .spawn()
            .map_err(doing("starting a process"))?;
        Ok(Self { name, child, log })
    }

    /// The name given at its start.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Waits until it logs `text` and returns the rest of that line.
    ///
    /// # Errors
    /// [`ProcessError::NotStarted`] after `limit`, [`ProcessError::Ended`] if the process ends first.
    pub async fn logged(&mut self, text: &str, limit: Duration) -> Result<String, ProcessError> {
        let started = Instant::now();
        loop {
            let log = fs::read_to_string(&self.log).unwrap_or_default();
            // Only whole lines: the process may still be writing the last one.
            let whole = log.rfind('\n').map_or("", |end| &log[..end]);
            if let Some((_, rest)) = whole.lines().find_map(|line| line.split_once(text)) {
                return Ok(rest.to_owned());
            }
            if let Some(status) = self.ended()? {
                return Err(ProcessError::Ended {
                    name: self.name.clone(),
                    status,
                    log: self.last_lines(),
                });
            }
            if started.elapsed() > limit {
                return Err(ProcessError::NotStarted {
                    name: self.name.clone(),
                    limit,
                    log: self.last_lines(),
                });
            }
            sleep(POLL_INTERVAL).await;
        }
    }

    /// Waits until the process ends.
    ///
    /// # Errors
    /// [`ProcessError::Io`].
    pub async fn finished(&mut self) -> Result<ExitStatus, ProcessError> {
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            sleep(POLL_INTERVAL).await;
        }
    }

    /// Asks the process to end in order, and waits until it does.
    ///
    /// # Errors
    /// [`ProcessError::Io`].
    pub async fn stop(mut self) -> Result<(), ProcessError> {
        self.signal(Signal::TERM);
        self.finished().await.map(drop)
    }

    /// Ends a process that reacts to SIGQUIT, as PostgreSQL does, and waits for it.
    pub(crate) fn quit(&mut self) {
        self.signal(Signal::QUIT);
        let _ = self.child.wait();
    }

    fn signal(&self, signal: Signal) {
        // It may have ended already.
        let _ = kill_process(Pid::from_child(&self.child), signal);
    }

    /// Returns the exit status if the process has ended.
    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>, ProcessError> {
        let ended = self.child.try_wait();
        Ok(ended.map_err(doing("waiting for a process"))?)
    }

    /// The last lines of its log.
    #[must_use]
    pub fn last_lines(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(LINES_SHOWN)..].join("\n")
    }

    /// Returns the resources it has used so far.
    ///
    /// # Errors
    /// [`ProcessError::Unreadable`] if it has ended.
    pub fn usage(&self) -> Result<Usage, ProcessError> {
        usage(self.child.id())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns the resources that a process and its children have used so far.
///
/// # Errors
/// [`ProcessError::Unreadable`] if it has ended.
pub fn usage(id: u32) -> Result<Usage, ProcessError> {
    let read = |file: &str| {
        let path = PathBuf::from(format!("/proc/{id}/{file}"));
        match fs::read_to_string(&path) {
            Ok(text) => Ok((path, text)),
            Err(error) => Err(ProcessError::Unreadable {
                path,
                reason: error.to_string(),
            }),
        }
    };
    let unreadable = |path, reason: &str| ProcessError::Unreadable {
        path,
        reason: reason.to_owned(),
    };
    let (path, stat) = read("stat")?;
    let mut whole = Usage {
        cpu: cpu(&stat).ok_or_else(|| unreadable(path, "no CPU times"))?,
        peak_memory: 0,
    };
    let (path, status) = read("status")?;
    whole.peak_memory =
        peak_memory(&status).ok_or_else(|| unreadable(path, "no peak of memory"))?;
    let children =
        read(&format!("task/{id}/children")).map_or_else(|_| String::new(), |(_, ids)| ids);
    for child in children
        .split_ascii_whitespace()
        .filter_map(|id| id.parse().ok())
    {
        // A child may have ended since it was listed.
        if let Ok(part) = usage(child) {
            whole.cpu += part.cpu;
            whole.peak_memory += part.peak_memory;
        }
    }
    Ok(whole)
}

/// Builds a command without standard input and output. Where `setpriv` is available, the process is killed with
/// the thread that starts it: when the parent is killed, it runs no `Drop`.
pub fn program(path: impl AsRef<OsStr>) -> Command {
    static BOUND: LazyLock<bool> = LazyLock::new(|| {
        let help = Command::new("setpriv").arg("--help").output();
        help.is_ok_and(|help| String::from_utf8_lossy(&help.stdout).contains("--pdeathsig"))
    });
    let mut command = if *BOUND {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(path);
        command
    } else {
        Command::new(path)
    };
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command
}

/// User and system time, from `/proc/PID/stat`.
fn cpu(stat: &str) -> Option<Duration> {
    static TICKS_PER_SECOND: LazyLock<u64> = LazyLock::new(|| {
        let printed = Command::new("getconf").arg("CLK_TCK").output();
        printed
            .ok()
            .and_then(|printed| String::from_utf8_lossy(&printed.stdout).trim().parse().ok())
            // The value that Linux reports to programs since 2.6.
            .unwrap_or(100)
    });
    // The second field, the name in brackets, may itself hold spaces and brackets.
    let (_, fields) = stat.rsplit_once(')')?;
    let ticks: u64 = fields
        .split_ascii_whitespace()
        .skip(11)
        .take(2)
        .map(|field| field.parse::<u64>().ok())
        .sum::<Option<u64>>()?;
    Some(Duration::from_nanos(
        ticks * 1_000_000_000 / *TICKS_PER_SECOND,
    ))
}

/// The peak of resident memory in bytes, from `/proc/PID/status`.
fn peak_memory(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kibibytes * 1_024)
}
