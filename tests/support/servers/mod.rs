//! Real servers for the tests: MariaDB, PostgreSQL, Redis and NATS processes on free ports and in folders of their own.
//! Tests stop, kill and restart them on the same data.
//!
//! `scripts/services env` names the paths of the programs, and `scripts/services install` installs missing ones. A missing
//! server fails the test. The benchmark runs the same servers with other settings.

mod tls;

use std::fs::{self, OpenOptions};
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::time::Duration;

use harness::servers::{Installation, NATS_STORAGE, Programs, ServerError};
pub use harness::servers::{Kind, Port};
use rustix::process::{Pid, Signal, kill_process};

pub use self::tls::Tls;
use super::{PATIENCE, until};

/// A server. Its port and data outlive its process.
#[derive(Debug)]
pub struct Server {
    installation: Installation,
    process: Option<Child>,
    tls: Option<Tls>,
    /// The port for the other nodes of a Redis Cluster.
    bus: Option<Port>,
    /// Arguments of one test.
    more: &'static [&'static str],
}

impl Server {
    /// Starts a server on empty data, and waits until it answers.
    #[track_caller]
    pub fn start(kind: Kind) -> Self {
        let mut server = Self::prepare(kind);
        server.run();
        server
    }

    /// Starts a Redis that is a node of a cluster without other nodes and without slots.
    #[track_caller]
    pub fn cluster_node() -> Self {
        let mut server = Self::prepare(Kind::Redis);
        server.bus = Some(free_port());
        server.run();
        server
    }

    #[track_caller]
    fn prepare(kind: Kind) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        match Installation::new(kind, &PROGRAMS, folder) {
            Ok(installation) => Self {
                installation,
                process: None,
                tls: None,
                bus: None,
                more: &[],
            },
            // Only the benchmark would take its path from a variable.
            Err(ServerError::Unknown { what, .. }) => {
                panic!("cannot find {what}: run `scripts/services install`")
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// Returns the ports of a node of a cluster, for clients and for other nodes.
    #[track_caller]
    pub fn cluster_ports(&self) -> (u16, u16) {
        let bus = self.bus.as_ref().expect("a node of a cluster");
        let own = self.installation.address();
        (own.port(), bus.address().port())
    }

    /// Starts a NATS server with this configuration file, and its own address and folder. Its storage is
    /// [`NATS_STORAGE`], unless the file limits it.
    #[track_caller]
    pub fn nats_with(config: &str) -> Self {
        let mut server = Self::start(Kind::Nats);
        server.stop();
        if config.contains("jetstream") {
            server.configure(config);
        } else {
            server.configure(&format!("{NATS_STORAGE}{config}"));
        }
        server.run();
        server
    }

    /// Adds these arguments, from the next start on, in the place of earlier ones.
    pub const fn set_arguments(&mut self, arguments: &'static [&'static str]) {
        self.more = arguments;
    }

    /// Sets another configuration file for NATS, from the next start on.
    #[track_caller]
    pub fn configure(&self, config: &str) {
        assert_eq!(
            self.kind(),
            Kind::Nats,
            "only NATS has a configuration file"
        );
        let file = self.installation.nats_configuration();
        fs::write(file, config).expect("a file in the temporary folder");
    }

    /// Returns the URL for this user.
    #[track_caller]
    pub fn url_for(&self, user: &str, password: &str) -> String {
        let url = self.url();
        let (scheme, host) = url.split_once("://").expect("a URL");
        format!("{scheme}://{user}:{password}@{host}")
    }

    /// Returns the kind.
    pub const fn kind(&self) -> Kind {
        self.installation.kind()
    }

    /// Returns the URL for Likewise's settings.
    pub fn url(&self) -> String {
        let url = self.installation.url();
        match (self.kind(), &self.tls) {
            (Kind::Redis, Some(_)) => url.replacen("redis://", "rediss://", 1),
            (Kind::Nats, Some(_)) => url.replacen("nats://", "tls://", 1),
            _ => url,
        }
    }

    /// Restarts the server after [`kill`](Self::kill) or [`stop`](Self::stop), on the same data and port.
    #[track_caller]
    pub fn run(&mut self) {
        assert!(self.process.is_none(), "{:?} runs already", self.kind());
        let path = self.installation.folder().join("log");
        let log = OpenOptions::new().create(true).append(true).open(&path);
        let log = log.expect("a log");
        let mut command = Command::new(self.installation.program());
        self.installation.apply_to(&mut command);
        command
            .args(settings(self.kind()))
            .args(self.cluster_arguments())
            .args(self.tls_arguments())
            .args(self.more)
            .current_dir(self.data())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log);
        self.process = Some(command.spawn().expect("the server starts"));
        let what = format!("{:?} to answer", self.kind());
        until(&what, PATIENCE, || {
            // After a kill, PostgreSQL starts only when the last old process has ended.
            let ended = self.process.as_mut().map(Child::try_wait);
            if matches!(ended, Some(Ok(Some(_)))) {
                self.process = Some(command.spawn().expect("the server starts"));
            }
            self.answers().map_err(|error| {
                let log = fs::read_to_string(&path).unwrap_or_default();
                let last: Vec<_> = log.lines().rev().take(10).collect();
                format!("{error}; its log, newest first: {last:#?}")
            })
        });
    }

