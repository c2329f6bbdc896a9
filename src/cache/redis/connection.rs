//! The connection to a Redis server: whether it is reachable, accepts writes, and is the same one as before.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::aio::{ConnectionLike, ConnectionManager, ConnectionManagerConfig};
use redis::{
    Client, ClientTlsConfig, Cmd, ErrorKind, FromRedisValue, Pipeline, RedisError, ServerErrorKind,
    TlsCertificates, Value,
};
use tokio::runtime::{Handle, Id};

use crate::cache::CacheError;
use crate::config::RedisOptions;

/// A connection for each runtime of the process, which opens at its first use and reopens after failures.
pub(super) struct RedisConnection {
    client: Client,
    config: ConnectionManagerConfig,
    /// By runtime, because a connection and its timers work only while the runtime that made them runs, and those of the
    /// HTTP workers end before the actors have drained.
    managers: Mutex<HashMap<Id, ConnectionManager>>,
    /// The last known `run_id` of the server: a server with a different one may have stale data.
    run: Mutex<Option<String>>,
    /// Set when a call found the server unreachable, so that not every call waits for the time-out, or read-only, so that its
    /// data may be stale. [`restarted`](Self::restarted), which is polled, clears it after a successful write.
    away: AtomicBool,
}

/// Returns a client of the server at this URL, with the authority and the certificate of these settings.
pub(super) fn client(url: &str, options: &RedisOptions) -> Result<Client, CacheError> {
    let unusable = |reason: &dyn std::fmt::Display| {
        CacheError::Unavailable(format!("LIKEWISE_REDIS_URL: {reason}"))
    };
    let files = (&options.tls_ca, &options.tls_cert, &options.tls_key);
    if let (None, None, None) = files {
        return Client::open(url).map_err(|error| unusable(&error));
    }
    if !url.starts_with("rediss://") {
        return Err(unusable(
            &"LIKEWISE_REDIS_TLS_CA, _CERT and _KEY need a URL that begins with rediss:// or rediss+cluster://",
        ));
    }
    let read = |setting: &str, path: &Path| {
        std::fs::read(path).map_err(|error| {
            CacheError::Unavailable(format!(
                "cannot read {}, which {setting} names: {error}",
                path.display()
            ))
        })
    };
    let client_tls = match (&options.tls_cert, &options.tls_key) {
        (Some(cert), Some(key)) => Some(ClientTlsConfig {
            client_cert: read("LIKEWISE_REDIS_TLS_CERT", cert)?,
            client_key: read("LIKEWISE_REDIS_TLS_KEY", key)?,
        }),
        (None, None) => None,
        _ => {
            return Err(unusable(
                &"LIKEWISE_REDIS_TLS_CERT and LIKEWISE_REDIS_TLS_KEY need each other",
            ));
        }
    };
    let root_cert = options
        .tls_ca
        .as_deref()
        .map(|path| read("LIKEWISE_REDIS_TLS_CA", path))
        .transpose()?;
    let certificates = TlsCertificates {
        client_tls,
        root_cert,
    };
    Client::build_with_tls(url, certificates).map_err(|error| unusable(&error))
}

impl RedisConnection {
    /// Creates a connection to the server of this client. A round trip may take `timeout`.
    pub(super) fn new(client: Client, timeout: Duration) -> Self {
        Self {
            client,
            config: ConnectionManagerConfig::new()
                .set_connection_timeout(Some(timeout))
                .set_response_timeout(Some(timeout))
                .set_number_of_retries(1)
                .set_min_delay(Duration::from_millis(50))
                .set_max_delay(Duration::from_millis(500)),
            managers: Mutex::default(),
            run: Mutex::default(),
            away: AtomicBool::new(false),
        }
    }

    /// Returns whether an earlier call found the server unreachable, and it has not answered since.
    pub(super) fn is_away(&self) -> bool {
        self.away.load(Ordering::Relaxed)
    }

    /// Sends commands in one round trip. Returns their replies, among them the errors of single commands.
    pub(super) async fn send(&self, commands: &Pipeline) -> Result<Vec<Value>, CacheError> {
        let mut connection = self.connection()?;
        self.heard(
            connection
                .req_packed_commands(commands, 0, commands.len())
                .await,
        )
    }

    /// As [`send`](Self::send), even if the server is known to be down.
    pub(super) async fn try_send(&self, commands: &Pipeline) -> Result<Vec<Value>, CacheError> {
        let mut connection = self.manager()?;
        self.heard(
            connection
                .req_packed_commands(commands, 0, commands.len())
                .await,
        )
    }

    /// Lets the server know a script.
    pub(super) async fn load(&self, script: &str) -> Result<(), CacheError> {
        let mut load = redis::cmd("SCRIPT");
        load.arg("LOAD").arg(script);
        self.query_one::<String>(&load).await.map(drop)
    }

    /// Runs commands in one round trip. Returns their replies.
    pub(super) async fn query<T: FromRedisValue>(
        &self,
        commands: &Pipeline,
    ) -> Result<Vec<T>, CacheError> {
        if commands.is_empty() {
            return Ok(Vec::new());
        }
        let mut connection = self.connection()?;
        self.heard(commands.query_async(&mut connection).await)
    }

