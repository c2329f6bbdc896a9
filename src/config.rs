//! Typed settings: built-in defaults < `likewise.toml` < environment < flags.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::actors::behavior_recorder::RecorderOptions;
use crate::actors::cache_writer::CacheOptions;
use crate::actors::event_publisher::PublisherOptions;
use crate::actors::kit::GuardianPolicy;
use crate::actors::nats_subscriber::SubscriberOptions;
use crate::actors::retry_scheduler::RetryOptions;
use crate::actors::sync_publisher::SyncOptions;
use crate::cache::RedisOptions;
use crate::domain::Backoff;
use crate::nats::NatsOptions;
use crate::store::StoreOptions;

/// A settings file's name in the working directory, read if it is there.
pub const FILE: &str = "likewise.toml";

/// What a process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Both of the others.
    All,
    /// Accepts likes and publishes them.
    Api,
    /// Takes events from NATS, records them and brings the read models up to them.
    Worker,
}

impl Role {
    /// The word for it in settings and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Api => "api",
            Self::Worker => "worker",
        }
    }

    /// Whether it serves the like API.
    #[must_use]
    pub const fn is_api(self) -> bool {
        matches!(self, Self::All | Self::Api)
    }

    /// Whether it takes events from NATS and claims due ledger rows.
    #[must_use]
    pub const fn is_worker(self) -> bool {
        matches!(self, Self::All | Self::Worker)
    }
}

