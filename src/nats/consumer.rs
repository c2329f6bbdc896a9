//! The durable consumer that all workers of a deployment share: its name, and the message that it starts at.
//!
//! Its name contains the generation of the deployment, and its metadata the deployment. So a database never takes over
//! the progress of another one, or of its own state before a backup was restored.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_nats::Request;
use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::consumer::{
    AckPolicy, DeliverPolicy, IntoConsumerConfig, PullConsumer, pull,
};
use async_nats::jetstream::message::{AckKind, Message};
use serde_json::{Value, json};

use super::connection::Broker;
use super::jetstream::{json_of, number};
use super::subjects::our_subjects;
use super::{DEPLOYMENT_HEADER, NatsError};
use crate::domain::Deployment;
use crate::domain::origin::Origin;
use crate::telemetry::{ConsumerStarted, Start};

/// The beginning of the consumers' names.
const PREFIX: &str = "likewise-workers-";

/// The keys of a consumer's metadata.
const DEPLOYMENT: &str = "likewise_deployment";
const GENERATION: &str = "likewise_generation";
/// The first stream sequence that belongs to the deployment.
const FIRST_SEQUENCE: &str = "likewise_first_sequence";
/// The last known heartbeat of the database.
const BEAT: &str = "likewise_beat";

/// The longest wait for the answers to a note of a heartbeat.
pub(super) const BEAT_TIMEOUT: Duration = Duration::from_secs(2);

/// How long the server keeps the consumer of an earlier generation after the last pull.
const KEPT_AFTER_RESTORE: Duration = Duration::from_secs(3_600);

/// A consumer of a deployment, as its metadata describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Known {
    deployment: Deployment,
    first_sequence: u64,
}

impl Known {
    /// Reads the description of a consumer; `None` for one that Likewise did not create.
    fn of(info: &Value) -> Option<Self> {
        let metadata = &info["config"]["metadata"];
        let deployment = Deployment {
            id: metadata[DEPLOYMENT].as_str()?.parse().ok()?,
            generation: metadata[GENERATION].as_str()?.to_owned(),
        };
        let first_sequence = metadata[FIRST_SEQUENCE].as_str()?.parse().ok()?;
        Some(Self {
            deployment,
            first_sequence,
        })
    }
}

/// Returns where the first consumer of this generation starts, given the consumers of the stream and its last sequence.
fn start_of(deployment: &Deployment, known: &[Known], last_sequence: u64) -> (u64, Start) {
    let own = known
        .iter()
        .filter(|one| one.deployment.id == deployment.id);
    match own.map(|one| one.first_sequence).min() {
        Some(first) => (first, Start::AfterRestore),
        None if known.is_empty() => (1, Start::First),
        None => (last_sequence + 1, Start::OnSharedStream),
    }
}

impl Broker {
    /// Returns the name of the deployment's consumer.
    ///
    /// # Errors
    /// If the deployment is unknown.
    pub(super) fn consumer_name(&self) -> Result<String, NatsError> {
        Ok(name_of(&*self.known_deployment()?))
    }

    fn known_deployment(&self) -> Result<Arc<Deployment>, NatsError> {
        self.deployment.get().ok_or_else(|| {
            NatsError::Unavailable(
                "the database, which names the consumer, has not answered yet".to_owned(),
            )
        })
    }

    /// Returns the durable consumer. Creates it if it is missing.
    ///
    /// # Errors
    /// If NATS does not answer or refuses, or the deployment is unknown.
    pub async fn consumer(&self) -> Result<PullConsumer, NatsError> {
        let name = self.consumer_name()?;
        if self.consumer_info().await?.is_none() {
            self.create_consumer().await?;
        }
        self.context
            .get_consumer_from_stream(&name, &self.options.stream)
            .await
            .map_err(|error| NatsError::Unavailable(format!("consumer {name}: {error}")))
    }

    /// Returns whether the deployment, which names the consumer, is known.
    #[must_use]
    pub fn is_named(&self) -> bool {
        self.deployment.get().is_some()
    }

    /// Returns whether this is the consumer of the current generation.
    #[must_use]
    pub fn is_current(&self, consumer: &PullConsumer) -> bool {
        let name = self.consumer_name();
        name.is_ok_and(|name| name == consumer.cached_info().name)
    }

    /// Describes the consumer; `None` if it is missing or the deployment is unknown.
    pub(super) async fn consumer_info(&self) -> Result<Option<Value>, NatsError> {
        match self.deployment.get() {
            Some(deployment) => self.consumer_info_of(&deployment).await,
            None => Ok(None),
        }
    }

    async fn consumer_info_of(&self, deployment: &Deployment) -> Result<Option<Value>, NatsError> {
        let subject = format!(
            "CONSUMER.INFO.{}.{}",
            self.options.stream,
            name_of(deployment)
        );
        self.ask_for(&subject, ErrorCode::CONSUMER_NOT_FOUND).await
    }

