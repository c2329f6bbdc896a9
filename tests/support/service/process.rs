//! A process of the program, and what a program that ended has printed.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, ExitStatus};
use std::time::Duration;

pub use rustix::process::Signal;
use rustix::process::{Pid, kill_process};
use serde_json::Value;

use crate::support::clock::Clock;
use crate::support::{PATIENCE, until};

/// A running program, killed when it is dropped.
pub struct Process {
    pub(super) child: Child,
    /// The files of its standard output and its standard error.
    pub(super) stdout: PathBuf,
    pub(super) stderr: PathBuf,
}

impl Process {
    /// Returns the process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Returns the log so far.
    pub fn logged(&self) -> String {
        fs::read_to_string(&self.stderr).unwrap_or_default()
    }

    /// Sends a signal. Ignores that the process has ended.
    pub fn signal(&self, signal: Signal) {
        let _ = kill_process(Pid::from_child(&self.child), signal);
    }

    /// Returns the exit status, if the process has ended.
    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child process")
    }

    /// Waits for the end of the process.
    #[track_caller]
    pub fn wait(&mut self, within: Duration) -> ExitStatus {
        until("the process to end", within, || {
            self.exit_status().ok_or("it still runs")
        })
    }

    /// Waits for the end of the process, and returns its output.
    #[track_caller]
    pub fn finish(mut self) -> Ran {
        // Loads and verifications of much data take long.
        let status = self.wait(4 * PATIENCE);
        Ran {
            code: status.code(),
            stdout: fs::read_to_string(&self.stdout).expect("standard output is text"),
            stderr: fs::read_to_string(&self.stderr).expect("standard error is text"),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Fails only if the process has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
        Clock::clean_up_after(self.id());
    }
}

/// The output of a program that ended.
#[derive(Debug)]
pub struct Ran {
    /// The exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// The standard output.
    pub stdout: String,
    /// The standard error.
    pub stderr: String,
}

impl Ran {
    /// Fails unless the program exited with this code.
    #[track_caller]
    pub fn exits(&self, code: i32) -> &Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        self
    }

    /// Fails unless the standard output contains this text.
    #[track_caller]
    pub fn prints(&self, text: &str) -> &Self {
        assert!(self.stdout.contains(text), "{text} is not in {self:?}");
        self
    }

    /// Fails unless the standard error contains this text.
    #[track_caller]
    pub fn reports(&self, text: &str) -> &Self {
        assert!(self.stderr.contains(text), "{text} is not in {self:?}");
        self
    }
}

/// The report of `verify --json`.
#[derive(Debug)]
pub struct Verified {
    /// The exit code.
    pub code: Option<i32>,
    /// The standard output.
    pub report: Value,
}

impl Verified {
    /// Fails unless every guarantee holds.
    #[track_caller]
    pub fn holds(&self) -> &Self {
        assert_eq!(self.report["holds"], true, "{:#}", self.report);
        assert_eq!(self.code, Some(0), "{:#}", self.report);
        self
    }

    /// Returns the broken guarantees, each with its first examples.
    pub fn broken(&self) -> Vec<(String, Value)> {
        let checks = self.report["checks"].as_array().expect("checks");
        checks
            .iter()
            .filter(|check| check["differences"] != 0)
            .map(|check| {
                let promise = check["promise"].as_str().expect("a promise");
                (promise.to_owned(), check["examples"].clone())
            })
            .collect()
    }
}
