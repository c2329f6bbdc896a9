//! Every setting, written once: name, type, default, range and help. See [`declare`](super::declare) for the syntax.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::declare::{default, settings, variable};
use super::{AuthMode, JsonIds, LogFormat, Role, TlsMode};
use crate::domain::IdKind;

/// The largest age in days at which rows are pruned, a hundred years.
pub const MOST_RETENTION_DAYS: u32 = 36_500;

settings! {
    "Common settings": short help {
        /// The address to listen on
        http_addr ["IP:PORT"]: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 8080));
        /// What this process does: api (accept and publish), worker (consume from NATS and record) or all
        role ["ROLE"]: Role = Role::All;
        /// The database: sqlite://FILE, mysql://USER:PASSWORD@HOST:PORT/DATABASE or postgres://...
        database_url ["URL"]: String = "sqlite://likewise.db".to_owned();
        /// The cache: redis://HOST:PORT, or redis+cluster://HOST:PORT,HOST:PORT; without it, each process has its own in memory
        redis_url ["URL"]: String;
        /// The broker: nats://HOST:PORT; without it, likes are recorded in the database directly
        nats_url ["URL"]: String;
        /// How log lines are written to standard error: text or json
        log_format ["FORMAT"]: LogFormat = LogFormat::Text;
        /// How users sign in: none (X-User-Id is trusted, on loopback only) or jwt
        auth_mode ["MODE"]: AuthMode = AuthMode::None;
    }

    "Ids, resource types and tables": long help {
        /// Types of resource that users can like: words, comma-separated; each has a table <type>_likes
        resource_types ["TYPES"]: String = "video,comment".to_owned();
        /// Ids of users: number, uuid or text (up to 64 bytes); fixed at the first migration
        user_ids ["KIND"]: IdKind = IdKind::Number;
        /// Ids of resources: number, uuid or text (up to 64 bytes); fixed at the first migration
        resource_ids ["KIND"]: IdKind = IdKind::Number;
        /// How JSON responses have ids that are numbers: number or string
        json_ids ["FORM"]: JsonIds = JsonIds::Number;
        /// What precedes the names of all tables, such as app_
        table_prefix ["PREFIX"]: String;
        /// Schema of PostgreSQL that has the tables; created if absent; by default the first of the search path
        database_schema ["SCHEMA"]: String;
    }

    "Sign-in": long help {
        /// File with the secret of HS256 tokens
        jwt_secret_file ["FILE"]: PathBuf;
        /// File with the public keys (JWKS) of RS256, ES256 and EdDSA tokens
        jwt_jwks_file ["FILE"]: PathBuf;
        /// HTTPS URL of the public keys (JWKS), which are fetched again when the identity provider rotates them
        jwt_jwks_url ["URL"]: String;
        /// Interval between two fetches of the JWKS
        jwt_jwks_refresh_seconds ["SECONDS"]: u64 = 300, in 10..=86_400;
        /// Claim of a token with the user's id; nested names with dots
        jwt_user_claim ["CLAIM"]: String = "sub".to_owned();
        /// Expected issuer of a token (iss)
        jwt_issuer ["ISSUER"]: String;
        /// Expected audience of a token (aud)
        jwt_audience ["AUDIENCE"]: String;
        /// Whether callers without a token may read like counts in mode jwt
        public_reads ["BOOL", num_args = 0..=1, default_missing_value = "true"]: bool = false;
        /// File with the hashes and scopes of service tokens (TOML)
        tokens_file ["FILE"]: PathBuf;
    }

    "HTTP": long help {
        /// Hosts that requests may be for, beside loopback names: names or addresses, comma-separated
        http_hosts ["HOSTS"]: String;
        /// Origins whose pages may call from a browser, comma-separated
        cors_origins ["ORIGINS"]: String;
        /// Whether the front page likes videos for random users; never in mode jwt
        demo ["BOOL", num_args = 0..=1, default_missing_value = "true"]: bool, as "true on loopback addresses";
        /// Requests that each user may make in a number of seconds, or off
        rate_limit_user ["COUNT/SECONDS"]: String, as "off; 600/60 in mode jwt";
        /// Requests that each address may make in a number of seconds, or off
        rate_limit_address ["COUNT/SECONDS"]: String = "off".to_owned();
        /// Proxies whose Forwarded or X-Forwarded-For is trusted: addresses or networks, comma-separated
        trusted_proxies ["ADDRESSES"]: String;
        /// Time after which a request is answered with 503
        request_timeout_seconds ["SECONDS"]: u64 = 15, in 1..=600;
        /// Time that a request waits for an answer that only the database has
        read_timeout_seconds ["SECONDS"]: u64 = 2, in 1..=60;
        /// Limit of the connections that watch counts live, in each process
        live_connections ["CONNECTIONS"]: usize = 1_000, in 1..=1_000_000;
        /// Time after SIGTERM in which /readyz fails and requests are still served, for load balancers
        drain_delay_seconds ["SECONDS"]: u64 = 0, in 0..=300;
    }

    "TLS to the database and to Redis": long help {
        /// disable, prefer, require, verify-ca or verify-full; also as sslmode or ssl-mode in the database's URL
        database_tls_mode ["MODE"]: TlsMode, as "prefer; verify-full with an authority";
        /// Trusted certificate authorities of the database (PEM); by default those of the system
        database_tls_ca ["FILE"]: PathBuf;
        /// Client certificate for the database (PEM)
        database_tls_cert ["FILE"]: PathBuf;
        /// Key of that certificate (PEM)
        database_tls_key ["FILE"]: PathBuf;
        /// Trusted certificate authorities of Redis (PEM); by default those of the system
        redis_tls_ca ["FILE"]: PathBuf;
        /// Client certificate for Redis (PEM)
        redis_tls_cert ["FILE"]: PathBuf;
        /// Key of that certificate (PEM)
        redis_tls_key ["FILE"]: PathBuf;
    }

    "NATS": long help {
        /// NATS credentials file
        nats_credentials_file ["FILE"]: PathBuf;
        /// Certificate authority of the NATS servers (PEM); requires TLS
        nats_tls_ca ["FILE"]: PathBuf;
        /// Client certificate for the NATS servers (PEM)
        nats_tls_cert ["FILE"]: PathBuf;
        /// Key of that certificate (PEM)
        nats_tls_key ["FILE"]: PathBuf;
        /// Time that NATS has to answer; a like that it does not acknowledge goes to the database
        nats_timeout_seconds ["SECONDS"]: u64 = 2, in 1..=60;
        /// Number of NATS servers that store each message
        nats_replicas ["SERVERS"]: usize = 1, in 1..=5;
        /// Age at which the stream deletes a message, processed or not
        nats_max_age_seconds ["SECONDS"]: u64 = 604_800;
        /// Size limit of the stream; when it is full, likes are recorded in the database directly
        nats_max_bytes ["BYTES"]: i64 = 8 << 30, in 1 << 20..;
        /// Whether each changed count is also published on likewise.counts.<resource_type>.<resource_id>
        nats_resource_counts ["BOOL", num_args = 0..=1, default_missing_value = "true"]: bool = false;
    }

    "Facts for other services": long help {
        /// Whether liked and unliked facts go to the NATS stream LIKEWISE_FACTS
        facts_stream ["BOOL", num_args = 0..=1, default_missing_value = "true"]: bool = false;
        /// Age at which that stream deletes a fact; 0 keeps it
        facts_max_age_seconds ["SECONDS"]: u64 = 604_800;
        /// Size limit of that stream; when it is full, the oldest facts are deleted
        facts_max_bytes ["BYTES"]: i64 = 8 << 30, in 1 << 20..;
        /// URLs that signed webhooks with facts are posted to, comma-separated
        webhook_urls ["URLS"]: String;
        /// File with the secret that webhooks are signed with (whsec_...); two during a rotation
        webhook_secret_file ["FILE"]: PathBuf;
        /// Limit of the facts in one webhook
        webhook_batch_size ["FACTS"]: usize = 100, in 1..=1_000;
        /// Time that a receiver has to answer a webhook
        webhook_timeout_seconds ["SECONDS"]: u64, in 1..=60, as "10; two thirds of a lease under 15";
        /// Failed attempts after which a fact is a dead letter
        webhook_max_attempts ["ATTEMPTS"]: i32 = 100, in 1..=100_000;
    }

    "Cache, pipeline and database": long help {
        /// Time that Redis has for one round trip; a like that it does not answer is accepted uncached
        redis_timeout_seconds ["SECONDS"]: u64 = 1, in 1..=60;
        /// Lifetime of an unchanged cache entry on Redis
        cache_ttl_seconds ["SECONDS"]: u64 = 86_400;
        /// Limit of the pairs in the in-memory cache, at about 100 bytes each
        cache_pairs ["PAIRS"]: usize = 1_000_000, in 1_000..=1_000_000_000;
        /// Limit of the events that wait or are in progress in each actor
        mailbox_capacity ["EVENTS"]: usize = 8_192, in 1..=1_000_000;
        /// Limit of the events in one transaction
        batch_size ["EVENTS"]: usize = 1_000, in 1..=10_000;
        /// Lifetime of a worker's lease on ledger rows without a renewal
        lease_seconds ["SECONDS"]: u64 = 15, in 2..=3_600;
        /// Retries of a rejected event before its ledger row is dead
        max_retries ["ATTEMPTS"]: i32 = 10, in 0..=1_000;
        /// Limit of one database call
        database_timeout_seconds ["SECONDS"]: u64, in 1..=600, as "10; two thirds of a lease under 15";
        /// Let POST /admin/faults make actors panic; for tests only
        fault_injection ["BOOL", hide = true, num_args = 0..=1, default_missing_value = "true"]: bool = false;
    }

    "Audit and retention": long help {
        /// Interval of the automatic audit of a worker; 0 disables it
        audit_interval_seconds ["SECONDS"]: u64 = 86_400, in 10..=31_536_000, or 0;
        /// Whether the automatic audit repairs its findings
        audit_repair ["BOOL", num_args = 0..=1, default_missing_value = "true"]: bool = false;
        /// Age in days at which completed ledger rows are deleted; 0 keeps them
        retention_ledger_days ["DAYS"]: u32 = 90, in 1..=MOST_RETENTION_DAYS, or 0;
        /// Age in days at which behaviors that no read model needs are deleted; 0 keeps them
        retention_behaviors_days ["DAYS"]: u32 = 0, in 1..=MOST_RETENTION_DAYS, or 0;
        /// File that behaviors are appended to before they are deleted (gzip, one JSON object a line)
        retention_archive ["FILE"]: PathBuf;
    }

    secrets {
        /// A token with every admin scope.
        admin_token;
        /// The secret of HS256 tokens.
        jwt_secret;
        /// The secret that webhooks are signed with.
        webhook_secret;
    }
}
