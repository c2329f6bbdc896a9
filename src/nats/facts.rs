//! Facts on NATS: their stream, and how they are published to it. The fact publisher calls it.
//!
//! Each message names the sequence that it expects the stream to end at. A process that was stopped for longer than its
//! lease therefore publishes nothing after its successor has begun.

use async_nats::HeaderMap;
use async_nats::header::{NATS_EXPECTED_LAST_SEQUENCE, NATS_MESSAGE_ID};
use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::context::{PublishAckFuture, PublishErrorKind};
use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, StorageType};
use bytes::Bytes;
use serde_json::json;

use super::NatsError;
use super::connection::Broker;
use super::jetstream::{duplicate_window, json_of, number};
use super::publish::server_error;
use super::settings::{Owner, Setting, Severity, compare};
use crate::config::FactStreamOptions;
use crate::domain::{Fact, TraceParent};

/// Subjects of facts: `likewise.facts.<resource_type>.<liked|unliked>`.
pub const FACTS: &str = "likewise.facts";

/// A fact on its way to the stream.
pub struct FactPublish(PublishAckFuture);

/// How the stream took a fact.
#[derive(Debug)]
pub enum Published {
    /// It stored the fact under this sequence.
    Stored(u64),
    /// It held the fact already.
    Repeated,
    /// It ends at another sequence than expected, and stored nothing.
    Overtaken,
    /// It did not acknowledge the fact, and may have stored it.
    Failed(NatsError),
}

impl Broker {
    /// Creates the stream of facts if it is absent, and compares it with the settings otherwise. Returns its last sequence
    /// and the settings that differ.
    ///
    /// # Errors
    /// If the server does not answer or refuses, or the stream would lose facts.
    pub async fn facts_stream(
        &self,
        options: &FactStreamOptions,
    ) -> Result<(u64, Vec<String>), NatsError> {
        if !self.is_connected() {
            return Err(NatsError::Unavailable(format!(
                "no connection to {}",
                self.options.url_without_password()
            )));
        }
        let name = &options.name;
        let config = self.facts_config(options);
        let path = format!("STREAM.INFO.{name}");
        let found = self
            .request(&path, &json!({}), ErrorCode::STREAM_NOT_FOUND)
            .await;
        let info = match found.map_err(advise)? {
            Some(info) => info,
            None => self.create_stream(&config).await.map_err(advise)?,
        };
        let settings = compare(Owner::Stream, &json_of(&config), Some(&info["config"]));
        let errors: Vec<_> = settings
            .iter()
            .filter(|setting| setting.difference == Some(Severity::Error))
            .map(Setting::sentence)
            .collect();
        if !errors.is_empty() {
            return Err(NatsError::FactsMisconfigured {
                stream: name.clone(),
                reason: errors.join("; "),
            });
        }
        let differences = settings
            .iter()
            .filter(|setting| setting.difference.is_some())
            .map(Setting::sentence)
            .collect();
        Ok((number(&info["state"]["last_seq"]), differences))
    }

    /// Publishes a fact that the stream stores only if it ends at `last`.
    ///
    /// # Errors
    /// If it cannot be sent.
    pub async fn publish_fact(
        &self,
        fact: &Fact,
        ids_as_text: bool,
        last: u64,
    ) -> Result<FactPublish, NatsError> {
        let mut headers = HeaderMap::new();
        headers.insert(NATS_MESSAGE_ID, fact.event_id.hyphenated().to_string());
        headers.insert(NATS_EXPECTED_LAST_SEQUENCE, last.to_string());
        if let Some(trace) = fact.trace {
            headers.insert(TraceParent::HEADER, trace.to_string());
        }
        let subject = format!("{FACTS}.{}.{}", fact.pair.resource.resource_type, fact.kind);
        let body = Bytes::from(fact.json(ids_as_text).to_string());
        let sent = self
            .context
            .publish_with_headers(subject, headers, body)
            .await;
        sent.map(FactPublish)
            .map_err(|error| NatsError::Unavailable(error.to_string()))
    }

    fn facts_config(&self, options: &FactStreamOptions) -> Config {
        Config {
            name: options.name.clone(),
            subjects: vec![format!("{FACTS}.>")],
            description: Some("liked and unliked, from Likewise".to_owned()),
            retention: RetentionPolicy::Limits,
            storage: StorageType::File,
            num_replicas: self.options.replicas,
            max_age: options.max_age,
            max_bytes: options.max_bytes,
            // A full stream makes room for new facts: every consumer has had its time to read the oldest.
            discard: DiscardPolicy::Old,
            duplicate_window: duplicate_window(options.max_age),
            ..Config::default()
        }
    }
}

impl FactPublish {
    /// Awaits the acknowledgement.
    pub async fn acknowledged(self) -> Published {
        match self.0.await {
            Ok(ack) if ack.duplicate => Published::Repeated,
            Ok(ack) => Published::Stored(ack.sequence),
            Err(error) if error.kind() == PublishErrorKind::WrongLastSequence => {
                Published::Overtaken
            }
            Err(error) => Published::Failed(match server_error(&error) {
                None => NatsError::Unavailable(error.to_string()),
                Some(said) => NatsError::Refused {
                    what: "a fact".to_owned(),
                    said: said.to_string(),
                    advice: WAIT.to_owned(),
                },
            }),
        }
    }
}

/// What happens to facts while the stream does not take them.
const WAIT: &str = "facts wait in the table likewise_outbox until then";

/// Says of a refusal what it means for facts.
fn advise(error: NatsError) -> NatsError {
    match error {
        NatsError::Refused { what, said, .. } => NatsError::Refused {
            what,
            said,
            advice: WAIT.to_owned(),
        },
        error => error,
    }
}
