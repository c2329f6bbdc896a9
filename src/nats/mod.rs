//! NATS JetStream: the connection, the stream and its consumer, and what travels on them.

mod codec;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_nats::connection::State;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, PullConsumer, pull};
use async_nats::jetstream::context::{ConsumerInfoErrorKind, ContextBuilder, PublishAckFuture};
use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, StorageType};
use async_nats::jetstream::{self, Context};
use async_nats::{Client, ConnectOptions, HeaderMap, ServerAddr};
use bytes::Bytes;
use uuid::Uuid;

pub use codec::{MAX_PAYLOAD, Undecodable, decode, encode, subject};

use crate::domain::{BehaviorEvent, LikeCount, Resource};

/// How to reach NATS, and how the stream is kept.
#[derive(Debug, Clone)]
pub struct NatsOptions {
    /// `nats://HOST:PORT`, several with commas between, or `tls://`.
    pub url: String,
    /// A credentials file (user JWT and seed).
    pub credentials_file: Option<PathBuf>,
    /// The certificate authority that the servers' certificates must come from.
    pub tls_ca: Option<PathBuf>,
    /// The certificate that this client shows.
    pub tls_cert: Option<PathBuf>,
    /// Its key.
    pub tls_key: Option<PathBuf>,
    /// The stream's name.
    pub stream: String,
    /// How many servers keep each message.
    pub replicas: usize,
    /// How long messages are kept, done or not.
    pub max_age: Duration,
    /// How much the stream may hold, in bytes; when it is full, likes go to the database directly.
    pub max_bytes: i64,
    /// How long a publish may wait for its acknowledgement.
    pub ack_timeout: Duration,
    /// After how long an unacknowledged message is delivered again.
    pub redeliver_after: Duration,
    /// How many messages may be delivered and not acknowledged, over all workers.
    pub max_ack_pending: i64,
}

impl NatsOptions {
    /// The URL as it may be shown: without user and password.
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

/// Subjects of behaviors: `likewise.behaviors.<resource_type>.<behavior>`.
pub const BEHAVIORS: &str = "likewise.behaviors";

/// Subjects of announced counts: `likewise.counts.<resource_type>.<resource_id>`.
pub const COUNTS: &str = "likewise.counts";

/// The durable consumer that all workers share.
pub const CONSUMER: &str = "likewise-workers";

/// The oldest server whose consumers filter as they are told.
const OLDEST_SERVER: (u64, u64) = (2, 10);

/// What can go wrong with NATS.
#[derive(Debug, Clone, thiserror::Error)]
pub enum NatsError {
    /// A setting cannot be used.
    #[error("NATS cannot be used as configured: {0}")]
    Unusable(String),
    /// The server is too old.
    #[error(
        "the NATS server at {url} is version {version}, and Likewise needs 2.10 or newer: older ones \
         ignore the consumer's filter without a word; install a current nats-server"
    )]
    TooOld {
        /// Where it is.
        url: String,
        /// What it says it is.
        version: String,
    },
    /// It cannot be reached, or did not answer in time.
    #[error("NATS cannot be reached: {0}")]
    Unavailable(String),
}

/// The connection to NATS, which comes back by itself whenever it is lost.
pub struct Broker {
    client: Client,
    context: Context,
    options: NatsOptions,
    /// Whether the stream was found in order, and nothing has failed since.
    ready: AtomicBool,
}

