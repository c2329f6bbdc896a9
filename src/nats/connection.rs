//! The connection to NATS.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_nats::connection::State;
use async_nats::jetstream::Context;
use async_nats::jetstream::context::ContextBuilder;
use async_nats::{Client, ConnectOptions, ServerAddr};

use super::NatsError;
use super::waiting::AwaitedEnd;
use crate::config::NatsOptions;
use crate::domain::CurrentDeployment;

/// The oldest supported server: older ones ignore the filter of a consumer.
const OLDEST_SERVER: (u64, u64) = (2, 10);

/// The prefix of the subjects on which Likewise receives answers and messages. If NATS has permissions, no other user may
/// subscribe to them.
const INBOX_PREFIX: &str = "_INBOX_likewise";

/// The result of the last check of the stream.
#[derive(Debug, Default)]
pub(super) struct LastCheck {
    pub(super) checked: Option<Instant>,
    /// The description of every difference.
    pub(super) differences: Vec<String>,
    /// The reason why nothing is published, if it lies in the settings.
    pub(super) error: Option<String>,
}

/// The connection to NATS. It reconnects by itself.
pub struct Broker {
    pub(super) client: Client,
    pub(super) context: Context,
    pub(super) options: NatsOptions,
    /// The deployment that names the consumer and our events.
    pub(super) deployment: CurrentDeployment,
    /// Whether the last check found the stream correct, and nothing has failed since.
    pub(super) ready: AtomicBool,
    /// The result of the last check of the stream.
    pub(super) last_check: Mutex<LastCheck>,
    /// Held while the stream is checked.
    pub(super) checking: tokio::sync::Mutex<()>,
    /// The end of the stream that the acknowledgements have to reach.
    pub(super) awaited_end: AwaitedEnd,
}

impl Broker {
    /// Starts to connect, without waiting for the connection.
    ///
    /// # Errors
    /// If a setting cannot be used.
    pub async fn connect(
        options: NatsOptions,
        deployment: CurrentDeployment,
    ) -> Result<Self, NatsError> {
        let client = connect(&options).await?;
        let context = ContextBuilder::new()
            .timeout(options.ack_timeout)
            .ack_timeout(options.ack_timeout)
            .build(client.clone());
        Ok(Self {
            client,
            context,
            options,
            deployment,
            ready: AtomicBool::new(false),
            last_check: Mutex::default(),
            checking: tokio::sync::Mutex::default(),
            awaited_end: AwaitedEnd::default(),
        })
    }

    /// Waits for the first connection, at most this long.
    pub async fn wait_until_connected(&self, longest: Duration) {
        let connected = async {
            while !self.is_connected() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        // The caller asks `is_connected` for the result.
        let _ = tokio::time::timeout(longest, connected).await;
    }

    /// Returns whether it is connected now.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.client.connection_state() == State::Connected
    }

    /// Returns whether a publish should succeed: it is connected, the stream is correct, and nothing has failed since the last
    /// check.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.is_connected() && self.ready.load(Ordering::Relaxed)
    }

    /// Records a failure: nothing is published until the next check of the stream.
    pub fn suspect(&self) {
        self.ready.store(false, Ordering::Relaxed);
    }

    pub(super) fn check_version(&self) -> Result<(), NatsError> {
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

    /// Returns the limit of one pull in bytes: this one, or more, so that there is room for every message that the server
    /// accepts.
    #[must_use]
    pub fn bytes_per_pull(&self, bytes: usize) -> usize {
        bytes.max(2 * self.client.max_payload())
    }
}

/// Starts to connect, without waiting for the connection.
pub(super) async fn connect(options: &NatsOptions) -> Result<Client, NatsError> {
    let unusable = |error: &dyn std::fmt::Display| NatsError::Unusable(error.to_string());
    let mut connect = ConnectOptions::new()
        .name("likewise")
        .custom_inbox_prefix(INBOX_PREFIX)
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
    // The client ignores the credentials of a URL.
    if let Some(server) = servers.iter().find(|server| server.has_user_pass()) {
        let user = server.username().unwrap_or_default().to_owned();
        connect = match server.password() {
            Some(password) => connect.user_and_password(user, password.to_owned()),
            None => connect.token(user),
        };
    }
    connect
        .connect(servers)
        .await
        .map_err(|error| unusable(&error))
}