    /// Kills the server, without flushing.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            // PostgreSQL's other processes would go on serving.
            for child in children(process.id()) {
                let _ = kill_process(child, Signal::KILL);
            }
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Stops the server in order.
    pub fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let signal = match self.kind() {
                Kind::Postgres => Signal::INT,
                Kind::MariaDb | Kind::Redis | Kind::Nats => Signal::TERM,
            };
            let _ = kill_process(Pid::from_child(&process), signal);
            let _ = process.wait();
        }
    }

    /// Suspends the server: connections stay open, and it answers nothing.
    pub fn suspend(&self) {
        self.signal_all(Signal::STOP);
        // On a busy machine a thread may run for a moment.
        let process = self.process.as_ref().expect("a running server").id();
        until("the server to be suspended", PATIENCE, || {
            let mut states = threads(process).into_iter();
            match states.find(|state| state != "T") {
                None => Ok(()),
                Some(state) => Err(state),
            }
        });
    }

    /// Resumes a suspended server.
    pub fn resume(&self) {
        self.signal_all(Signal::CONT);
    }

    /// Returns the data folder.
    pub fn data(&self) -> PathBuf {
        self.installation.data()
    }

    fn signal_all(&self, signal: Signal) {
        let process = self.process.as_ref().expect("a running server");
        let _ = kill_process(Pid::from_child(process), signal);
        for child in children(process.id()) {
            let _ = kill_process(child, signal);
        }
    }

    fn cluster_arguments(&self) -> Vec<String> {
        let Some(bus) = &self.bus else {
            return Vec::new();
        };
        let bus = bus.address().port().to_string();
        [
            ["--cluster-enabled", "yes"],
            ["--cluster-port", &bus],
            ["--cluster-node-timeout", "1500"],
            ["--cluster-replica-validity-factor", "0"],
            ["--repl-diskless-sync-delay", "0"],
        ]
        .concat()
        .into_iter()
        .map(str::to_owned)
        .collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            let _ = kill_process(Pid::from_child(process), Signal::CONT);
            if self.installation.kind() == Kind::Postgres {
                // PostgreSQL removes its shared memory only in an ordered stop.
                let _ = kill_process(Pid::from_child(process), Signal::QUIT);
                let _ = process.wait();
            }
        }
        self.kill();
    }
}

/// Little memory. What is written survives kill -9 of the server; tests do not wait for the disk.
const fn settings(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::MariaDb => &[
            "--max-connections=200",
            "--performance-schema=OFF",
            "--innodb-buffer-pool-size=64M",
            "--innodb-flush-log-at-trx-commit=2",
            "--innodb-buffer-pool-load-at-startup=OFF",
            "--innodb-buffer-pool-dump-at-shutdown=OFF",
            "--key-buffer-size=1M",
            "--aria-pagecache-buffer-size=8M",
        ],
        Kind::Postgres => &[
            "-c",
            "max_connections=200",
            "-c",
            "shared_buffers=32MB",
            "-c",
            "fsync=off",
        ],
        Kind::Redis => &["--appendonly", "yes", "--appendfsync", "no"],
        Kind::Nats => &[],
    }
}

/// Returns the states of a process's threads, in the kernel's letters.
fn threads(process: u32) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).expect("a running process");
    tasks
        .flatten()
        .filter_map(|task| fs::read_to_string(task.path().join("stat")).ok())
        // After the name, which is in parentheses and may contain anything.
        .filter_map(|stat| {
            stat.rsplit_once(") ")?
                .1
                .split(' ')
                .next()
                .map(str::to_owned)
        })
        .collect()
}

/// Returns the child processes of a process.
fn children(process: u32) -> Vec<Pid> {
    let tasks = format!("/proc/{process}/task/{process}/children");
    let listed = fs::read_to_string(tasks).unwrap_or_default();
    listed
        .split_whitespace()
        .filter_map(|number| Pid::from_raw(number.parse().ok()?))
        .collect()
}

/// The programs that `scripts/services env` of this checkout names. A variable that a shell inherited may name those of
/// another one.
static PROGRAMS: LazyLock<Programs> = LazyLock::new(|| {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/services");
    Programs::of_script(&script).unwrap_or_else(|error| panic!("{error}"))
});

/// Returns a program that `scripts/services env` names.
#[track_caller]
pub fn program(variable: &str) -> PathBuf {
    let Some(path) = PROGRAMS.get(variable) else {
        panic!("scripts/services env names no {variable}: run `scripts/services install`");
    };
    path.to_owned()
}

/// Fails unless a program accepts a connection to this address.
fn connects(address: SocketAddr) -> io::Result<()> {
    TcpStream::connect_timeout(&address, Duration::from_secs(1)).map(drop)
}

/// Reserves a port without a listener.
#[track_caller]
pub fn free_port() -> Port {
    Port::free().expect("a free port")
}

/// Waits until a program listens on its port. If it does not, the test fails with the program's log.
#[track_caller]
pub fn until_open(port: &Port, program: &str, log: &Path) {
    until(&format!("{program} to listen"), PATIENCE, || {
        connects(port.address()).map_err(|error| {
            let log = fs::read_to_string(log).unwrap_or_default();
            format!("{error}; its log: {log}")
        })
    });
}
