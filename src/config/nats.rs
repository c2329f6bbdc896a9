//! How to reach NATS, and the limits of its stream.

use std::path::PathBuf;
use std::time::Duration;

use super::PartialConfig;

/// How to reach NATS, and the limits of the stream.
#[derive(Debug, Clone)]
pub struct NatsOptions {
    /// `nats://HOST:PORT`, several with commas between, or `tls://`.
    pub url: String,
    /// A credentials file (user JWT and seed).
    pub credentials_file: Option<PathBuf>,
    /// The certificate authority of the servers.
    pub tls_ca: Option<PathBuf>,
    /// The certificate of this client.
    pub tls_cert: Option<PathBuf>,
    /// Its key.
    pub tls_key: Option<PathBuf>,
    /// The stream's name.
    pub stream: String,
    /// The number of servers that store each message.
    pub replicas: usize,
    /// The age at which the stream deletes a message, processed or not.
    pub max_age: Duration,
    /// The size limit of the stream, in bytes; when it is full, likes are recorded in the database directly.
    pub max_bytes: i64,
    /// Whether each changed count is also published on a subject of its resource.
    pub resource_counts: bool,
    /// How long a publish may wait for its acknowledgement, and a request for its answer.
    pub ack_timeout: Duration,
    /// The time after which an unacknowledged message is delivered again.
    pub redeliver_after: Duration,
    /// The limit of delivered messages without an acknowledgement, over all workers.
    pub max_ack_pending: i64,
}

impl NatsOptions {
    /// `None` if there is no broker.
    pub(super) fn new(config: &PartialConfig) -> Option<Self> {
        Some(Self {
            url: super::not_blank(config.nats_url.as_deref())?,
            credentials_file: config.nats_credentials_file.clone(),
            tls_ca: config.nats_tls_ca.clone(),
            tls_cert: config.nats_tls_cert.clone(),
            tls_key: config.nats_tls_key.clone(),
            stream: "LIKEWISE".to_owned(),
            replicas: config.nats_replicas(),
            max_age: Duration::from_secs(config.nats_max_age_seconds()),
            max_bytes: config.nats_max_bytes(),
            resource_counts: config.nats_resource_counts(),
            ack_timeout: Duration::from_secs(config.nats_timeout_seconds()),
            redeliver_after: Duration::from_secs(30),
            max_ack_pending: 20_000,
        })
    }

    /// The URL without user and password, for logs.
    #[must_use]
    pub fn url_without_password(&self) -> String {
        let shown = self
            .url
            .split(',')
            .map(|server| match server.split_once("://") {
                Some((scheme, rest)) => {
                    let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
                    format!("{scheme}://{host}")
                }
                None => server
                    .rsplit_once('@')
                    .map_or(server, |(_, host)| host)
                    .to_owned(),
            });
        shown.collect::<Vec<_>>().join(",")
    }
}
