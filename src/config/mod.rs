//! Typed settings: built-in defaults < `likewise.toml` < environment < flags. `settings.rs` declares each setting
//! once; one file for each concern completes its options from them. `app/` and the command line load [`Settings`]
//! and hand each room its own options.

mod actors;
mod auth;
mod cache;
mod choices;
mod declare;
mod error;
mod facts;
mod file;
mod host;
mod logging;
mod names;
mod nats;
mod network;
mod quota;
mod report;
mod role;
mod secret;
mod settings;
mod shown;
mod store;
mod tls;
mod upkeep;
mod web;

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use actor_kit::StuckAfter;

pub use actors::{
    CacheOptions, KeeperOptions, PublisherOptions, RecorderOptions, RetryOptions,
    SubscriberOptions, SyncOptions,
};
pub use auth::AuthOptions;
pub use cache::RedisOptions;
pub use choices::{AuthMode, JsonIds, LogFormat, TlsMode};
pub use declare::Setting;
pub use error::ConfigError;
pub use facts::{FactStreamOptions, FactsOptions, WebhookOptions, WebhookUrl};
pub use file::FILE;
pub(crate) use file::complaint;
pub use host::HostName;
pub(crate) use host::{Host, is_served};
pub use nats::NatsOptions;
pub use network::Network;
pub use quota::Quota;
pub use report::{SettingReport, Source};
pub use role::Role;
pub use secret::Secret;
pub use settings::{MOST_RETENTION_DAYS, PartialConfig};
pub use store::StoreOptions;
pub use tls::{ClientCertificate, TlsOptions};
pub use upkeep::{PruneOptions, UpkeepOptions};
pub use web::{LimitOptions, WebOptions};

/// The settings of a process.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The database.
    pub store: StoreOptions,
    /// The cache on Redis, if there is one.
    pub redis: Option<RedisOptions>,
    /// The broker, if there is one.
    pub nats: Option<NatsOptions>,
    /// The role of this process.
    pub role: Role,
    /// How the event publisher works.
    pub publisher: PublisherOptions,
    /// How the NATS subscriber works.
    pub subscriber: SubscriberOptions,
    /// The address to listen on.
    pub http_addr: SocketAddr,
    /// How the log is written.
    pub log_format: LogFormat,
    /// How callers sign in.
    pub auth: AuthOptions,
    /// The limits of the HTTP API, and the hosts and origins that it serves.
    pub web: WebOptions,
    /// The limit of the events in each actor's mailbox.
    pub mailbox_capacity: usize,
    /// How the idempotency keeper works.
    pub keeper: KeeperOptions,
    /// How the behavior recorder works.
    pub recorder: RecorderOptions,
    /// How the sync publisher works.
    pub sync: SyncOptions,
    /// How the retry scheduler works.
    pub retry: RetryOptions,
    /// How the cache writer works.
    pub cache: CacheOptions,
    /// How long a request waits for a read of the database, and how long reads pause after one that found the
    /// database down.
    pub read_timeout: Duration,
    /// The limit of the pairs in the in-memory cache.
    pub cache_pairs: usize,
    /// The facts for other services.
    pub facts: FactsOptions,
    /// The automatic audit and pruning of a worker.
    pub upkeep: UpkeepOptions,
    /// The times after which an actor is reported as stuck.
    pub stuck_after: StuckAfter,
    /// The times after which a stuck actor makes the process unready.
    pub unready_after: StuckAfter,
    /// How long after SIGTERM requests are still served while `/readyz` fails. Zero on a worker, which serves none.
    pub drain_delay: Duration,
    /// How long a shutdown may take to drain.
    pub drain_timeout: Duration,
    /// Whether operators can make actors panic.
    pub fault_injection: bool,
}

