//! Settings as they are given, and how they are completed and checked.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use super::{ConfigError, Role, Secret, Settings, UpkeepOptions, complaint};
use crate::actors::behavior_recorder::RecorderOptions;
use crate::actors::cache_writer::CacheOptions;
use crate::actors::event_publisher::PublisherOptions;
use crate::actors::idempotency_keeper::KeeperOptions;
use crate::actors::nats_subscriber::SubscriberOptions;
use crate::actors::retry_scheduler::RetryOptions;
use crate::actors::sync_publisher::SyncOptions;
use crate::admin::PruneOptions;
use crate::cache::RedisOptions;
use crate::domain::Backoff;
use crate::nats::NatsOptions;
use crate::store::{Lease, StoreOptions};
use crate::web::auth::AuthMode;

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
    /// A token with every admin scope.
    #[arg(skip)]
    pub admin_token: Option<Secret>,
    /// How users sign in: none (X-User-Id is believed, on loopback only) or jwt
    #[arg(long, env = "LIKEWISE_AUTH_MODE", global = true, value_name = "MODE")]
    pub auth_mode: Option<AuthMode>,
    /// The secret that HS256 tokens are signed with.
    #[arg(skip)]
    pub jwt_secret: Option<Secret>,
    /// File with the secret that HS256 tokens are signed with
    #[arg(
        long,
        env = "LIKEWISE_JWT_SECRET_FILE",
        global = true,
        value_name = "FILE"
    )]
    pub jwt_secret_file: Option<PathBuf>,
    /// File with the public keys (JWKS) of RS256, ES256 and EdDSA tokens
    #[arg(
        long,
        env = "LIKEWISE_JWT_JWKS_FILE",
        global = true,
        value_name = "FILE"
    )]
    pub jwt_jwks_file: Option<PathBuf>,
    /// Who must have issued a token (iss)
    #[arg(
        long,
        env = "LIKEWISE_JWT_ISSUER",
        global = true,
        value_name = "ISSUER"
    )]
    pub jwt_issuer: Option<String>,
    /// Whom a token must be for (aud)
    #[arg(
        long,
        env = "LIKEWISE_JWT_AUDIENCE",
        global = true,
        value_name = "AUDIENCE"
    )]
    pub jwt_audience: Option<String>,
    /// File with the hashes and scopes of service tokens (TOML)
    #[arg(long, env = "LIKEWISE_TOKENS_FILE", global = true, value_name = "FILE")]
    pub tokens_file: Option<PathBuf>,
    /// Hosts that requests may be for, beside loopback names: names or addresses, with commas
    #[arg(long, env = "LIKEWISE_HTTP_HOSTS", global = true, value_name = "HOSTS")]
    pub http_hosts: Option<String>,
    /// Origins whose pages may call from a browser, with commas; without any, none
    #[arg(
        long,
        env = "LIKEWISE_CORS_ORIGINS",
        global = true,
        value_name = "ORIGINS"
    )]
    pub cors_origins: Option<String>,
    /// How many requests each user may make in how many seconds, or off
    #[arg(
        long,
        env = "LIKEWISE_RATE_LIMIT_USER",
        global = true,
        value_name = "COUNT/SECONDS"
    )]
    pub rate_limit_user: Option<String>,
    /// How many requests may come from each address in how many seconds, or off
    #[arg(
        long,
        env = "LIKEWISE_RATE_LIMIT_ADDRESS",
        global = true,
        value_name = "COUNT/SECONDS"
    )]
    pub rate_limit_address: Option<String>,
    /// Proxies whose Forwarded or X-Forwarded-For is believed: addresses or networks, with commas
    #[arg(
        long,
        env = "LIKEWISE_TRUSTED_PROXIES",
        global = true,
        value_name = "ADDRESSES"
    )]
    pub trusted_proxies: Option<String>,
    /// How long a request may take until it is answered
    #[arg(
        long,
        env = "LIKEWISE_REQUEST_TIMEOUT_SECONDS",
        global = true,
        value_name = "SECONDS"
    )]
    pub request_timeout_seconds: Option<u64>,
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
    /// How long a request waits for what only the database can tell
    #[arg(
        long,
        env = "LIKEWISE_READ_TIMEOUT_SECONDS",
        global = true,
        value_name = "SECONDS"
    )]
    pub read_timeout_seconds: Option<u64>,
    /// How often a worker audits the data; 0 for never
    #[arg(
        long,
        env = "LIKEWISE_AUDIT_INTERVAL_SECONDS",
        global = true,
        value_name = "SECONDS"
    )]
    pub audit_interval_seconds: Option<u64>,
    /// Whether such an audit mends what it finds
    #[arg(long, env = "LIKEWISE_AUDIT_REPAIR", global = true, num_args = 0..=1, default_missing_value = "true")]
    pub audit_repair: Option<bool>,
    /// After how many days completed ledger rows are deleted; 0 for never
    #[arg(
        long,
        env = "LIKEWISE_RETENTION_LEDGER_DAYS",
        global = true,
        value_name = "DAYS"
    )]
    pub retention_ledger_days: Option<u32>,
    /// After how many days behaviors that no read model needs are deleted; 0 for never
    #[arg(
        long,
        env = "LIKEWISE_RETENTION_BEHAVIORS_DAYS",
        global = true,
        value_name = "DAYS"
    )]
    pub retention_behaviors_days: Option<u32>,
    /// The file that behaviors are appended to before they are deleted (gzip, one JSON object a line)
    #[arg(
        long,
        env = "LIKEWISE_RETENTION_ARCHIVE",
        global = true,
        value_name = "FILE"
    )]
    pub retention_archive: Option<PathBuf>,
    /// Let POST /admin/faults make actors panic, to see them survive; for tests only
    #[arg(long, env = "LIKEWISE_FAULT_INJECTION", global = true, hide = true, num_args = 0..=1, default_missing_value = "true")]
    pub fault_injection: Option<bool>,
}