/// Settings as flags, environment or file give them; what is absent is left to the next of these.
#[derive(Debug, Clone, Default, clap::Args, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Given {
    /// The database: sqlite://FILE, mysql://USER:PASSWORD@HOST:PORT/DATABASE or postgres://...
    #[arg(
        long,
        env = "LIKEWISE_DATABASE_URL",
        global = true,
        hide_env_values = true,
        hide_env_values = true,
        value_name = "URL"
    )]
    pub database_url: Option<String>,
    /// The cache: redis://HOST:PORT; without it, the cache is this process's own
    #[arg(
        long,
        env = "LIKEWISE_REDIS_URL",
        global = true,
        hide_env_values = true,
        value_name = "URL"
    )]
    pub redis_url: Option<String>,
    /// The broker: nats://HOST:PORT; without it, likes are recorded directly
    #[arg(
        long,
        env = "LIKEWISE_NATS_URL",
        global = true,
        hide_env_values = true,
        value_name = "URL"
    )]
    pub nats_url: Option<String>,
    /// What this process does: api (accept and publish), worker (take from NATS and record) or all
    #[arg(long, env = "LIKEWISE_ROLE", global = true, value_name = "ROLE")]
    pub role: Option<Role>,
    /// NATS credentials file
    #[arg(
        long,
        env = "LIKEWISE_NATS_CREDENTIALS_FILE",
        global = true,
        value_name = "FILE"
    )]
    pub nats_credentials_file: Option<PathBuf>,
    /// Certificate authority of the NATS servers (PEM); asks for TLS
    #[arg(long, env = "LIKEWISE_NATS_TLS_CA", global = true, value_name = "FILE")]
    pub nats_tls_ca: Option<PathBuf>,
    /// Certificate to show to the NATS servers (PEM)
    #[arg(
        long,
        env = "LIKEWISE_NATS_TLS_CERT",
        global = true,
        value_name = "FILE"
    )]
    pub nats_tls_cert: Option<PathBuf>,
    /// Key of that certificate (PEM)
    #[arg(
        long,
        env = "LIKEWISE_NATS_TLS_KEY",
        global = true,
        value_name = "FILE"
    )]
    pub nats_tls_key: Option<PathBuf>,
    /// How many NATS servers keep each message
    #[arg(
        long,
        env = "LIKEWISE_NATS_REPLICAS",
        global = true,
        value_name = "SERVERS"
    )]
    pub nats_replicas: Option<usize>,
    /// How long the stream keeps messages, done or not
    #[arg(
        long,
        env = "LIKEWISE_NATS_MAX_AGE_SECONDS",
        global = true,
        value_name = "SECONDS"
    )]
    pub nats_max_age_seconds: Option<u64>,
    /// How much the stream may hold before likes are recorded directly instead
    #[arg(
        long,
        env = "LIKEWISE_NATS_MAX_BYTES",
        global = true,
        value_name = "BYTES"
    )]
    pub nats_max_bytes: Option<i64>,
    /// How long a cache entry on Redis lives that nothing changes
    #[arg(
        long,
        env = "LIKEWISE_CACHE_TTL_SECONDS",
        global = true,
        value_name = "SECONDS"
    )]
    pub cache_ttl_seconds: Option<u64>,
    /// Where to listen
    #[arg(
        long,
        env = "LIKEWISE_HTTP_ADDR",
        global = true,
        value_name = "IP:PORT"
    )]
    pub http_addr: Option<SocketAddr>,
    /// The bearer token that /admin asks for; without one it is open, on loopback only
    #[arg(
        long,
        env = "LIKEWISE_ADMIN_TOKEN",
        global = true,
        hide_env_values = true,
        value_name = "TOKEN"
    )]
    pub admin_token: Option<String>,
    /// The most events that may wait or be worked on in each actor's mailbox
    #[arg(
        long,
        env = "LIKEWISE_MAILBOX_CAPACITY",
        global = true,
        value_name = "EVENTS"
    )]
    pub mailbox_capacity: Option<usize>,
    /// The most events in one transaction
    #[arg(
        long,
        env = "LIKEWISE_BATCH_SIZE",
        global = true,
        value_name = "EVENTS"
    )]
    pub batch_size: Option<usize>,
    /// How long a worker holds ledger rows before another may take them
    #[arg(
        long,
        env = "LIKEWISE_LEASE_SECONDS",
        global = true,
        value_name = "SECONDS"
    )]
    pub lease_seconds: Option<u64>,
    /// How many failed attempts a ledger row may have before it is dead
    #[arg(
        long,
        env = "LIKEWISE_MAX_RETRIES",
        global = true,
        value_name = "ATTEMPTS"
    )]
    pub max_retries: Option<i32>,
    /// The most pairs that the in-process cache holds, at about 100 bytes each
    #[arg(
        long,
        env = "LIKEWISE_CACHE_PAIRS",
        global = true,
        value_name = "PAIRS"
    )]
    pub cache_pairs: Option<usize>,
    /// How long one database call may take
    #[arg(
        long,
        env = "LIKEWISE_DATABASE_TIMEOUT_SECONDS",
        global = true,
        value_name = "SECONDS"
    )]
    pub database_timeout_seconds: Option<u64>,
    /// Let POST /admin/faults make actors panic, to see them survive; for tests only
    #[arg(long, env = "LIKEWISE_FAULT_INJECTION", global = true, hide = true, num_args = 0..=1, default_missing_value = "true")]
    pub fault_injection: Option<bool>,
}

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The settings file cannot be read.
    #[error("cannot read {path}: {reason}")]
    Unreadable {
        /// The file.
        path: String,
        /// Why.
        reason: String,
    },
    /// The settings file says something that no setting is.
    #[error("{path} is not a valid settings file: {reason}")]
    Invalid {
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A setting is out of range.
    #[error("{setting} must be {expected}, got {found}")]
    OutOfRange {
        /// The setting's environment variable.
        setting: &'static str,
        /// What it may be.
        expected: &'static str,
        /// What it is.
        found: String,
    },
    /// It would listen where others can reach it, without knowing who they are.
    #[error(
        "refusing to listen on {0}: no authentication is configured, so anyone who can reach it could \
         like in anyone's name; listen on a loopback address (LIKEWISE_HTTP_ADDR=127.0.0.1:8080) and \
         put a gateway that signs users in before it"
    )]
    Open(SocketAddr),
}

/// The settings of a process.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The database.
    pub store: StoreOptions,
    /// The cache on Redis, if there is one.
    pub redis: Option<RedisOptions>,
    /// The broker, if there is one.
    pub nats: Option<NatsOptions>,
    /// What this process does.
    pub role: Role,
    /// How the event publisher works.
    pub publisher: PublisherOptions,
    /// How the subscriber works.
    pub subscriber: SubscriberOptions,
    /// Where to listen.
    pub http_addr: SocketAddr,
    /// The bearer token that `/admin` asks for.
    pub admin_token: Option<String>,
    /// The most events in each actor's mailbox.
    pub mailbox_capacity: usize,
    /// How the recorder works.
    pub recorder: RecorderOptions,
    /// How the sync publisher works.
    pub sync: SyncOptions,
    /// How the retry scheduler works.
    pub retry: RetryOptions,
    /// How the cache writer works.
    pub cache: CacheOptions,
    /// The most pairs that the in-process cache holds.
    pub cache_pairs: usize,
    /// When actors are restarted.
    pub guardian: GuardianPolicy,
    /// After how long without progress an actor with work is called stuck.
    pub stall_after: Duration,
    /// How long a shutdown may take to drain.
    pub drain_timeout: Duration,
    /// Whether actors can be made to panic.
    pub fault_injection: bool,
}