impl Broker {
    /// Begins to connect; the connection may come about later.
    ///
    /// # Errors
    /// If a setting cannot be used.
    pub async fn connect(options: NatsOptions) -> Result<Self, NatsError> {
        let unusable = |error: &dyn std::fmt::Display| NatsError::Unusable(error.to_string());
        let mut connect = ConnectOptions::new()
            .name("likewise")
            .retry_on_initial_connect()
            .connection_timeout(Duration::from_secs(2))
            .ping_interval(Duration::from_secs(5))
            .reconnect_delay_callback(|attempts| {
                Duration::from_millis((100 * attempts as u64).min(1_000))
            });
        if let Some(path) = &options.credentials_file {
            connect = connect
                .credentials_file(path)
                .await
                .map_err(|error| unusable(&format!("{}: {error}", path.display())))?;
        }
        if let Some(path) = &options.tls_ca {
            connect = connect
                .add_root_certificates(path.clone())
                .require_tls(true);
        }
        if let (Some(cert), Some(key)) = (&options.tls_cert, &options.tls_key) {
            connect = connect.add_client_certificate(cert.clone(), key.clone());
        }
        let servers: Vec<ServerAddr> = options
            .url
            .split(',')
            .map(|server| server.trim().parse().map_err(|error| unusable(&error)))
            .collect::<Result<_, _>>()?;
        // The client itself makes nothing of what stands before the @.
        if let Some(server) = servers.iter().find(|server| server.has_user_pass()) {
            let user = server.username().unwrap_or_default().to_owned();
            connect = match server.password() {
                Some(password) => connect.user_and_password(user, password.to_owned()),
                None => connect.token(user),
            };
        }
        let client = connect
            .connect(servers)
            .await
            .map_err(|error| unusable(&error))?;
        let context = ContextBuilder::new()
            .timeout(options.ack_timeout)
            .ack_timeout(options.ack_timeout)
            .build(client.clone());
        Ok(Self {
            client,
            context,
            options,
            ready: AtomicBool::new(false),
        })
    }

    /// Waits for the first connection, but not for ever.
    pub async fn wait_until_connected(&self, longest: Duration) {
        let connected = async {
            while !self.is_connected() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        // Whether it came in time shows in `is_connected`.
        let _ = tokio::time::timeout(longest, connected).await;
    }

    /// Whether there is a connection now.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.client.connection_state() == State::Connected
    }