impl Given {
    /// Completes what flags and environment have given from the settings file, if there is one at
    /// `path`, and the defaults.
    ///
    /// # Errors
    /// If the file cannot be used or a setting is out of range.
    pub fn settle(self, path: &Path) -> Result<Settings, ConfigError> {
        match Self::from_file(path)? {
            Some(from_file) => self.or(from_file).complete(),
            None => self.complete(),
        }
    }

    /// Every setting that is given here, and from the other what is not.
    fn or(self, other: Self) -> Self {
        macro_rules! first_given {
            ($($setting:ident),*) => { Self { $($setting: self.$setting.or(other.$setting)),* } };
        }
        first_given!(
            database_url,
            redis_url,
            nats_url,
            role,
            nats_credentials_file,
            nats_tls_ca,
            nats_tls_cert,
            nats_tls_key,
            nats_replicas,
            nats_max_age_seconds,
            nats_max_bytes,
            cache_ttl_seconds,
            http_addr,
            admin_token,
            auth_mode,
            jwt_secret,
            jwt_secret_file,
            jwt_jwks_file,
            jwt_issuer,
            jwt_audience,
            tokens_file,
            http_hosts,
            cors_origins,
            rate_limit_user,
            rate_limit_address,
            trusted_proxies,
            request_timeout_seconds,
            mailbox_capacity,
            batch_size,
            lease_seconds,
            max_retries,
            cache_pairs,
            database_timeout_seconds,
            read_timeout_seconds,
            audit_interval_seconds,
            audit_repair,
            retention_ledger_days,
            retention_behaviors_days,
            retention_archive,
            fault_injection
        )
    }

