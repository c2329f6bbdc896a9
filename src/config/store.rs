//! How to reach the database.

use std::time::Duration;

use super::{ConfigError, FactsOptions, PartialConfig, TlsOptions};
use crate::domain::{IdKinds, Lease, ResourceTypes};

/// How to reach a database.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// Its URL: `sqlite://FILE`, `mysql://USER:PASSWORD@HOST:PORT/DATABASE` or
    /// `postgres://USER:PASSWORD@HOST:PORT/DATABASE`, without the parameters of TLS.
    pub url: String,
    /// How its connections use TLS.
    pub tls: TlsOptions,
    /// The limit of the connections for reading.
    pub max_connections: usize,
    /// The types of resource that users can like.
    pub resource_types: ResourceTypes,
    /// The kinds of the ids of users and resources.
    pub id_kinds: IdKinds,
    /// What precedes the names of all tables; may be empty.
    pub table_prefix: String,
    /// The schema of PostgreSQL that has the tables; without it, the first of the search path.
    pub database_schema: Option<String>,
    /// How long one call may take before it fails and its connection is dropped.
    pub timeout: Duration,
    /// The receivers of facts; see [`FactsOptions`].
    pub fact_receivers: Vec<String>,
}

impl StoreOptions {
    pub(super) fn new(config: &PartialConfig) -> Result<Self, ConfigError> {
        let lease = Duration::from_secs(config.lease_seconds());
        let longest_attempt = Lease::longest_attempt(lease);
        let timeout = config.database_timeout_seconds.map_or_else(
            || longest_attempt.min(Duration::from_secs(10)),
            Duration::from_secs,
        );
        if timeout > longest_attempt {
            return Err(ConfigError::ShortLease { lease, timeout });
        }
        let url = super::not_blank(config.database_url.as_deref())
            .unwrap_or_else(|| PartialConfig::default().database_url());
        let (url, tls) = TlsOptions::new(&url, config)?;
        Ok(Self {
            max_connections: 8,
            resource_types: resource_types(config)?,
            id_kinds: IdKinds {
                users: config.user_ids(),
                resources: config.resource_ids(),
            },
            table_prefix: table_prefix(config)?,
            database_schema: database_schema(config, &url)?,
            url,
            tls,
            timeout,
            fact_receivers: FactsOptions::new(config)?.receivers(),
        })
    }

    /// The URL without the password, for logs.
    #[must_use]
    pub fn url_without_password(&self) -> String {
        let Some((scheme, rest)) = self.url.split_once("://") else {
            return self.url.clone();
        };
        match rest.rsplit_once('@') {
            Some((credentials, host)) => {
                let user = credentials.split(':').next().unwrap_or_default();
                format!("{scheme}://{user}@{host}")
            }
            None => self.url.clone(),
        }
    }
}

fn resource_types(config: &PartialConfig) -> Result<ResourceTypes, ConfigError> {
    let text = config.resource_types();
    text.parse().map_err(|reason| ConfigError::OutOfRange {
        setting: "LIKEWISE_RESOURCE_TYPES",
        expected: format!("comma-separated words, such as video,comment ({reason})"),
        found: format!("'{text}'"),
    })
}

/// The longest prefix, in bytes: a name has at most 63 on PostgreSQL.
const LONGEST_PREFIX: usize = 16;

fn table_prefix(config: &PartialConfig) -> Result<String, ConfigError> {
    let prefix = super::not_blank(config.table_prefix.as_deref()).unwrap_or_default();
    if prefix.is_empty() || is_name(&prefix, LONGEST_PREFIX) {
        return Ok(prefix);
    }
    Err(ConfigError::OutOfRange {
        setting: "LIKEWISE_TABLE_PREFIX",
        expected: format!("at most {LONGEST_PREFIX} {NAME}"),
        found: format!("'{prefix}'"),
    })
}

/// The longest name of a schema on PostgreSQL, in bytes.
const LONGEST_SCHEMA: usize = 63;

fn database_schema(config: &PartialConfig, url: &str) -> Result<Option<String>, ConfigError> {
    let Some(schema) = super::not_blank(config.database_schema.as_deref()) else {
        return Ok(None);
    };
    let is_postgres = url.starts_with("postgres://") || url.starts_with("postgresql://");
    let expected = match (is_postgres, is_name(&schema, LONGEST_SCHEMA)) {
        (true, true) => return Ok(Some(schema)),
        (false, _) => "nothing, unless the database is PostgreSQL; LIKEWISE_TABLE_PREFIX separates tables on every \
             database"
            .to_owned(),
        (true, false) => format!("at most {LONGEST_SCHEMA} {NAME}"),
    };
    Err(ConfigError::OutOfRange {
        setting: "LIKEWISE_DATABASE_SCHEMA",
        expected,
        found: format!("'{schema}'"),
    })
}

/// What [`is_name`] accepts.
const NAME: &str = "lower-case letters, digits and '_', beginning with a letter";

fn is_name(text: &str, longest: usize) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    text.len() <= longest
        && text.bytes().all(is_inner)
        && !text.starts_with(|first: char| first.is_ascii_digit())
}