impl PartialConfig {
    /// Completes flags and environment from the settings file at `path`, if there is one, and the defaults.
    ///
    /// # Errors
    /// If the file cannot be used or a setting is out of range.
    pub fn load(self, path: &Path) -> Result<Settings, ConfigError> {
        let config = self.or(Self::from_file(path)?);
        config.check_ranges()?;
        Ok(Settings {
            store: StoreOptions::new(&config)?,
            redis: RedisOptions::new(&config),
            nats: NatsOptions::new(&config),
            role: config.role(),
            publisher: PublisherOptions::default(),
            subscriber: SubscriberOptions::new(&config),
            http_addr: config.http_addr(),
            log_format: config.log_format(),
            auth: AuthOptions::new(&config),
            web: WebOptions::new(&config)?,
            mailbox_capacity: config.mailbox_capacity(),
            keeper: KeeperOptions::new(&config),
            recorder: RecorderOptions::new(&config),
            sync: SyncOptions::new(&config),
            retry: RetryOptions::new(&config),
            cache: CacheOptions::default(),
            read_timeout: Duration::from_secs(config.read_timeout_seconds()),
            cache_pairs: config.cache_pairs(),
            facts: FactsOptions::new(&config)?,
            upkeep: UpkeepOptions::new(&config),
            stuck_after: StuckAfter {
                no_progress: Duration::from_millis(1_500),
                blocked_thread: Duration::from_secs(1),
            },
            unready_after: StuckAfter {
                no_progress: Duration::from_secs(10),
                blocked_thread: Duration::from_secs(10),
            },
            drain_delay: if config.role().is_api() {
                Duration::from_secs(config.drain_delay_seconds())
            } else {
                Duration::ZERO
            },
            drain_timeout: Duration::from_secs(20),
            fault_injection: config.fault_injection(),
        })
    }
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

/// The text, unless it is blank: an empty environment variable counts as absent.
fn not_blank(text: Option<&str>) -> Option<String> {
    let text = text.filter(|text| !text.trim().is_empty());
    text.map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn with_file(text: &str, given: PartialConfig) -> Result<Settings, ConfigError> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join(FILE);
        std::fs::write(&path, text).expect("the file is written");
        given.load(&path)
    }

    #[test]
    fn defaults_are_loopback_and_sqlite() {
        let settings = PartialConfig::default()
            .load(Path::new("absent.toml"))
            .expect("defaults");
        assert_eq!(settings.http_addr.to_string(), "127.0.0.1:8080");
        assert_eq!(settings.store.url, "sqlite://likewise.db");
        assert!(settings.closed_by_default().is_ok());
    }

    #[test]
    fn flags_override_the_file_and_the_file_overrides_defaults() {
        let given = PartialConfig {
            batch_size: Some(7),
            ..PartialConfig::default()
        };
        let settings = with_file("batch_size = 8\nmax_retries = 3", given).expect("valid");
        assert_eq!(settings.recorder.largest_batch, 7);
        assert_eq!(settings.recorder.max_retries, 3);
        assert_eq!(settings.recorder.lease, Duration::from_secs(15));
    }

    #[test]
    fn without_authentication_only_loopback_is_allowed() {
        for address in ["0.0.0.0:8080", "192.168.1.5:80", "[::]:8080"] {
            let given = PartialConfig {
                http_addr: address.parse().ok(),
                ..PartialConfig::default()
            };
            let settings = given.load(Path::new("absent.toml")).expect("valid");
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
            let error = with_file(
                &format!("batch_size = 8\n{line}\n"),
                PartialConfig::default(),
            )
            .expect_err("a mistake")
            .to_string();
            assert!(error.contains("line 2"), "{error}");
            assert!(!error.contains("hush"), "{error}");
        }
        let text = "jwt_secret = \"hush-hush\"\nadmin_token = \"hush-hush\"";
        let settings = with_file(text, PartialConfig::default()).expect("valid");
        assert!(!format!("{settings:?}").contains("hush"));
    }

    #[test]
    fn with_authentication_any_address_is_allowed() {
        let given = PartialConfig {
            http_addr: "0.0.0.0:8080".parse().ok(),
            auth_mode: Some(AuthMode::Jwt),
            ..PartialConfig::default()
        };
        let settings = given.load(Path::new("absent.toml")).expect("valid");
        assert!(settings.closed_by_default().is_ok());
    }

    #[test]
    fn lease_must_outlast_the_longest_attempt() {
        let refused = with_file(
            "lease_seconds = 14\ndatabase_timeout_seconds = 10",
            PartialConfig::default(),
        );
        let error = refused.expect_err("too short").to_string();
        assert!(error.contains("got 14s and 10s"), "{error}");
        let settings = with_file(
            "lease_seconds = 15\ndatabase_timeout_seconds = 10",
            PartialConfig::default(),
        );
        assert!(settings.is_ok());
        // Where only the lease is given, the time-out follows it.
        let settings = with_file("lease_seconds = 3", PartialConfig::default()).expect("valid");
        assert_eq!(settings.store.timeout, Duration::from_secs(2));
        let settings = with_file("lease_seconds = 60", PartialConfig::default()).expect("valid");
        assert_eq!(settings.store.timeout, Duration::from_secs(10));
    }

    #[test]
    fn file_error_names_the_setting() {
        let refused = |text| {
            with_file(text, PartialConfig::default())
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