impl Given {
    /// Completes what flags and environment have given from the settings file, if there is one at
    /// `path`, and the defaults.
    ///
    /// # Errors
    /// If the file cannot be used or a setting is out of range.
    pub fn settle(self, path: &Path) -> Result<Settings, ConfigError> {
        let file = Self::from_file(path)?;
        let from_file = file.unwrap_or_default();
        let lease = Duration::from_secs(in_range(
            "LIKEWISE_LEASE_SECONDS",
            self.lease_seconds.or(from_file.lease_seconds).unwrap_or(15),
            1..=3_600,
            "between 1 and 3600",
        )?);
        let batch_size = in_range(
            "LIKEWISE_BATCH_SIZE",
            self.batch_size.or(from_file.batch_size).unwrap_or(1_000),
            1..=10_000,
            "between 1 and 10000",
        )?;
        let mailbox_capacity = in_range(
            "LIKEWISE_MAILBOX_CAPACITY",
            self.mailbox_capacity
                .or(from_file.mailbox_capacity)
                .unwrap_or(8_192),
            1..=1_000_000,
            "between 1 and 1000000",
        )?;
        let database_timeout = Duration::from_secs(in_range(
            "LIKEWISE_DATABASE_TIMEOUT_SECONDS",
            self.database_timeout_seconds
                .or(from_file.database_timeout_seconds)
                .unwrap_or(10),
            1..=600,
            "between 1 and 600",
        )?);
        let redis_url = self.redis_url.or(from_file.redis_url);
        let nats_url = self.nats_url.or(from_file.nats_url);
        let url = self
            .database_url
            .or(from_file.database_url)
            .unwrap_or_else(|| "sqlite://likewise.db".to_owned());
        Ok(Settings {
            redis: given(redis_url).map(|url| RedisOptions {
                url,
                timeout: Duration::from_secs(1),
                time_to_live: Duration::from_secs(
                    self.cache_ttl_seconds
                        .or(from_file.cache_ttl_seconds)
                        .unwrap_or(86_400)
                        .max(1),
                ),
                pairs_per_resource: 10_000,
            }),
            nats: given(nats_url).map(|url| NatsOptions {
                url,
                credentials_file: self
                    .nats_credentials_file
                    .or(from_file.nats_credentials_file),
                tls_ca: self.nats_tls_ca.or(from_file.nats_tls_ca),
                tls_cert: self.nats_tls_cert.or(from_file.nats_tls_cert),
                tls_key: self.nats_tls_key.or(from_file.nats_tls_key),
                stream: "LIKEWISE".to_owned(),
                replicas: self.nats_replicas.or(from_file.nats_replicas).unwrap_or(1),
                max_age: Duration::from_secs(
                    self.nats_max_age_seconds
                        .or(from_file.nats_max_age_seconds)
                        .unwrap_or(7 * 86_400),
                ),
                max_bytes: self
                    .nats_max_bytes
                    .or(from_file.nats_max_bytes)
                    .unwrap_or(8 << 30),
                ack_timeout: Duration::from_secs(2),
                redeliver_after: Duration::from_secs(30),
                max_ack_pending: 20_000,
            }),
            role: self.role.or(from_file.role).unwrap_or(Role::All),
            publisher: PublisherOptions {
                largest_batch: 512,
                lanes: 8,
                check_every: Duration::from_millis(500),
            },
            subscriber: SubscriberOptions {
                largest_batch: batch_size.min(mailbox_capacity),
                lanes: 4,
                pull_for: Duration::from_secs(2),
                stalled_after: Duration::from_secs(5),
                redeliver: Backoff {
                    base: Duration::from_millis(500),
                    cap: Duration::from_secs(10),
                },
                pause: Duration::from_millis(500),
            },
            store: StoreOptions {
                url,
                max_connections: 8,
                timeout: database_timeout,
            },
            http_addr: self
                .http_addr
                .or(from_file.http_addr)
                .unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 8080))),
            admin_token: self.admin_token.or(from_file.admin_token),
            mailbox_capacity,
            recorder: RecorderOptions {
                largest_batch: batch_size,
                // One at a time, so that batches grow under load; recording and syncing overlap.
                lanes: 1,
                lease,
                max_retries: in_range(
                    "LIKEWISE_MAX_RETRIES",
                    self.max_retries.or(from_file.max_retries).unwrap_or(10),
                    0..=1_000,
                    "between 0 and 1000",
                )?,
            },
            sync: SyncOptions {
                largest_batch: batch_size,
                // One at a time, so that batches grow under load; recording and syncing overlap.
                lanes: 1,
                backoff: Backoff {
                    base: Duration::from_secs(1),
                    cap: Duration::from_secs(300),
                },
            },
            retry: RetryOptions {
                interval: Duration::from_millis(500),
                largest_claim: batch_size.min(mailbox_capacity),
                lease,
            },
            cache: CacheOptions {
                largest_batch: 256,
                lanes: 2,
                heal_every: Duration::from_secs(1),
                look_for: Duration::from_secs(2),
            },
            cache_pairs: in_range(
                "LIKEWISE_CACHE_PAIRS",
                self.cache_pairs
                    .or(from_file.cache_pairs)
                    .unwrap_or(1_000_000),
                1_000..=1_000_000_000,
                "between 1000 and 1000000000",
            )?,
            guardian: GuardianPolicy::default(),
            stall_after: Duration::from_secs(10),
            drain_timeout: Duration::from_secs(20),
            fault_injection: self
                .fault_injection
                .or(from_file.fault_injection)
                .unwrap_or(false),
        })
    }

    fn from_file(path: &Path) -> Result<Option<Self>, ConfigError> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                return Err(ConfigError::Unreadable {
                    path: path.display().to_string(),
                    reason: error.to_string(),
                });
            }
        };
        let given = toml::from_str(&text).map_err(|error| ConfigError::Invalid {
            path: path.display().to_string(),
            reason: error.to_string(),
        })?;
        Ok(Some(given))
    }
}

