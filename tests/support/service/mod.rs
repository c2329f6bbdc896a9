//! The program under test: tests start it in a folder of its own, stop it, kill it and restart it.

mod process;
mod setup;

use std::fs;
use std::net::SocketAddr;
use std::process::ExitStatus;
use std::time::Duration;

pub use self::process::{Process, Ran, Signal};
pub use self::setup::Setup;
use super::database::Database;
use super::http::Client;
use super::{PATIENCE, logs, until};

impl Setup {
    /// Starts the service and waits until it listens.
    #[track_caller]
    pub fn start(self) -> Service {
        self.start_as(&["serve"])
    }

    /// As [`start`](Self::start), with these arguments.
    #[track_caller]
    pub fn start_as(self, arguments: &[&str]) -> Service {
        let mut process = self.launch(arguments);
        let address = until("the service to listen", PATIENCE, || {
            if let Some(status) = process.exit_status() {
                panic!("the service ended at its start: {status}");
            }
            let printed = fs::read_to_string(&process.stdout).unwrap_or_default();
            let address = address_in(&printed).or_else(|| address_logged(&process.logged()));
            address.ok_or(printed)
        });
        let service = Service {
            process,
            address,
            setup: self,
        };
        // On a slow machine, migrations may take longer than the service waits before it listens.
        until("the tables to be up to date", PATIENCE, || {
            let answer = service.client().get("/readyz");
            let waiting_for = &answer.json()["waiting_for"];
            let waits = waiting_for == "migrations" || waiting_for == "identity";
            (!waits).then_some(()).ok_or(answer.text)
        });
        service
    }
}

/// The address in `Likewise is listening on http://127.0.0.1:8080. Try:`.
fn address_in(printed: &str) -> Option<SocketAddr> {
    let (_, rest) = printed.split_once("Likewise is listening on http://")?;
    let (address, _) = rest.split_once(". Try:")?;
    address.parse().ok()
}

/// The address in the log, if that is JSON.
fn address_logged(log: &str) -> Option<SocketAddr> {
    let (_, rest) = log.split_once("\"message\":\"listening\",\"url\":\"http://")?;
    let (address, _) = rest.split_once('"')?;
    address.parse().ok()
}

/// A running service. Fields are dropped in this order, so the process ends before its folder is deleted.
pub struct Service {
    process: Process,
    address: SocketAddr,
    setup: Setup,
}

impl Service {
    /// Returns the address of the listener.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the id of the process.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Returns the URL for `load`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns a client with connections of its own.
    pub fn client(&self) -> Client {
        Client::of(self.address)
    }

    /// Returns the database.
    pub const fn database(&self) -> &Database {
        self.setup.database()
    }

    /// Returns the setup.
    pub const fn setup(&self) -> &Setup {
        &self.setup
    }

    /// Returns the log.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.process.stderr).expect("standard error is text")
    }

    /// Fails if a request has stored something.
    #[track_caller]
    pub fn stored_nothing(&self) {
        for (table, rows) in self.database().sizes() {
            assert_eq!(rows, 0, "{table}");
        }
        let jobs = self.database().count("likewise_jobs WHERE slot IS NULL");
        assert_eq!(jobs, 0, "jobs");
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Waits for the end of the process.
    #[track_caller]
    pub fn wait(&mut self, within: Duration) -> ExitStatus {
        self.process.wait(within)
    }

    /// Returns the log lines that contain this text.
    #[track_caller]
    pub fn logged(&self, text: &str) -> Vec<String> {
        logs::lines_with(&self.process.stderr, text)
    }

    /// Waits until a log line contains this text.
    #[track_caller]
    pub fn until_logged(&self, text: &str) {
        until(&format!("{text:?} to be logged"), PATIENCE, || {
            self.log().contains(text).then_some(()).ok_or(self.log())
        });
    }

    /// Returns the resident memory, in KiB.
    pub fn memory_kib(&self) -> u64 {
        let path = format!("/proc/{}/status", self.process.id());
        let status = fs::read_to_string(path).expect("a running process");
        let resident = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .and_then(|rest| rest.trim().strip_suffix(" kB"))
            .and_then(|number| number.trim().parse().ok());
        resident.expect("a line VmRSS")
    }

    /// Stops the service in order. Returns its setup.
    #[track_caller]
    pub fn stop(mut self) -> Setup {
        self.signal(Signal::INT);
        let status = self.wait(PATIENCE);
        assert!(status.success(), "it stopped with {status}");
        self.end()
    }

    /// Kills the service: no handler runs, nothing is flushed. Returns its setup.
    pub fn kill(self) -> Setup {
        self.end()
    }

    /// Ends the service if it has not ended by itself. Returns its setup.
    pub fn end(self) -> Setup {
        let Self { process, setup, .. } = self;
        drop(process);
        setup
    }
}
