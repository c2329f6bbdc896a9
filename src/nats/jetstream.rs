//! The requests to JetStream's API: they describe and create the stream. `consumer.rs` does so for its consumer.

use std::time::Duration;

use async_nats::jetstream::response::Response;
use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, StorageType};
use async_nats::jetstream::{self, ErrorCode};
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Value, json};

use super::NatsError;
use super::connection::Broker;
use super::subjects::our_subjects;

/// The stream and the consumer as the server describes them.
pub(super) struct Found {
    pub(super) stream: Option<Value>,
    pub(super) consumer: Option<Value>,
}

impl Found {
    pub(super) fn stream_config(&self) -> Option<&Value> {
        self.stream.as_ref().map(|info| &info["config"])
    }

    pub(super) fn consumer_config(&self) -> Option<&Value> {
        self.consumer.as_ref().map(|info| &info["config"])
    }
}

impl Broker {
    pub(super) async fn find(&self) -> Result<Found, NatsError> {
        let name = &self.options.stream;
        let stream = self
            .ask_for(&format!("STREAM.INFO.{name}"), ErrorCode::STREAM_NOT_FOUND)
            .await?;
        let consumer = match &stream {
            Some(_) => self.consumer_info().await?,
            None => None,
        };
        Ok(Found { stream, consumer })
    }

    /// Returns the first message on these subjects at or after this sequence.
    pub(super) async fn message_after(
        &self,
        sequence: u64,
        subject: &str,
    ) -> Result<Option<Value>, NatsError> {
        let request = json!({"seq": sequence, "next_by_subj": subject});
        let path = format!("STREAM.MSG.GET.{}", self.options.stream);
        let found = self
            .request(&path, &request, ErrorCode::NO_MESSAGE_FOUND)
            .await?;
        Ok(found.map(|answer| answer["message"].clone()))
    }

    /// Creates a stream, and returns its description. If two processes do so at once, one creates it and the other finds
    /// it.
    pub(super) async fn create_stream(&self, config: &Config) -> Result<Value, NatsError> {
        let name = &config.name;
        let path = format!("STREAM.CREATE.{name}");
        let created = self
            .request(&path, &json_of(config), ErrorCode::STREAM_NAME_EXIST)
            .await?;
        match created {
            Some(info) => Ok(info),
            None => self.ask(&format!("STREAM.INFO.{name}"), &json!({})).await,
        }
    }

    /// Returns the configured stream.
    pub(super) fn stream_config(&self) -> Config {
        Config {
            name: self.options.stream.clone(),
            subjects: our_subjects(),
            description: Some("behaviors on their way to the database, from Likewise".to_owned()),
            // Not work-queue retention: on several replicas it loses messages at max_deliver.
            retention: RetentionPolicy::Limits,
            storage: StorageType::File,
            num_replicas: self.options.replicas,
            max_age: self.options.max_age,
            max_bytes: self.options.max_bytes,
            // A full stream refuses new messages and drops none, so the publisher notices.
            discard: DiscardPolicy::New,
            duplicate_window: duplicate_window(self.options.max_age),
            ..Config::default()
        }
    }

    pub(super) async fn ask_for(
        &self,
        path: &str,
        absent: ErrorCode,
    ) -> Result<Option<Value>, NatsError> {
        self.request(path, &json!({}), absent).await
    }

    pub(super) async fn ask(&self, path: &str, request: &Value) -> Result<Value, NatsError> {
        let answer = self.request(path, request, ErrorCode(0)).await?;
        answer.ok_or_else(|| NatsError::Unavailable(format!("{path} was not answered")))
    }

    /// Sends a request to JetStream's API; `None` if it returns this error.
    pub(super) async fn request(
        &self,
        path: &str,
        request: &Value,
        none: ErrorCode,
    ) -> Result<Option<Value>, NatsError> {
        let answer: Result<Response<Value>, _> =
            self.context.request(path.to_owned(), request).await;
        match answer {
            Ok(Response::Ok(answer)) => Ok(Some(answer)),
            Ok(Response::Err { error }) if error.error_code() == none => Ok(None),
            Ok(Response::Err { error }) => Err(self.refused(path, &error)),
            Err(error) => Err(NatsError::Unavailable(format!("{path}: {error}"))),
        }
    }

    fn refused(&self, path: &str, error: &jetstream::Error) -> NatsError {
        let advice = match error.error_code() {
            ErrorCode::INSUFFICIENT_RESOURCES
            | ErrorCode::STORAGE_RESOURCES_EXCEEDED
            | ErrorCode::ACCOUNT_RESOURCES_EXCEEDED
            | ErrorCode::STREAM_MAX_STREAM_BYTES_EXCEEDED
            | ErrorCode::STREAM_MAX_BYTES_REQUIRED => format!(
                "lower LIKEWISE_NATS_MAX_BYTES (now {}), or give the server more storage \
                 (max_file_store, or the account's limits); likes go to the database until then",
                self.options.max_bytes
            ),
            ErrorCode::STREAM_REPLICAS_NOT_SUPPORTED
            | ErrorCode::CLUSTER_NO_PEERS
            | ErrorCode::CLUSTER_REQUIRED => format!(
                "lower LIKEWISE_NATS_REPLICAS (now {}), or add servers; likes go to the database until \
                 then",
                self.options.replicas
            ),
            code if code.0 < 10_010 && error.code() >= 500 => {
                // For example, the cluster has no leader.
                return NatsError::Unavailable(format!("{path}: {error}"));
            }
            _ => "likes go to the database until then".to_owned(),
        };
        NatsError::Refused {
            what: path.to_owned(),
            said: error.to_string(),
            advice,
        }
    }
}

/// Returns how long a stream remembers the ids of messages, to drop repeats: two minutes, or the age that it keeps
/// messages for.
pub(super) fn duplicate_window(max_age: Duration) -> Duration {
    const LONGEST: Duration = Duration::from_secs(120);
    match max_age {
        Duration::ZERO => LONGEST,
        max_age => LONGEST.min(max_age),
    }
}

pub(super) fn backlog_of(consumer: &Value) -> u64 {
    number(&consumer["num_pending"]) + number(&consumer["num_ack_pending"])
}

pub(super) fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

pub(super) fn moment(value: &Value) -> Option<DateTime<Utc>> {
    value.as_str()?.parse().ok()
}

pub(super) fn json_of(config: &impl Serialize) -> Value {
    serde_json::to_value(config)
        .unwrap_or_else(|error| unreachable!("settings are always JSON: {error}"))
}