    fn complete(self) -> Result<Settings, ConfigError> {
        let lease = Duration::from_secs(in_range(
            "LIKEWISE_LEASE_SECONDS",
            self.lease_seconds.unwrap_or(15),
            2..=3_600,
            "between 2 and 3600",
        )?);
        let batch_size = in_range(
            "LIKEWISE_BATCH_SIZE",
            self.batch_size.unwrap_or(1_000),
            1..=10_000,
            "between 1 and 10000",
        )?;
        let mailbox_capacity = in_range(
            "LIKEWISE_MAILBOX_CAPACITY",
            self.mailbox_capacity.unwrap_or(8_192),
            1..=1_000_000,
            "between 1 and 1000000",
        )?;
        let max_retries = in_range(
            "LIKEWISE_MAX_RETRIES",
            self.max_retries.unwrap_or(10),
            0..=1_000,
            "between 0 and 1000",
        )?;
        let longest_attempt = Lease::longest_attempt(lease);
        let database_timeout = match self.database_timeout_seconds {
            None => longest_attempt.min(Duration::from_secs(10)),
            Some(seconds) => Duration::from_secs(in_range(
                "LIKEWISE_DATABASE_TIMEOUT_SECONDS",
                seconds,
                1..=600,
                "between 1 and 600",
            )?),
        };
        if database_timeout > longest_attempt {
            return Err(ConfigError::ShortLease {
                lease,
                timeout: database_timeout,
            });
        }
        let nats_replicas = in_range(
            "LIKEWISE_NATS_REPLICAS",
            self.nats_replicas.unwrap_or(1),
            1..=5,
            "between 1 and 5",
        )?;
        let nats_max_bytes = in_range(
            "LIKEWISE_NATS_MAX_BYTES",
            self.nats_max_bytes.unwrap_or(8 << 30),
            1 << 20..=i64::MAX,
            "1048576 or more",
        )?;
        let auth = self.auth();
        let web = self.web()?;
        let url = given(self.database_url).unwrap_or_else(|| "sqlite://likewise.db".to_owned());
        Ok(Settings {
            auth,
            web,
            redis: given(self.redis_url).map(|url| RedisOptions {
                url,
                timeout: Duration::from_secs(1),
                time_to_live: Duration::from_secs(self.cache_ttl_seconds.unwrap_or(86_400).max(1)),
                pairs_per_resource: 10_000,
            }),
            nats: given(self.nats_url).map(|url| NatsOptions {
                url,
                credentials_file: self.nats_credentials_file,
                tls_ca: self.nats_tls_ca,
                tls_cert: self.nats_tls_cert,
                tls_key: self.nats_tls_key,
                stream: "LIKEWISE".to_owned(),
                replicas: nats_replicas,
                max_age: Duration::from_secs(self.nats_max_age_seconds.unwrap_or(7 * 86_400)),
                max_bytes: nats_max_bytes,
                ack_timeout: Duration::from_secs(2),
                redeliver_after: Duration::from_secs(30),
                max_ack_pending: 20_000,
            }),
            role: self.role.unwrap_or(Role::All),
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
                max_retries: max_retries.unsigned_abs(),
                pause: Duration::from_millis(500),
            },
            store: StoreOptions {
                url,
                max_connections: 8,
                timeout: database_timeout,
            },
            http_addr: self
                .http_addr
                .unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 8080))),
            mailbox_capacity,
            keeper: KeeperOptions {
                largest_batch: batch_size,
                lease,
            },
            recorder: RecorderOptions {
                largest_batch: batch_size,
                // One at a time, so that batches grow under load; recording and syncing overlap.
                lanes: 1,
                lease,
                max_retries,
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
            },
            read_timeout: Duration::from_secs(in_range(
                "LIKEWISE_READ_TIMEOUT_SECONDS",
                self.read_timeout_seconds.unwrap_or(2),
                1..=60,
                "between 1 and 60",
            )?),
            cache_pairs: in_range(
                "LIKEWISE_CACHE_PAIRS",
                self.cache_pairs.unwrap_or(1_000_000),
                1_000..=1_000_000_000,
                "between 1000 and 1000000000",
            )?,
            upkeep: UpkeepOptions {
                audit_every: match self.audit_interval_seconds.unwrap_or(DAY.as_secs()) {
                    0 => None,
                    seconds => Some(Duration::from_secs(in_range(
                        "LIKEWISE_AUDIT_INTERVAL_SECONDS",
                        seconds,
                        10..=31_536_000,
                        "0 or between 10 and 31536000",
                    )?)),
                },
                audit_repair: self.audit_repair.unwrap_or(false),
                prune: PruneOptions {
                    ledger_after: days(self.retention_ledger_days.unwrap_or(90)),
                    behaviors_after: days(self.retention_behaviors_days.unwrap_or(0)),
                    archive: self.retention_archive,
                },
            },
            stall_after: Duration::from_secs(10),
            drain_timeout: Duration::from_secs(20),
            fault_injection: self.fault_injection.unwrap_or(false),
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
            reason: complaint(&text, &error),
        })?;
        Ok(Some(given))
    }
}

const DAY: Duration = Duration::from_secs(86_400);

/// So many days; none of them is never.
fn days(days: u32) -> Option<Duration> {
    (days > 0).then(|| DAY * days)
}

/// What was given, unless it is empty: an empty environment variable is none.
pub(super) fn given(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.trim().is_empty())
}

pub(super) fn in_range<T: PartialOrd + ToString>(
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