impl Settings {
    /// Refuses to listen where others can reach it without authentication.
    ///
    /// # Errors
    /// If the address is not a loopback address.
    pub fn closed_by_default(&self) -> Result<(), ConfigError> {
        if self.http_addr.ip().is_loopback() {
            return Ok(());
        }
        Err(ConfigError::Open(self.http_addr))
    }
}

/// The settings file that is read if it is there.
#[must_use]
pub fn file() -> PathBuf {
    PathBuf::from(FILE)
}

/// What was given, unless it is empty: an empty environment variable is none.
fn given(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.trim().is_empty())
}

fn in_range<T: PartialOrd + ToString>(
    setting: &'static str,
    value: T,
    range: std::ops::RangeInclusive<T>,
    expected: &'static str,
) -> Result<T, ConfigError> {
    if range.contains(&value) {
        return Ok(value);
    }
    Err(ConfigError::OutOfRange {
        setting,
        expected,
        found: value.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_file(text: &str, given: Given) -> Result<Settings, ConfigError> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join(FILE);
        std::fs::write(&path, text).expect("the file is written");
        given.settle(&path)
    }

    #[test]
    fn without_anything_given_it_listens_on_loopback_with_sqlite() {
        let settings = Given::default()
            .settle(Path::new("absent.toml"))
            .expect("defaults");
        assert_eq!(settings.http_addr.to_string(), "127.0.0.1:8080");
        assert_eq!(settings.store.url, "sqlite://likewise.db");
        assert!(settings.closed_by_default().is_ok());
    }

    #[test]
    fn what_is_given_beats_the_file_and_the_file_beats_the_default() {
        let given = Given {
            batch_size: Some(7),
            ..Given::default()
        };
        let settings = with_file("batch_size = 8\nmax_retries = 3", given).expect("valid");
        assert_eq!(settings.recorder.largest_batch, 7);
        assert_eq!(settings.recorder.max_retries, 3);
        assert_eq!(settings.recorder.lease, Duration::from_secs(15));
    }

    #[test]
    fn without_authentication_it_refuses_every_address_but_loopback() {
        for address in ["0.0.0.0:8080", "192.168.1.5:80", "[::]:8080"] {
            let given = Given {
                http_addr: address.parse().ok(),
                ..Given::default()
            };
            let settings = given.settle(Path::new("absent.toml")).expect("valid");
            let refused = settings.closed_by_default().expect_err("not loopback");
            assert!(
                refused.to_string().contains("refusing to listen"),
                "{refused}"
            );
        }
    }

    #[test]
    fn a_mistake_in_the_file_is_named() {
        let refused = |text| {
            with_file(text, Given::default())
                .expect_err("a mistake")
                .to_string()
        };
        assert!(refused("batch_sise = 8").contains("batch_sise"));
        assert!(
            refused("batch_size = 0")
                .contains("LIKEWISE_BATCH_SIZE must be between 1 and 10000, got 0")
        );
    }
}
