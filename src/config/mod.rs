//! Typed settings: built-in defaults < `likewise.toml` < environment < flags.

mod given;
mod secret;
mod web;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

pub use given::Given;
pub use secret::Secret;

use crate::actors::behavior_recorder::RecorderOptions;
use crate::actors::cache_writer::CacheOptions;
use crate::actors::event_publisher::PublisherOptions;
use crate::actors::idempotency_keeper::KeeperOptions;
use crate::actors::kit::SupervisorPolicy;
use crate::actors::nats_subscriber::SubscriberOptions;
use crate::actors::retry_scheduler::RetryOptions;
use crate::actors::sync_publisher::SyncOptions;
use crate::admin::PruneOptions;
use crate::cache::RedisOptions;
use crate::nats::NatsOptions;
use crate::store::StoreOptions;
use crate::web::WebOptions;
use crate::web::auth::{AuthMode, AuthOptions};

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
    /// A lease could run out during an attempt.
    #[error(
        "LIKEWISE_LEASE_SECONDS must be at least one and a half times LIKEWISE_DATABASE_TIMEOUT_SECONDS, got {lease:?} \
         and {timeout:?}: a lease must outlast the longest attempt on a ledger row; raise the one or lower the other"
    )]
    ShortLease {
        /// How long a worker holds ledger rows.
        lease: Duration,
        /// How long one attempt may take.
        timeout: Duration,
    },
    /// It would listen where others can reach it, without knowing who they are.
    #[error(
        "refusing to listen on {0}: no authentication is configured, so anyone who can reach it could \
         like in anyone's name; set LIKEWISE_AUTH_MODE=jwt, or listen on a loopback address \
         (LIKEWISE_HTTP_ADDR=127.0.0.1:8080) and put a gateway that signs users in before it"
    )]
    Open(SocketAddr),
}

/// What a worker does from time to time.
#[derive(Debug, Clone)]
pub struct UpkeepOptions {
    /// How often it audits the data; never if absent.
    pub audit_every: Option<Duration>,
    /// Whether such an audit mends what it finds.
    pub audit_repair: bool,
    /// What it prunes, once a day.
    pub prune: PruneOptions,
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
    /// How callers sign in.
    pub auth: AuthOptions,
    /// What requests may come, and how many.
    pub web: WebOptions,
    /// The most events in each actor's mailbox.
    pub mailbox_capacity: usize,
    /// How idempotency keys are kept.
    pub keeper: KeeperOptions,
    /// How the recorder works.
    pub recorder: RecorderOptions,
    /// How the sync publisher works.
    pub sync: SyncOptions,
    /// How the retry scheduler works.
    pub retry: RetryOptions,
    /// How the cache writer works.
    pub cache: CacheOptions,
    /// How long a read of the database may keep a request waiting, and how long none is tried after one that
    /// found the database away.
    pub read_timeout: Duration,
    /// The most pairs that the in-process cache holds.
    pub cache_pairs: usize,
    /// What is done from time to time.
    pub upkeep: UpkeepOptions,
    /// When actors are restarted.
    pub supervisor: SupervisorPolicy,
    /// After how long without progress an actor with work is called stuck.
    pub stall_after: Duration,
    /// How long a shutdown may take to drain.
    pub drain_timeout: Duration,
    /// Whether actors can be made to panic.
    pub fault_injection: bool,
}

impl Settings {
    /// Refuses to listen where others can reach it without authentication.
    ///
    /// # Errors
    /// If users do not sign in and the address is not a loopback address.
    pub fn closed_by_default(&self) -> Result<(), ConfigError> {
        if self.auth.mode == AuthMode::Jwt || self.http_addr.ip().is_loopback() {
            return Ok(());
        }
        Err(ConfigError::Open(self.http_addr))
    }
}

/// What is wrong with a TOML file: the line, its key and the reason. The line itself is not quoted, for
/// it may hold a secret.
pub(crate) fn complaint(text: &str, error: &toml::de::Error) -> String {
    let start = error.span().map_or(0, |span| span.start).min(text.len());
    let number = text.as_bytes()[..start]
        .iter()
        .filter(|byte| **byte == b'\n')
        .count();
    let line = text.lines().nth(number).unwrap_or_default();
    let key = line.split('=').next().unwrap_or_default().trim();
    let is_key = |text: &str| {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
        line.contains('=') && text.len() <= 40 && text.bytes().all(plain)
    };
    let key = if is_key(key) { key } else { "" };
    format!("line {} {key}: {}", number + 1, error.message())
}

/// The settings file that is read if it is there.
#[must_use]
pub fn file() -> PathBuf {
    PathBuf::from(FILE)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn with_file(text: &str, given: Given) -> Result<Settings, ConfigError> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join(FILE);
        std::fs::write(&path, text).expect("the file is written");
        given.settle(&path)
    }

    #[test]
    fn defaults_are_loopback_and_sqlite() {
        let settings = Given::default()
            .settle(Path::new("absent.toml"))
            .expect("defaults");
        assert_eq!(settings.http_addr.to_string(), "127.0.0.1:8080");
        assert_eq!(settings.store.url, "sqlite://likewise.db");
        assert!(settings.closed_by_default().is_ok());
    }

    #[test]
    fn flags_override_the_file_and_the_file_overrides_defaults() {
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
    fn without_authentication_only_loopback_is_allowed() {
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
    fn file_error_does_not_show_a_secret() {
        for line in [
            "jwt_secret = \"hush-hush",
            "jwt_secret = hush-hush",
            "admin_token = [\"hush-hush\"]",
            "jwt_secret_ = \"hush-hush\"",
        ] {
            let error = with_file(&format!("batch_size = 8\n{line}\n"), Given::default())
                .expect_err("a mistake")
                .to_string();
            assert!(error.contains("line 2"), "{error}");
            assert!(!error.contains("hush"), "{error}");
        }
        let text = "jwt_secret = \"hush-hush\"\nadmin_token = \"hush-hush\"";
        let settings = with_file(text, Given::default()).expect("valid");
        assert!(!format!("{settings:?}").contains("hush"));
    }

    #[test]
    fn with_authentication_any_address_is_allowed() {
        let given = Given {
            http_addr: "0.0.0.0:8080".parse().ok(),
            auth_mode: Some(AuthMode::Jwt),
            ..Given::default()
        };
        let settings = given.settle(Path::new("absent.toml")).expect("valid");
        assert!(settings.closed_by_default().is_ok());
    }

    #[test]
    fn lease_must_outlast_the_longest_attempt() {
        let refused = with_file(
            "lease_seconds = 14\ndatabase_timeout_seconds = 10",
            Given::default(),
        );
        let error = refused.expect_err("too short").to_string();
        assert!(error.contains("got 14s and 10s"), "{error}");
        let settings = with_file(
            "lease_seconds = 15\ndatabase_timeout_seconds = 10",
            Given::default(),
        );
        assert!(settings.is_ok());
        // Where only the lease is given, the time-out follows it.
        let settings = with_file("lease_seconds = 3", Given::default()).expect("valid");
        assert_eq!(settings.store.timeout, Duration::from_secs(2));
        let settings = with_file("lease_seconds = 60", Given::default()).expect("valid");
        assert_eq!(settings.store.timeout, Duration::from_secs(10));
    }

    #[test]
    fn file_error_names_the_setting() {
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
