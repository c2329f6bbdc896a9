//! A process under measurement. It lives no longer than its value, nor than the thread that has started it.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::LazyLock;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::failure::Failure;

const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Lines of a process's log that are shown when it fails.
const LINES_SHOWN: usize = 20;

pub(crate) struct Process {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

/// What a process has used up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usage {
    /// On all its threads, in user and kernel mode.
    pub(crate) cpu: Duration,
    /// The most memory it has had resident, in bytes.
    pub(crate) peak_memory: u64,
}

impl Process {
    /// Starts a program in a folder, where it also logs.
    pub(crate) fn start(
        name: &'static str,
        command: &mut Command,
        folder: &Path,
    ) -> Result<Self, Failure> {
        let log = folder.join(format!("{name}.log"));
        let file = File::create(&log).map_err(Failure::doing("making a log file"))?;
        let child = command
            .current_dir(folder)
            .stderr(file)
            .spawn()
            .map_err(Failure::doing("starting a process"))?;
        Ok(Self { name, child, log })
    }

    pub(crate) const fn name(&self) -> &'static str {
        self.name
    }

    /// Waits until it logs this text; answers the rest of that line.
    pub(crate) async fn logged(
        &mut self,
        text: &str,
        patience: Duration,
    ) -> Result<String, Failure> {
        let started = Instant::now();
        loop {
            let log = fs::read_to_string(&self.log).unwrap_or_default();
            // Only whole lines: the last one may still be being written.
            let whole = log.rfind('\n').map_or("", |end| &log[..end]);
            if let Some((_, rest)) = whole.lines().find_map(|line| line.split_once(text)) {
                return Ok(rest.to_owned());
            }
            if let Some(status) = self.ended()? {
                return Err(Failure::Ended {
                    name: self.name,
                    status,
                    said: self.last_lines(),
                });
            }
            if started.elapsed() > patience {
                return Err(Failure::NotStarted {
                    name: self.name,
                    patience,
                    said: self.last_lines(),
                });
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// Waits until it has ended of its own accord.
    pub(crate) async fn finished(&mut self) -> Result<ExitStatus, Failure> {
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            sleep(LOOK_EVERY).await;
        }
    }

    fn ended(&mut self) -> Result<Option<ExitStatus>, Failure> {
        self.child
            .try_wait()
            .map_err(Failure::doing("waiting for a process"))
    }

    /// The end of what it has logged.
    pub(crate) fn last_lines(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(LINES_SHOWN)..].join("\n")
    }

    /// What it has used so far. It must not have ended.
    pub(crate) fn usage(&self) -> Result<Usage, Failure> {
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

/// What a process and those that it has started have used so far. It must not have ended.
pub(crate) fn usage(id: u32) -> Result<Usage, Failure> {
    let read = |file: &str| {
        let path = PathBuf::from(format!("/proc/{id}/{file}"));
        match fs::read_to_string(&path) {
            Ok(text) => Ok((path, text)),
            Err(error) => Err(Failure::Unreadable {
                path,
                reason: error.to_string(),
            }),
        }
    };
    let unreadable = |path, reason: &str| Failure::Unreadable {
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
        // One that has just ended is not missed.
        if let Ok(part) = usage(child) {
            whole.cpu += part.cpu;
            whole.peak_memory += part.peak_memory;
        }
    }
    Ok(whole)
}

/// A program without input and, unless told otherwise, without output. It is killed with the thread that
/// starts it, where the system has a tool for that: no drop runs when the benchmark itself is killed.
pub(crate) fn program(path: impl AsRef<OsStr>) -> Command {
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
            // Linux has shown this to programs since 2.6, whatever it ticks at itself.
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
