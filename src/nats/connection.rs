//! The connection to NATS, and what is published over it.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_nats::connection::State;
use async_nats::jetstream::context::{ContextBuilder, PublishAckFuture, PublishError};
use async_nats::jetstream::{self, Context, ErrorCode};
use async_nats::{Client, ConnectOptions, HeaderMap, ServerAddr};
use bytes::Bytes;
use uuid::Uuid;

use super::codec::{encode, subject};
use super::stream::Watch;
use super::{COUNTS, NatsError};
use crate::config::NatsOptions;
use crate::domain::{BehaviorEvent, LikeCount, Outage, Resource};
use crate::telemetry::{BrokerFailed, BrokerRecovered};

/// The oldest server whose consumers filter as they are told.
const OLDEST_SERVER: (u64, u64) = (2, 10);

/// Where Likewise receives answers and messages. With permissions in NATS, no other user may subscribe here.
const INBOX_PREFIX: &str = "_INBOX_likewise";

/// What Likewise does with NATS, each with outages of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Doing {
    /// Checking the stream.
    Checking,
    /// Publishing events.
    Publishing,
}

impl Doing {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Checking => "checking the stream",
            Self::Publishing => "publishing events",
        }
    }
}

/// The connection to NATS, which comes back by itself whenever it is lost.
pub struct Broker {
    pub(super) client: Client,
    pub(super) context: Context,
    pub(super) options: NatsOptions,
    /// Whether the stream was found in order, and nothing has failed since.
    pub(super) ready: AtomicBool,
    /// What the last check of the stream found.
    pub(super) watch: Mutex<Watch>,
    /// Held while the stream is checked.
    pub(super) checking: tokio::sync::Mutex<()>,
    outages: Mutex<BTreeMap<Doing, Outage>>,
    /// Whether publishing has failed and not worked since.
    publishing_fails: AtomicBool,
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
            watch: Mutex::default(),
            checking: tokio::sync::Mutex::default(),
            outages: Mutex::default(),
            publishing_fails: AtomicBool::new(false),
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

    /// Notes a failure. Logs it if its cause is new in this outage.
    pub(super) fn failed(&self, doing: Doing, error: &NatsError) {
        let is_news = self
            .outages()
            .entry(doing)
            .or_default()
            .failed(&error.to_string(), Instant::now());
        BrokerFailed {
            doing: doing.as_str(),
            error,
            is_news,
        }
        .emit();
    }

    /// Notes a success. Logs it if it ends an outage; returns whether it does.
    pub(super) fn succeeded(&self, doing: Doing) -> bool {
        let outage = self
            .outages()
            .get_mut(&doing)
            .and_then(|outage| outage.ended(Instant::now()));
        let Some((lasted, failures)) = outage else {
            return false;
        };
        BrokerRecovered {
            doing: doing.as_str(),
            lasted,
            failures,
        }
        .emit();
        true
    }

    fn outages(&self) -> MutexGuard<'_, BTreeMap<Doing, Outage>> {
        self.outages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that an event could not be published: nothing is published until the stream is checked again.
    /// Returns whether that is a failure of its own: while the stream is known to be out of order, the check has
    /// named the cause already.
    pub fn publish_failed(&self, error: &NatsError) -> bool {
        let was_ready = self.is_ready();
        if was_ready {
            self.publishing_fails.store(true, Ordering::Relaxed);
            self.failed(Doing::Publishing, error);
        }
        self.suspect();
        was_ready
    }

    /// Notes that events were acknowledged.
    pub fn publish_succeeded(&self) {
        if self.publishing_fails.swap(false, Ordering::Relaxed) {
            self.succeeded(Doing::Publishing);
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
            .map_err(|error| publish_error(&error))
    }

    /// Publishes an event from quarantine and awaits the acknowledgement. It goes under a message id of its own,
    /// because the server drops what it has had under the event's id within two minutes; published twice from
    /// quarantine, it counts once. The subject follows from the event's source, so an acknowledged event is
    /// acknowledged still.
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
            format!(
                "{}{REPUBLISHED}{}",
                event.event_id.hyphenated(),
                quarantine_id.hyphenated()
            ),
        );
        let acknowledgement = self
            .context
            .publish_with_headers(subject(event), headers, encode(event))
            .await
            .map_err(|error| publish_error(&error))?;
        acknowledgement
            .await
            .map_err(|error| publish_error(&error))?;
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

/// Between an event's id and its id in quarantine, in the message id of a republished event.
const REPUBLISHED: &str = "/republished/";

/// The id of the event that a message with this `Nats-Msg-Id` was published as, if Likewise published it.
#[must_use]
pub fn original_id(message_id: &str) -> Option<Uuid> {
    let id = message_id.split(REPUBLISHED).next()?;
    Uuid::parse_str(id).ok()
}

/// Why an event was not acknowledged.
#[must_use]
pub fn publish_error(error: &PublishError) -> NatsError {
    let said = error
        .source()
        .and_then(|source| source.downcast_ref::<jetstream::Error>());
    let Some(said) = said else {
        return NatsError::Unavailable(error.to_string());
    };
    let advice = match said.error_code() {
        ErrorCode::STREAM_STORE_FAILED
        | ErrorCode::INSUFFICIENT_RESOURCES
        | ErrorCode::STORAGE_RESOURCES_EXCEEDED
        | ErrorCode::ACCOUNT_RESOURCES_EXCEEDED => {
            "likes go to the database until messages have left the stream by their age, or until it \
             has more room: raise LIKEWISE_NATS_MAX_BYTES and run `likewise stream apply`, or give the \
             server more storage (max_file_store)"
        }
        _ => "likes go to the database meanwhile",
    };
    NatsError::Refused {
        what: "an event".to_owned(),
        said: said.to_string(),
        advice: advice.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn republished_message_names_its_original_event() {
        let (event, quarantine) = (Uuid::now_v7(), Uuid::now_v7());
        assert_eq!(original_id(&event.to_string()), Some(event));
        let again = format!("{event}{REPUBLISHED}{quarantine}");
        assert_eq!(original_id(&again), Some(event));
        assert_eq!(original_id("once"), None);
    }
}
