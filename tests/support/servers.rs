//! Real servers for the tests: MariaDB, PostgreSQL, Redis and NATS processes on free ports and in folders of their own.
//! Tests stop, kill and restart them on the same data.
//!
//! `scripts/services env` returns the paths of the programs, and `scripts/services install` installs missing ones. A
//! missing server fails the test.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::{PATIENCE, until};

/// The kinds of server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// MariaDB.
    MariaDb,
    /// PostgreSQL.
    Postgres,
    /// Redis.
    Redis,
    /// NATS with JetStream.
    Nats,
}

/// A server. Its port and data outlive its process.
#[derive(Debug)]
pub struct Server {
    kind: Kind,
    port: Port,
    folder: TempDir,
    process: Option<Child>,
    tls: Option<Tls>,
    /// The port for the other nodes of a Redis Cluster.
    bus: Option<Port>,
}

/// What a server with TLS has: it demands TLS from every client, and a certificate that this authority has signed.
#[derive(Debug)]
pub struct Tls {
    /// The file of the authority.
    pub ca: PathBuf,
    /// The file of the server's certificate.
    pub cert: PathBuf,
    /// The file of its key.
    pub key: PathBuf,
}

/// Storage for the largest stream of a test, whatever the free disk space. By default, NATS offers three quarters of
/// that.
const ROOM: &str = "jetstream { max_file_store: 64GB }\n";

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
        server.bus = Some(Port::free());
        server.run();
        server
    }

    #[track_caller]
    fn prepare(kind: Kind) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        // PostgreSQL runs as an ordinary user, who must be able to enter the folder.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o711)).expect("a mode");
        let data = folder.path().join("data");
        match kind {
            Kind::MariaDb => copy(&template("mariadb"), &data),
            Kind::Postgres => copy(&template("postgres"), &data),
            Kind::Redis | Kind::Nats => fs::create_dir(&data).expect("a folder"),
        }
        let server = Self {
            kind,
            port: Port::free(),
            folder,
            process: None,
            tls: None,
            bus: None,
        };
        if kind == Kind::Nats {
            server.configure(ROOM);
        }
        server
    }

    /// Returns the ports of a node of a cluster, for clients and for other nodes.
    #[track_caller]
    pub fn cluster_ports(&self) -> (u16, u16) {
        let bus = self.bus.as_ref().expect("a node of a cluster");
        (self.port.number, bus.number)
    }

    /// Starts a server on empty data that accepts connections with TLS only.
    #[track_caller]
    pub fn with_tls(kind: Kind, tls: Tls) -> Self {
        let mut server = Self::start(kind);
        server.with_tls_from_now(tls);
        server
    }

    /// Starts it again on the same data and port, and accepts connections with TLS only.
    #[track_caller]
    pub fn with_tls_from_now(&mut self, tls: Tls) {
        self.stop();
        self.demand_tls(&tls);
        self.tls = Some(tls);
        self.run();
    }

    /// Starts it again without TLS, on the same data and port.
    #[track_caller]
    pub fn without_tls(&mut self) {
        self.stop();
        self.tls = None;
        self.run();
    }

    /// Writes the files that a server with TLS needs.
    fn demand_tls(&self, Tls { ca, cert, key }: &Tls) {
        let file = |name: &str, text: &str| {
            fs::write(self.folder.path().join(name), text).expect("a file");
        };
        match self.kind {
            Kind::MariaDb => file(
                "init.sql",
                "ALTER USER 'likewise'@'127.0.0.1' REQUIRE X509;\n",
            ),
            Kind::Postgres => {
                file(
                    "hba",
                    "hostssl all all 127.0.0.1/32 trust clientcert=verify-full\n",
                );
                // PostgreSQL insists on a key of its own.
                let owner = fs::metadata(self.data()).expect("the data folder");
                for (from, name) in [(ca, "ca.pem"), (cert, "tls.pem"), (key, "tls.key")] {
                    let to = self.folder.path().join(name);
                    fs::copy(from, &to).expect("a copy");
                    fs::set_permissions(&to, fs::Permissions::from_mode(0o600)).expect("a mode");
                    std::os::unix::fs::chown(&to, Some(owner.uid()), Some(owner.gid()))
                        .expect("an owner");
                }
            }
            Kind::Redis => {}
            Kind::Nats => self.configure(&format!(
                "{ROOM}tls {{ cert_file: '{}', key_file: '{}', ca_file: '{}', verify: true }}\n",
                cert.display(),
                key.display(),
                ca.display()
            )),
        }
    }

    /// The arguments that make a server demand TLS.
    fn tls_arguments(&self) -> Vec<String> {
        let Some(Tls { ca, cert, key }) = &self.tls else {
            return Vec::new();
        };
        let (ca, cert, key) = (ca.display(), cert.display(), key.display());
        let folder = self.folder.path().display();
        match self.kind {
            Kind::MariaDb => vec![
                format!("--ssl-ca={ca}"),
                format!("--ssl-cert={cert}"),
                format!("--ssl-key={key}"),
                "--require-secure-transport=ON".to_owned(),
                format!("--init-file={folder}/init.sql"),
            ],
            Kind::Postgres => [
                "ssl=on".to_owned(),
                format!("ssl_ca_file={folder}/ca.pem"),
                format!("ssl_cert_file={folder}/tls.pem"),
                format!("ssl_key_file={folder}/tls.key"),
                format!("hba_file={folder}/hba"),
            ]
            .into_iter()
            .flat_map(|setting| ["-c".to_owned(), setting])
            .collect(),
            Kind::Redis => [
                "--tls-port",
                &self.port.number.to_string(),
                "--tls-ca-cert-file",
                &ca.to_string(),
                "--tls-cert-file",
                &cert.to_string(),
                "--tls-key-file",
                &key.to_string(),
            ]
            .map(str::to_owned)
            .to_vec(),
            Kind::Nats => Vec::new(),
        }
    }

    /// Starts a NATS server with this configuration file, and its own address and folder. Its storage is [`ROOM`], unless
    /// the file limits it.
    #[track_caller]
    pub fn nats_with(config: &str) -> Self {
        let mut server = Self::start(Kind::Nats);
        server.stop();
        if config.contains("jetstream") {
            server.configure(config);
        } else {
            server.configure(&format!("{ROOM}{config}"));
        }
        server.run();
        server
    }

    /// Sets another configuration file for NATS, from the next start on.
    #[track_caller]
    pub fn configure(&self, config: &str) {
        assert_eq!(self.kind, Kind::Nats, "only NATS has a configuration file");
        fs::write(self.config(), config).expect("a file in the temporary folder");
    }

    fn config(&self) -> PathBuf {
        self.folder.path().join("config")
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
        self.kind
    }

    /// Returns the URL for Likewise's settings.
    pub fn url(&self) -> String {
        let port = self.port.number;
        match self.kind {
            Kind::Redis if self.tls.is_some() => format!("rediss://127.0.0.1:{port}"),
            Kind::Nats if self.tls.is_some() => format!("tls://127.0.0.1:{port}"),
            Kind::MariaDb => format!("mysql://likewise@127.0.0.1:{port}/likewise"),
            Kind::Postgres => format!("postgres://likewise@127.0.0.1:{port}/likewise"),
            Kind::Redis => format!("redis://127.0.0.1:{port}"),
            Kind::Nats => format!("nats://127.0.0.1:{port}"),
        }
    }

    /// Restarts the server after [`kill`](Self::kill) or [`stop`](Self::stop), on the same data and port.
    #[track_caller]
    pub fn run(&mut self) {
        assert!(self.process.is_none(), "{:?} runs already", self.kind);
        let data = self.folder.path().join("data");
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.folder.path().join("log"))
            .expect("a log");
        let mut command = self.command(&data);
        command.args(self.tls_arguments());
        command
            .current_dir(&data)
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log);
        self.process = Some(command.spawn().expect("the server starts"));
        let what = format!("{:?} to answer", self.kind);
        until(&what, PATIENCE, || {
            // After a kill, PostgreSQL starts only when the last old process has ended.
            let ended = self.process.as_mut().map(Child::try_wait);
            if matches!(ended, Some(Ok(Some(_)))) {
                self.process = Some(command.spawn().expect("the server starts"));
            }
            self.answers().map_err(|error| {
                let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
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
            let signal = match self.kind {
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
        self.folder.path().join("data")
    }

    /// Returns the process id.
    #[allow(dead_code, reason = "the benchmark reads the CPU time of the process")]
    pub fn id(&self) -> u32 {
        self.process.as_ref().expect("a running server").id()
    }

    fn signal_all(&self, signal: Signal) {
        let process = self.process.as_ref().expect("a running server");
        let _ = kill_process(Pid::from_child(process), signal);
        for child in children(process.id()) {
            let _ = kill_process(child, signal);
        }
    }

    fn command(&self, data: &Path) -> Command {
        let port = self.port.number.to_string();
        match self.kind {
            Kind::MariaDb => {
                let mut command = Command::new(program("LIKEWISE_TEST_MARIADBD"));
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
                    "--max-connections=200",
                    "--performance-schema=OFF",
                    "--innodb-buffer-pool-size=64M",
                    // What is written survives kill -9 of the server; tests do not wait for the disk.
                    "--innodb-flush-log-at-trx-commit=2",
                    "--innodb-use-native-aio=OFF",
                    "--innodb-buffer-pool-load-at-startup=OFF",
                    "--innodb-buffer-pool-dump-at-shutdown=OFF",
                    "--key-buffer-size=1M",
                    "--aria-pagecache-buffer-size=8M",
                ]);
                command
            }
            Kind::Postgres => {
                let mut command =
                    Command::new(program("LIKEWISE_TEST_POSTGRES_BIN").join("postgres"));
                command.arg("-D").arg(data).args(["-p", &port]);
                for setting in [
                    "listen_addresses=127.0.0.1",
                    "unix_socket_directories=",
                    "max_connections=200",
                    "shared_buffers=32MB",
                    "fsync=off",
                    "dynamic_shared_memory_type=mmap",
                ] {
                    command.args(["-c", setting]);
                }
                let owner = fs::metadata(data).expect("the data folder");
                if rustix::process::geteuid().is_root() {
                    command.uid(owner.uid()).gid(owner.gid());
                }
                command
            }
            Kind::Redis => {
                let plain = if self.tls.is_some() { "0" } else { &port };
                let mut command = Command::new(program("LIKEWISE_TEST_REDIS_SERVER"));
                command
                    .args(["--bind", "127.0.0.1", "--port", plain, "--dir"])
                    .arg(data);
                command.args(["--save", "", "--daemonize", "no"]);
                // What is written survives kill -9; tests do not wait for the disk.
                command.args(["--appendonly", "yes", "--appendfsync", "no"]);
                if let Some(bus) = &self.bus {
                    command.args(["--cluster-enabled", "yes", "--cluster-port"]);
                    command.arg(bus.number.to_string());
                    command.args(["--cluster-node-timeout", "1500"]);
                    command.args(["--cluster-replica-validity-factor", "0"]);
                    command.args(["--repl-diskless-sync-delay", "0"]);
                    if self.tls.is_some() {
                        command.args(["--tls-cluster", "yes"]);
                    }
                }
                command
            }
            Kind::Nats => {
                let mut command = Command::new(program("LIKEWISE_TEST_NATS_SERVER"));
                if self.config().exists() {
                    command.arg("--config").arg(self.config());
                }
                command.args([
                    "--addr",
                    "127.0.0.1",
                    "--port",
                    &port,
                    "--jetstream",
                    "--store_dir",
                ]);
                command.arg(data);
                command
            }
        }
    }

    /// Returns whether the server answers its protocol.
    fn answers(&self) -> Result<(), String> {
        let address = self.port.address();
        let text = |error: std::io::Error| error.to_string();
        let mut connection =
            TcpStream::connect_timeout(&address, Duration::from_secs(1)).map_err(text)?;
        connection
            .set_read_timeout(Some(Duration::from_secs(1)))
            .map_err(text)?;
        if self.kind == Kind::Redis && self.tls.is_some() {
            // It hangs up on a client without TLS, but it listens.
            return Ok(());
        }
        let question: &[u8] = match self.kind {
            Kind::MariaDb | Kind::Nats => b"",
            Kind::Postgres => b"\0\0\0\x29\0\x03\0\0user\0likewise\0database\0likewise\0\0",
            Kind::Redis => b"PING\r\n",
        };
        connection.write_all(question).map_err(text)?;
        let mut answer = [0; 2_048];
        let length = connection.read(&mut answer).map_err(text)?;
        let answer = &answer[..length];
        let ready = match self.kind {
            Kind::MariaDb => answer.get(4) == Some(&10),
            Kind::Postgres if self.tls.is_some() => {
                String::from_utf8_lossy(answer).contains("no pg_hba.conf entry")
            }
            Kind::Postgres => answer.first() == Some(&b'R'),
            Kind::Redis => answer.starts_with(b"+PONG"),
            Kind::Nats => String::from_utf8_lossy(answer).contains("\"jetstream\":true"),
        };
        if ready {
            return Ok(());
        }
        Err(String::from_utf8_lossy(answer).into_owned())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            let _ = kill_process(Pid::from_child(process), Signal::CONT);
            if self.kind == Kind::Postgres {
                // PostgreSQL removes its shared memory only in an ordered stop.
                let _ = kill_process(Pid::from_child(process), Signal::QUIT);
                let _ = process.wait();
            }
        }
        self.kill();
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

/// Returns the variables of `scripts/services env`.
static ENVIRONMENT: LazyLock<BTreeMap<String, String>> = LazyLock::new(|| {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/services");
    let ran = Command::new(&script)
        .arg("env")
        .output()
        .expect("scripts/services runs");
    String::from_utf8_lossy(&ran.stdout)
        .lines()
        .filter_map(|line| line.strip_prefix("export ")?.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.trim_matches('\'').to_owned()))
        .collect()
});

/// Returns a program that `scripts/services install` installed.
#[track_caller]
pub fn program(variable: &str) -> PathBuf {
    let Some(path) = ENVIRONMENT.get(variable) else {
        panic!("scripts/services env names no {variable}: run `scripts/services install` first");
    };
    PathBuf::from(path)
}

fn template(name: &str) -> PathBuf {
    program("LIKEWISE_TEST_TEMPLATES").join(name)
}

#[track_caller]
fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp")
        .args(["-a", "--reflink=auto", "--sparse=always"])
        .args([from, to])
        .status()
        .expect("cp runs");
    assert!(copied.success(), "{} is not there to copy", from.display());
}

/// A port that is reserved for a test while this value lives.
///
/// The port is below the ephemeral range. Within it, a client that retries a dead server can end up connected to
/// itself. The listener on another loopback address keeps other tests, also in other processes, from choosing the same
/// port.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _claim: TcpListener,
}

impl Port {
    /// Reserves a port without a listener.
    pub fn free() -> Self {
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
                return Self {
                    number,
                    _claim: claim,
                };
            }
        }
        panic!("no port between 20000 and 29999 is free");
    }

    /// Waits until a program listens on it. If it does not, the test fails with the program's log.
    #[track_caller]
    pub fn until_open(&self, program: &str, log: &Path) {
        until(&format!("{program} to listen"), PATIENCE, || {
            let connected = TcpStream::connect(self.address());
            connected.map(drop).map_err(|error| {
                let log = fs::read_to_string(log).unwrap_or_default();
                format!("{error}; its log: {log}")
            })
        });
    }

    /// Returns the address on loopback with this port.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.number))
    }
}