    /// Creates the consumer. If two processes do so at once, one creates it and the other finds it.
    ///
    /// The first consumer of a stream takes every message. After a restore, the new generation takes every message of
    /// the deployment again; events that are recorded already count once. On a stream that another deployment uses, it
    /// takes the messages that arrive from now on.
    pub(super) async fn create_consumer(&self) -> Result<Value, NatsError> {
        let deployment = self.known_deployment()?;
        let known = self.known_consumers().await?;
        let stream = format!("STREAM.INFO.{}", self.options.stream);
        let last_sequence = number(&self.ask(&stream, &json!({})).await?["state"]["last_seq"]);
        let (first_sequence, start) = start_of(&deployment, &known, last_sequence);
        let config = pull::Config {
            deliver_policy: deliver_from(first_sequence),
            metadata: metadata(&deployment, first_sequence),
            ..self.consumer_config()
        };
        let config = json_of(&config.into_consumer_config());
        let Some(info) = self.write_consumer("create", &config).await? else {
            let found = self.consumer_info().await?;
            return found.ok_or_else(|| {
                NatsError::Unavailable(format!("consumer {} came and went", name_of(&deployment)))
            });
        };
        ConsumerStarted {
            stream: &self.options.stream,
            from: first_sequence,
            start,
        }
        .emit();
        for earlier in known
            .iter()
            .filter(|one| one.deployment.id == deployment.id)
        {
            self.retire(&earlier.deployment).await;
        }
        Ok(info)
    }

    /// Lets the server delete the consumer of an earlier generation when no process pulls from it any more. If that
    /// fails, the consumer stays, which costs only its place.
    async fn retire(&self, earlier: &Deployment) {
        let Ok(Some(info)) = self.consumer_info_of(earlier).await else {
            return;
        };
        let mut config = info["config"].clone();
        config["inactive_threshold"] = json!(KEPT_AFTER_RESTORE.as_nanos() as u64);
        let _ = self.write("update", &name_of(earlier), &config).await;
    }

    /// Returns the deployment whose events the stream carries, if it is only one. A process that starts without its
    /// database works under it until the database answers.
    ///
    /// # Errors
    /// If NATS does not answer.
    pub async fn only_deployment(&self) -> Result<Option<Deployment>, NatsError> {
        let known = self.known_consumers().await?;
        match known.as_slice() {
            [only] => Ok(Some(only.deployment.clone())),
            _ => Ok(None),
        }
    }

    async fn known_consumers(&self) -> Result<Vec<Known>, NatsError> {
        let path = format!("CONSUMER.LIST.{}", self.options.stream);
        let listed = self.ask_for(&path, ErrorCode::STREAM_NOT_FOUND).await?;
        let listed = listed.unwrap_or_default();
        let consumers = listed["consumers"].as_array();
        Ok(consumers
            .into_iter()
            .flatten()
            .filter_map(Known::of)
            .collect())
    }

    /// Replaces the consumer with one that starts at this sequence, or at the first of the deployment.
    pub(super) async fn replace_consumer(&self, from: Option<u64>) -> Result<(), NatsError> {
        let deployment = self.known_deployment()?;
        let found = self.consumer_info_of(&deployment).await?;
        let first_sequence = found
            .as_ref()
            .and_then(Known::of)
            .map_or(1, |one| one.first_sequence);
        let path = format!(
            "CONSUMER.DELETE.{}.{}",
            self.options.stream,
            name_of(&deployment)
        );
        self.ask(&path, &json!({})).await?;
        let config = pull::Config {
            deliver_policy: deliver_from(from.unwrap_or(first_sequence)),
            metadata: metadata(&deployment, first_sequence),
            ..self.consumer_config()
        };
        // A worker may have created one that delivers everything, which only takes longer.
        self.write_consumer("create", &json_of(&config.into_consumer_config()))
            .await
            .map(drop)
    }

    /// Creates or updates the consumer; `None` if its name is taken.
    pub(super) async fn write_consumer(
        &self,
        action: &str,
        config: &Value,
    ) -> Result<Option<Value>, NatsError> {
        self.write(action, &self.consumer_name()?, config).await
    }

    async fn write(
        &self,
        action: &str,
        name: &str,
        config: &Value,
    ) -> Result<Option<Value>, NatsError> {
        let stream = &self.options.stream;
        let request = json!({"stream_name": stream, "config": config, "action": action});
        let path = format!("CONSUMER.CREATE.{stream}.{name}");
        self.request(&path, &request, ErrorCode::CONSUMER_ALREADY_EXISTS)
            .await
    }

