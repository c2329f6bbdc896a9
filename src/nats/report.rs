//! Describes the stream and its consumer beside the configured settings, for operators and for the check.

use std::time::{Duration, Instant};

use async_nats::jetstream::consumer::IntoConsumerConfig;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::NatsError;
use super::connection::Broker;
use super::jetstream::{Found, backlog_of, json_of, moment, number};
use super::refusals::Holds;
use super::settings::{Owner, Setting, Severity, compare, newly_filtered};
use super::waiting::End;

/// The state of the stream and its consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum StreamState {
    /// The stream or the consumer is missing: the next check of a process creates it.
    Absent,
    /// Every setting matches the configuration.
    AsConfigured,
    /// Limits differ.
    Differs,
    /// A setting would lose acknowledged likes, so nothing is published.
    Misconfigured,
}

/// The settings of the stream and its consumer, configured and current.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct StreamReport {
    /// The stream's name.
    pub stream: String,
    /// The consumer's name; null until the database has named the deployment.
    pub consumer: Option<String>,
    /// The result of the comparison.
    pub state: StreamState,
    /// Each setting, side by side.
    pub settings: Vec<Setting>,
    /// The stream's content; null if there is no stream.
    pub holds: Option<Holds>,
}

impl StreamReport {
    /// The settings that differ.
    pub fn differences(&self) -> impl Iterator<Item = &Setting> {
        let settings = self.settings.iter();
        settings.filter(|setting| setting.difference.is_some())
    }

    pub(super) fn errors(&self) -> Vec<String> {
        self.differences()
            .filter(|setting| setting.difference == Some(Severity::Error))
            .map(Setting::sentence)
            .collect()
    }
}

impl Broker {
    /// Compares the stream and its consumer with the configured settings.
    ///
    /// # Errors
    /// If NATS does not answer.
    pub async fn inspect(&self) -> Result<StreamReport, NatsError> {
        self.check_version()?;
        let found = self.find().await?;
        let holds = self.holds(&found).await?;
        Ok(self.report(&found, holds))
    }

    /// Returns the number of unacknowledged messages; zero if there is no consumer yet.
    ///
    /// # Errors
    /// If NATS does not answer, or the consumer skips required subjects.
    pub async fn backlog(&self) -> Result<u64, NatsError> {
        self.backlog_in(&self.find().await?)
    }

    /// As [`backlog`](Self::backlog), of a stream and a consumer that were found.
    pub(super) fn backlog_in(&self, found: &Found) -> Result<u64, NatsError> {
        let Some(consumer) = &found.consumer else {
            return Ok(0);
        };
        let passed_over = newly_filtered(&consumer["config"]);
        if !passed_over.is_empty() {
            return Err(self.misconfiguration(&[format!(
                "its consumer {} takes nothing from {}",
                self.consumer_name()?,
                passed_over.join(", ")
            )]));
        }
        // The server counts a message as pending shortly after it acknowledges it to the publisher.
        let stream = found.stream.as_ref().map(|info| &info["state"]);
        let is_behind = stream.is_some_and(|state| {
            number(&state["messages"]) > 0
                && number(&state["last_seq"]) > number(&consumer["delivered"]["stream_seq"])
        });
        Ok(backlog_of(consumer).max(is_behind.into()))
    }

    pub(super) fn report(&self, found: &Found, holds: Option<Holds>) -> StreamReport {
        let mut settings = compare(
            Owner::Stream,
            &json_of(&self.stream_config()),
            found.stream_config(),
        );
        settings.extend(compare(
            Owner::Consumer,
            &json_of(&self.consumer_config().into_consumer_config()),
            found.consumer_config(),
        ));
        let worst = settings
            .iter()
            .filter_map(|setting| setting.difference)
            .max();
        StreamReport {
            stream: self.options.stream.clone(),
            consumer: self.consumer_name().ok(),
            state: match worst {
                Some(Severity::Error) => StreamState::Misconfigured,
                _ if found.stream.is_none() || found.consumer.is_none() => StreamState::Absent,
                Some(Severity::Warning) => StreamState::Differs,
                None => StreamState::AsConfigured,
            },
            settings,
            holds,
        }
    }

    /// Returns the stream's content, and the age of its oldest unacknowledged message.
    pub(super) async fn holds(&self, found: &Found) -> Result<Option<Holds>, NatsError> {
        let Some(stream) = &found.stream else {
            return Ok(None);
        };
        let described_at = moment(&stream["ts"]).ok_or_else(|| {
            let stream = &self.options.stream;
            NatsError::Unavailable(format!(
                "STREAM.INFO.{stream} was answered without its time"
            ))
        })?;
        let state = &stream["state"];
        let messages = number(&state["messages"]);
        let oldest_at = moment(&state["first_ts"]).filter(|_| messages > 0);
        let (unacknowledged, oldest_unacknowledged_at) = match &found.consumer {
            None => (messages, oldest_at),
            Some(consumer) => match backlog_of(consumer) {
                0 => (0, None),
                backlog => {
                    let oldest = self.oldest_unacknowledged(found).await?;
                    (backlog, oldest.and_then(|message| moment(&message["time"])))
                }
            },
        };
        Ok(Some(Holds {
            described_at,
            messages,
            bytes: number(&state["bytes"]),
            oldest_at,
            unacknowledged,
            oldest_unacknowledged_at: oldest_unacknowledged_at.or(match unacknowledged {
                0 => None,
                _ => oldest_at,
            }),
        }))
    }

    /// Returns whether the stream may hold an unacknowledged message that was published this long ago, or earlier. A call while
    /// messages wait notes the end of the stream. A later call returns false once the acknowledgements have reached that end.
    ///
    /// # Errors
    /// If NATS does not answer, or the consumer skips required subjects.
    pub async fn waits_since(&self, published_ago: Duration) -> Result<bool, NatsError> {
        let at = Instant::now();
        let found = self.find().await?;
        let Some(stream) = &found.stream else {
            return Ok(false);
        };
        // Without a consumer, nothing is acknowledged.
        if found.consumer.is_some() && self.backlog_in(&found)? == 0 {
            return Ok(false);
        }
        let Some(oldest) = self.oldest_unacknowledged(&found).await? else {
            return Ok(false);
        };
        let sequence = number(&stream["state"]["last_seq"]);
        let (end, oldest) = (End { sequence, at }, number(&oldest["seq"]));
        Ok(self.awaited_end.may_wait(end, oldest, published_ago))
    }

    /// Returns the oldest message that the consumer has not acknowledged; without a consumer, the oldest one.
    pub(super) async fn oldest_unacknowledged(
        &self,
        found: &Found,
    ) -> Result<Option<Value>, NatsError> {
        let consumer = found.consumer.as_ref();
        let acknowledged = consumer.map_or(0, |info| number(&info["ack_floor"]["stream_seq"]));
        self.message_after(acknowledged + 1, ">").await
    }
}
