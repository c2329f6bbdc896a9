//! The connection to NATS.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_nats::connection::State;
use async_nats::jetstream::Context;
use async_nats::jetstream::context::ContextBuilder;
use async_nats::{Client, ConnectOptions, ServerAddr};

use super::NatsError;
use crate::config::NatsOptions;

/// The oldest server whose consumers filter as they are told.
const OLDEST_SERVER: (u64, u64) = (2, 10);

/// Where Likewise receives answers and messages. With permissions in NATS, no other user may subscribe here.
const INBOX_PREFIX: &str = "_INBOX_likewise";

/// What the last check of the stream found.
#[derive(Debug, Default)]
pub(super) struct LastCheck {
    pub(super) checked: Option<Instant>,
    /// The description of every difference.
    pub(super) differences: Vec<String>,
    /// The reason why nothing is published, if it lies in the settings.
    pub(super) error: Option<String>,
}

/// The connection to NATS, which comes back by itself whenever it is lost.
pub struct Broker {
    pub(super) client: Client,
    pub(super) context: Context,
    pub(super) options: NatsOptions,
    /// Whether the stream was found in order, and nothing has failed since.
    pub(super) ready: AtomicBool,
    /// What the last check of the stream found.
    pub(super) last_check: Mutex<LastCheck>,
    /// Held while the stream is checked.
    pub(super) checking: tokio::sync::Mutex<()>,
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
            last_check: Mutex::default(),
            checking: tokio::sync::Mutex::default(),
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

    /// How many bytes one pull may bring: a bound for the memory of whoever pulls, and room for any
    /// message that the server takes.
    #[must_use]
    pub fn bytes_per_pull(&self) -> usize {
        const BYTES: usize = 8 << 20;
        BYTES.max(2 * self.client.max_payload())
    }
}