    /// Runs one command.
    pub(super) async fn query_one<T: FromRedisValue>(
        &self,
        command: &Cmd,
    ) -> Result<T, CacheError> {
        let mut connection = self.connection()?;
        self.heard(command.query_async(&mut connection).await)
    }

    /// Runs calls of a script in one round trip. A restarted server does not know the script; then no call has run, and all
    /// run again after the script is loaded.
    pub(super) async fn call_script(
        &self,
        calls: &Pipeline,
        script: &str,
    ) -> Result<Vec<Value>, CacheError> {
        if calls.is_empty() {
            return Ok(Vec::new());
        }
        let mut connection = self.connection()?;
        let outcome = calls.query_async(&mut connection).await;
        let unknown = ErrorKind::Server(ServerErrorKind::NoScript);
        if !matches!(&outcome, Err(error) if error.kind() == unknown) {
            return self.heard(outcome);
        }
        let mut load = redis::cmd("SCRIPT");
        load.arg("LOAD").arg(script);
        let _: String = self.heard(load.query_async(&mut connection).await)?;
        self.heard(calls.query_async(&mut connection).await)
    }

    /// Succeeds if the server accepts a write of this key.
    pub(super) async fn ping(&self, probe_key: &str) -> Result<(), CacheError> {
        let mut connection = self.manager()?;
        let probed = write_probe(probe_key).query_async(&mut connection).await;
        self.heard(probed)
    }

    /// Returns whether the server restarted or refused writes since the last call. Writes this key.
    pub(super) async fn restarted(&self, probe_key: &str) -> Result<bool, CacheError> {
        let run = match self.current_run(probe_key).await {
            Ok(run) => run,
            Err(error) => {
                // Its earlier state is unknown: when it answers, it counts as restarted.
                self.known_run().get_or_insert_default();
                return Err(error);
            }
        };
        let known = self.known_run().replace(run.clone());
        Ok(known.is_some_and(|known| known != run))
    }

    /// Tries a write. Returns the `run_id` of the server.
    async fn current_run(&self, probe_key: &str) -> Result<String, CacheError> {
        let mut connection = self.manager()?;
        let mut probe = Pipeline::with_capacity(2);
        probe.add_command(write_probe(probe_key)).ignore();
        probe.cmd("INFO").arg("server");
        let probed = probe.query_async(&mut connection).await;
        let (info,): (String,) = self.heard(probed)?;
        self.away.store(false, Ordering::Relaxed);
        let run = info.lines().find_map(|line| line.strip_prefix("run_id:"));
        run.map(|run| run.trim().to_owned())
            .ok_or_else(|| CacheError::Unavailable("the server does not name its run".into()))
    }

    /// Returns the connection, unless the server is known to be down.
    fn connection(&self) -> Result<ConnectionManager, CacheError> {
        if self.is_away() {
            return Err(CacheError::Away);
        }
        self.manager()
    }

    /// Returns the connection of the current runtime.
    fn manager(&self) -> Result<ConnectionManager, CacheError> {
        let runtime = Handle::current().id();
        let mut managers = self.lock_managers();
        if let Some(manager) = managers.get(&runtime) {
            return Ok(manager.clone());
        }
        let manager =
            ConnectionManager::new_lazy_with_config(self.client.clone(), self.config.clone())
                .map_err(|error| CacheError::Unavailable(error.to_string()))?;
        managers.insert(runtime, manager.clone());
        Ok(manager)
    }

    /// Records from the outcome of a call whether the server is down or refuses writes.
    fn heard<T>(&self, outcome: Result<T, RedisError>) -> Result<T, CacheError> {
        outcome.map_err(|error| {
            if is_read_only(&error) {
                self.demoted();
                return CacheError::ReadOnly(error.to_string());
            }
            let is_away =
                error.is_timeout() || error.is_io_error() || error.is_connection_dropped();
            if is_away && !self.away.swap(true, Ordering::Relaxed) {
                self.reconnect();
            }
            if is_of_cluster(&error) {
                return CacheError::Unavailable(format!(
                    "{error}: the server is a node of a Redis Cluster, so begin LIKEWISE_REDIS_URL with \
                     redis+cluster:// or rediss+cluster://"
                ));
            }
            CacheError::Unavailable(error.to_string())
        })
    }

    /// Records that the server refuses writes. Its data may be stale, so it counts as restarted when it accepts writes again.
    fn demoted(&self) {
        self.away.store(true, Ordering::Relaxed);
        *self.known_run() = Some(String::new());
        self.reconnect();
    }

    /// Lets every runtime open a new connection, which resolves the name again.
    fn reconnect(&self) {
        self.lock_managers().clear();
    }

    fn lock_managers(&self) -> MutexGuard<'_, HashMap<Id, ConnectionManager>> {
        self.managers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known_run(&self) -> MutexGuard<'_, Option<String>> {
        self.run.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns a write of a short-lived key. A read would succeed on a replica.
pub(super) fn write_probe(key: &str) -> Cmd {
    let mut probe = redis::cmd("SET");
    probe.arg(key).arg(1).arg("PX").arg(1_000);
    probe
}

/// Returns whether only a node of a cluster gives this answer.
fn is_of_cluster(error: &RedisError) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Server(
            ServerErrorKind::Moved | ServerErrorKind::Ask | ServerErrorKind::CrossSlot
        )
    )
}

/// Returns whether the server refuses writes, as a replica does.
fn is_read_only(error: &RedisError) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown)
    )
}
