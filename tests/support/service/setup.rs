//! The folder, the database and the settings of a service, and the programs that run with them.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tempfile::TempDir;

use super::process::{Process, Ran, Verified};
use crate::support::clock::Clock;
use crate::support::database::Database;
use crate::support::servers::{Kind, Server};
use crate::support::{say, tokens};

/// The setup of a service without its process: folder, database and settings. It outlives the process, so that another
/// can start on the same data.
pub struct Setup {
    folder: TempDir,
    database: Database,
    environment: BTreeMap<String, String>,
    runs: AtomicUsize,
    servers: Vec<Arc<Server>>,
    clock: Option<Clock>,
}

/// Limits that no busy machine exceeds.
const PATIENT: [(&str, &str); 3] = [
    ("LIKEWISE_LEASE_SECONDS", "60"),
    ("LIKEWISE_DATABASE_TIMEOUT_SECONDS", "40"),
    ("LIKEWISE_REDIS_TIMEOUT_SECONDS", "10"),
];

impl Setup {
    /// Creates an empty folder, with default settings.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        Self {
            database: Database::sqlite(folder.path()),
            folder,
            environment: BTreeMap::new(),
            runs: AtomicUsize::new(0),
            servers: Vec::new(),
            clock: None,
        }
        .set("LIKEWISE_HTTP_ADDR", "127.0.0.1:0")
        // A busy machine is slow, and its servers are not down. Tests of servers that hang set shorter limits.
        .set("LIKEWISE_READ_TIMEOUT_SECONDS", 30)
        .set("LIKEWISE_REDIS_TIMEOUT_SECONDS", 10)
        .set("LIKEWISE_NATS_TIMEOUT_SECONDS", 10)
    }

    /// Sets the limits that an operator has: a server that hangs is noticed in seconds.
    pub fn with_usual_limits(self) -> Self {
        self.set("LIKEWISE_READ_TIMEOUT_SECONDS", 2)
            .set("LIKEWISE_REDIS_TIMEOUT_SECONDS", 1)
            .set("LIKEWISE_NATS_TIMEOUT_SECONDS", 2)
    }

    /// Creates a setup with a new database on the server of this kind, and a Redis and a NATS of its own.
    #[track_caller]
    pub fn on_parts(database: Kind) -> Self {
        let mut setup = Self::new().on(&Database::hosted(database));
        for (variable, kind) in [
            ("LIKEWISE_REDIS_URL", Kind::Redis),
            ("LIKEWISE_NATS_URL", Kind::Nats),
        ] {
            let server = Arc::new(Server::start(kind));
            setup = setup.set(variable, server.url());
            setup.servers.push(server);
        }
        setup
    }

    /// Creates a setup with the same servers and settings, and the machine's clock.
    pub fn beside(&self) -> Self {
        let mut setup = Self::new().on(&self.database);
        setup.environment.clone_from(&self.environment);
        setup.servers.clone_from(&self.servers);
        setup
    }

    /// Returns the value of a variable.
    #[track_caller]
    pub fn setting(&self, variable: &str) -> String {
        self.environment[variable].clone()
    }

    /// Returns what precedes the names of the tables.
    pub fn table_prefix(&self) -> String {
        let prefix = self.environment.get("LIKEWISE_TABLE_PREFIX");
        prefix.cloned().unwrap_or_default()
    }

    /// Returns the name of the workers' consumer. The tables must be up to date.
    pub fn consumer(&self) -> String {
        let prefix = self.table_prefix();
        let generation = format!("SELECT generation FROM {prefix}likewise_deployment");
        format!("likewise-workers-{}", self.database.texts(&generation)[0])
    }

    /// Returns whether the service has a broker, so that a like is durable before it is in the database.
    pub fn has_broker(&self) -> bool {
        self.environment.contains_key("LIKEWISE_NATS_URL")
    }

    /// Sets an environment variable for all later processes.
    #[allow(clippy::needless_pass_by_value, reason = "for numbers and text alike")]
    pub fn set(mut self, variable: &str, value: impl ToString) -> Self {
        self.environment
            .insert(variable.to_owned(), value.to_string());
        self
    }

    /// Runs all later processes under this wall clock, which the test can step.
    pub fn with_clock(mut self, clock: &Clock) -> Self {
        self.clock = Some(clock.clone());
        self
    }

    /// Requires tokens that are signed with [`SECRET`](tokens::SECRET).
    pub fn with_sign_in(self) -> Self {
        self.with_sign_in_by("LIKEWISE_JWT_SECRET", tokens::SECRET)
    }

    /// Requires tokens that are signed with the key that this variable names.
    pub fn with_sign_in_by(self, variable: &str, key: &str) -> Self {
        self.set("LIKEWISE_AUTH_MODE", "jwt")
            .set(variable, key)
            .set("LIKEWISE_JWT_AUDIENCE", tokens::AUDIENCE)
            .set("LIKEWISE_JWT_ISSUER", tokens::ISSUER)
    }

    /// Adds services with one scope each: `lkw_writer`, `lkw_reader`, `lkw_watcher` and `lkw_operator`.
    pub fn with_services(self) -> Self {
        let services = [
            ("writer", "likes:write:any"),
            ("reader", "likes:read"),
            ("watcher", "admin:read"),
            ("operator", "admin:operate"),
        ];
        let entry = |(name, scope)| tokens::service_token(name, &format!("lkw_{name}"), &[scope]);
        self.write("tokens.toml", services.map(entry).concat());
        self.set("LIKEWISE_TOKENS_FILE", "tokens.toml")
    }

    /// Writes a file into the working directory.
    #[track_caller]
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let (new, path) = (
            self.folder().join(format!("{name}.new")),
            self.folder().join(name),
        );
        fs::write(&new, content).expect("a file in the temporary folder");
        // A service that reads it meanwhile finds the old file or the whole new one.
        fs::rename(new, path).expect("a file in the temporary folder");
    }

    /// Uses the database of another setup.
    pub fn on(mut self, database: &Database) -> Self {
        self.database = database.clone();
        self
    }

    /// Returns the working directory.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Returns the database.
    pub const fn database(&self) -> &Database {
        &self.database
    }

    /// Starts the program without waiting.
    pub fn launch(&self, arguments: &[impl AsRef<OsStr>]) -> Process {
        self.launch_with(arguments, &[])
    }

    /// As [`launch`](Self::launch), with these variables beside those of the setup.
    fn launch_with(&self, arguments: &[impl AsRef<OsStr>], more: &[(&str, &str)]) -> Process {
        let (mut command, run) = self.numbered(arguments);
        let stdout = self.folder().join(format!("stdout.{run}"));
        let stderr = self.folder().join(format!("stderr.{run}"));
        let child = command
            .envs(more.iter().copied())
            .stdin(Stdio::null())
            .stdout(create(&stdout))
            .spawn()
            .expect("the program starts");
        Process {
            child,
            stdout,
            stderr,
        }
    }

    /// Returns the command of a process with the settings, whose log is printed if the test fails.
    pub fn command(&self, arguments: &[impl AsRef<OsStr>]) -> Command {
        self.numbered(arguments).0
    }

    /// Returns the command of a process, and its number.
    fn numbered(&self, arguments: &[impl AsRef<OsStr>]) -> (Command, usize) {
        let run = self.runs.fetch_add(1, Ordering::Relaxed);
        let stderr = self.folder().join(format!("stderr.{run}"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_likewise"));
        for (variable, _) in std::env::vars_os() {
            let name = variable.to_string_lossy();
            if name.starts_with("LIKEWISE_") || name == "RUST_LOG" {
                command.env_remove(&variable);
            }
        }
        if let Some(clock) = &self.clock {
            clock.apply_to(&mut command);
        }
        command
            .env("LIKEWISE_DATABASE_URL", self.database.url())
            .envs(&self.environment)
            .current_dir(self.folder())
            .args(arguments)
            .stderr(create(&stderr));
        (command, run)
    }

    /// As [`run`](Self::run), with long limits. `verify` and `audit` hold no ledger row, so a short lease of the service need
    /// not limit their calls.
    #[track_caller]
    pub fn run_patiently(&self, arguments: &[impl AsRef<OsStr>]) -> Ran {
        self.launch_with(arguments, &PATIENT).finish()
    }

    /// Sets long limits for calls, so that a busy machine does not end them before a test does.
    pub fn with_patience(self) -> Self {
        let set = |setup: Self, (variable, value)| setup.set(variable, value);
        PATIENT.into_iter().fold(self, set)
    }

    /// Runs the program to its end.
    #[track_caller]
    pub fn run(&self, arguments: &[impl AsRef<OsStr>]) -> Ran {
        self.launch(arguments).finish()
    }

    /// Runs `verify`, which waits this many seconds for the ledger to close.
    #[track_caller]
    pub fn verify(&self, wait: u64) -> Verified {
        let ran = self.run_patiently(&["verify", "--json", "--wait", &wait.to_string()]);
        let report = serde_json::from_str(&ran.stdout)
            .unwrap_or_else(|error| panic!("verify printed no JSON ({error}): {ran:?}"));
        Verified {
            code: ran.code,
            report,
        }
    }
}

impl Drop for Setup {
    /// Prints the logs of a failed test before its folder is deleted.
    fn drop(&mut self) {
        const LAST_LINES: usize = 60;
        if !std::thread::panicking() {
            return;
        }
        for run in 0..self.runs.load(Ordering::Relaxed) {
            let log = self.folder().join(format!("stderr.{run}"));
            let log = fs::read_to_string(log).unwrap_or_default();
            let lines: Vec<_> = log.lines().collect();
            let shown = &lines[lines.len().saturating_sub(LAST_LINES)..];
            say(format_args!(
                "--- standard error of run {run}, its last lines ---\n{}",
                shown.join("\n")
            ));
        }
    }
}

fn create(path: &Path) -> File {
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .expect("a file in the temporary folder")
}