    /// Whether a publish may be expected to go through: connected, the stream in order, and nothing
    /// failed since it was last checked.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.is_connected() && self.ready.load(Ordering::Relaxed)
    }

    /// Takes note of a failure: nothing is published until the stream has been checked again.
    pub fn suspect(&self) {
        self.ready.store(false, Ordering::Relaxed);
    }

    /// Checks server and stream, and makes the stream if it is not there.
    ///
    /// # Errors
    /// If the server is too old or does not answer.
    pub async fn check(&self) -> Result<(), NatsError> {
        if !self.is_connected() {
            return Err(NatsError::Unavailable(format!(
                "no connection to {}",
                self.options.url_without_password()
            )));
        }
        self.check_version()?;
        let stream = self.context.create_or_update_stream(Config {
            name: self.options.stream.clone(),
            subjects: vec![format!("{BEHAVIORS}.>")],
            description: Some("behaviors on their way to the database, from Likewise".to_owned()),
            // Not a work queue: on several replicas that kind loses messages at max_deliver.
            retention: RetentionPolicy::Limits,
            storage: StorageType::File,
            num_replicas: self.options.replicas,
            max_age: self.options.max_age,
            max_bytes: self.options.max_bytes,
            // A full stream refuses, so that the publisher learns of it; it drops nothing.
            discard: DiscardPolicy::New,
            duplicate_window: Duration::from_secs(120).min(self.options.max_age),
            ..Config::default()
        });
        stream.await.map_err(|error| {
            NatsError::Unavailable(format!("stream {}: {error}", self.options.stream))
        })?;
        self.ready.store(true, Ordering::Relaxed);
        Ok(())
    }

    fn check_version(&self) -> Result<(), NatsError> {
        let version = self.client.server_info().version;
        let mut numbers = version.split('.').map(|part| part.parse().unwrap_or(0));
        let found = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        if found < OLDEST_SERVER {
            return Err(NatsError::TooOld {
                url: self.options.url_without_password(),
                version,
            });
        }
        Ok(())
    }

    /// The durable consumer, which is made if it is not there.
    ///
    /// # Errors
    /// If NATS does not answer.
    pub async fn consumer(&self) -> Result<PullConsumer, NatsError> {
        let consumer = self.context.create_consumer_on_stream(
            pull::Config {
                durable_name: Some(CONSUMER.to_owned()),
                deliver_policy: DeliverPolicy::All,
                ack_policy: AckPolicy::Explicit,
                ack_wait: self.options.redeliver_after,
                // For ever: what cannot be taken is quarantined, and then acknowledged.
                max_deliver: -1,
                filter_subject: format!("{BEHAVIORS}.>"),
                max_ack_pending: self.options.max_ack_pending,
                ..pull::Config::default()
            },
            &self.options.stream,
        );
        consumer
            .await
            .map_err(|error| NatsError::Unavailable(format!("consumer {CONSUMER}: {error}")))
    }

    /// How many messages the workers have still to acknowledge; nothing if there is no consumer yet.
    ///
    /// # Errors
    /// If NATS does not answer.
    pub async fn backlog(&self) -> Result<u64, NatsError> {
        let stream = self
            .context
            .get_stream_no_info(&self.options.stream)
            .await
            .map_err(|error| NatsError::Unavailable(error.to_string()))?;
        match stream.consumer_info(CONSUMER).await {
            Ok(info) => Ok(info.num_pending + info.num_ack_pending as u64),
            Err(error) if error.kind() == ConsumerInfoErrorKind::NotFound => Ok(0),
            Err(error) => Err(NatsError::Unavailable(error.to_string())),
        }
    }

    /// How many bytes one pull may bring: a bound for the memory of whoever pulls, and room for any
    /// message that the server takes.
    #[must_use]
    pub fn bytes_per_pull(&self) -> usize {
        const BYTES: usize = 8 << 20;
        BYTES.max(2 * self.client.max_payload())
    }

    /// Publishes an event; the future is its acknowledgement by JetStream.
    ///
    /// # Errors
    /// If it cannot even be sent.
    pub async fn publish(&self, event: &BehaviorEvent) -> Result<PublishAckFuture, NatsError> {
        let mut headers = HeaderMap::new();
        headers.insert(
            async_nats::header::NATS_MESSAGE_ID,
            event.event_id.hyphenated().to_string(),
        );
        self.context
            .publish_with_headers(subject(event), headers, encode(event))
            .await
            .map_err(|error| NatsError::Unavailable(error.to_string()))
    }

    /// Publishes an event that was kept in quarantine under this id, and awaits the acknowledgement. It goes
    /// under an id of its own, because the server drops what it has had under the event's id within two
    /// minutes; published twice from quarantine, it counts once.
    ///
    /// # Errors
    /// If it was not acknowledged.
    pub async fn republish(
        &self,
        event: &BehaviorEvent,
        quarantine_id: Uuid,
    ) -> Result<(), NatsError> {
        let mut headers = HeaderMap::new();
        headers.insert(
            async_nats::header::NATS_MESSAGE_ID,
            format!("quarantine/{}", quarantine_id.hyphenated()),
        );
        let acknowledgement = self
            .context
            .publish_with_headers(subject(event), headers, encode(event))
            .await
            .map_err(|error| NatsError::Unavailable(error.to_string()))?;
        acknowledgement
            .await
            .map_err(|error| NatsError::Unavailable(error.to_string()))?;
        Ok(())
    }

    /// Tells whoever listens that a count has changed. Nothing depends on it, so it is sent once.
    ///
    /// # Errors
    /// If it cannot be sent.
    pub async fn announce(&self, resource: Resource, count: LikeCount) -> Result<(), NatsError> {
        let subject = format!("{COUNTS}.{}.{}", resource.resource_type, resource.id);
        let body = serde_json::json!({
            "resource_type": resource.resource_type,
            "resource_id": resource.id,
            "like_count": count.like_count,
            "revision": count.revision,
        });
        self.client
            .publish(subject, Bytes::from(body.to_string()))
            .await
            .map_err(|error| NatsError::Unavailable(error.to_string()))
    }

    /// What identifies a message of this stream for good: a stream that was made anew counts its
    /// messages from one again, but at other times.
    #[must_use]
    pub fn message_identity(&self, info: &jetstream::message::Info<'_>) -> Uuid {
        let name = format!(
            "{}/{}/{}",
            info.stream,
            info.stream_sequence,
            info.published.unix_timestamp_nanos()
        );
        Uuid::new_v5(&Uuid::NAMESPACE_URL, name.as_bytes())
    }
}