    /// Returns the last heartbeat of this generation that the consumer knows of; `None` if it knows none.
    ///
    /// # Errors
    /// If NATS does not answer.
    pub async fn last_beat(&self, deployment: &Deployment) -> Result<Option<i64>, NatsError> {
        let found = self.consumer_info_of(deployment).await?;
        let beat = found.map(|info| info["config"]["metadata"][BEAT].clone());
        Ok(beat.and_then(|beat| beat.as_str()?.parse().ok()))
    }

    /// Notes a heartbeat of the current generation at its consumer, if that exists. JetStream writes only whole configurations,
    /// and has no conditional write: a change between the read and the write is undone. So `stream apply` reads its changes
    /// back.
    ///
    /// # Errors
    /// If NATS does not answer in time or refuses.
    pub async fn note_beat(&self, deployment: &Deployment, beat: i64) -> Result<(), NatsError> {
        let note = async {
            let Some(info) = self.consumer_info_of(deployment).await? else {
                return Ok(());
            };
            let mut config = info["config"].clone();
            config["metadata"][BEAT] = json!(beat.to_string());
            self.write("update", &name_of(deployment), &config)
                .await
                .map(drop)
        };
        let noted = tokio::time::timeout(BEAT_TIMEOUT, note).await;
        noted.unwrap_or_else(|_| {
            Err(NatsError::Unavailable(format!(
                "the heartbeat was not noted within {BEAT_TIMEOUT:?}"
            )))
        })
    }

    /// Acknowledges a message, and awaits the server's confirmation.
    ///
    /// # Errors
    /// If the server does not confirm it.
    pub async fn acknowledge(&self, message: &Message) -> Result<(), NatsError> {
        let unavailable = |error: &dyn std::fmt::Display| NatsError::Unavailable(error.to_string());
        let reply = message.reply.clone();
        let reply = reply.ok_or_else(|| unavailable(&"the message has no reply subject"))?;
        // Unlike the client's own double acknowledgement, a request needs no subscription for each message.
        let request = Request::new()
            .payload(AckKind::Ack.into())
            .timeout(Some(self.options.ack_timeout));
        let confirmed = self.client.send_request(reply, request).await;
        confirmed.map(drop).map_err(|error| unavailable(&error))
    }

    /// Returns whether this message holds events of our own tree that another deployment accepted.
    #[must_use]
    pub fn is_of_another_deployment(&self, message: &Message) -> bool {
        if Origin::of(&message.subject) != Origin::Accepted {
            return false;
        }
        let headers = message.headers.as_ref();
        let named = headers.and_then(|headers| headers.get(DEPLOYMENT_HEADER));
        let Some((named, own)) = named.zip(self.deployment.get()) else {
            return false;
        };
        named.as_str().parse() != Ok(own.id)
    }

    /// Returns the configured consumer.
    pub(super) fn consumer_config(&self) -> pull::Config {
        pull::Config {
            durable_name: self.consumer_name().ok(),
            ack_policy: AckPolicy::Explicit,
            ack_wait: self.options.redeliver_after,
            // Unlimited: invalid messages are quarantined and then acknowledged.
            max_deliver: -1,
            filter_subjects: our_subjects(),
            max_ack_pending: self.options.max_ack_pending,
            ..pull::Config::default()
        }
    }
}

fn name_of(deployment: &Deployment) -> String {
    format!("{PREFIX}{}", deployment.generation)
}

fn deliver_from(sequence: u64) -> DeliverPolicy {
    match sequence {
        0 | 1 => DeliverPolicy::All,
        start_sequence => DeliverPolicy::ByStartSequence { start_sequence },
    }
}

fn metadata(deployment: &Deployment, first_sequence: u64) -> HashMap<String, String> {
    HashMap::from([
        (DEPLOYMENT.to_owned(), deployment.id.to_string()),
        (GENERATION.to_owned(), deployment.generation.clone()),
        (FIRST_SEQUENCE.to_owned(), first_sequence.to_string()),
    ])
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn known(id: u128, generation: &str, first_sequence: u64) -> Known {
        let deployment = Deployment {
            id: Uuid::from_u128(id),
            generation: generation.to_owned(),
        };
        Known {
            deployment,
            first_sequence,
        }
    }

    #[test]
    fn consumer_starts_where_its_deployment_began() {
        let own = known(1, "new", 0).deployment;
        assert_eq!(start_of(&own, &[], 9), (1, Start::First));
        let others = [known(2, "other", 1)];
        assert_eq!(start_of(&own, &others, 9), (10, Start::OnSharedStream));
        let before = [
            known(2, "other", 1),
            known(1, "old", 5),
            known(1, "older", 4),
        ];
        assert_eq!(start_of(&own, &before, 9), (4, Start::AfterRestore));
    }
}
