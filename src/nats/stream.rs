//! The stream and its consumer. A process creates missing ones and compares existing ones. Only an operator changes them
//! (`likewise stream apply`).

use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use async_nats::jetstream::consumer::{
    AckPolicy, DeliverPolicy, IntoConsumerConfig, PullConsumer, pull,
};
use async_nats::jetstream::response::Response;
use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, StorageType};
use async_nats::jetstream::{self, ErrorCode};
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::connection::{Broker, Doing};
use super::settings::{
    Holds, Owner, Setting, Severity, compare, newly_filtered, our_subjects, refusals,
};
use super::{CONSUMER, NatsError};
use crate::telemetry::{BrokerReady, StreamCompared};

/// The interval between comparisons of a stream in order.
const COMPARE_EVERY: Duration = Duration::from_secs(10);

/// The result of the last check.
#[derive(Debug, Default)]
pub(super) struct Watch {
    checked: Option<Instant>,
    /// The description of every difference.
    differences: Vec<String>,
    /// The reason why nothing is published, if it lies in the settings.
    error: Option<String>,
}

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
    /// The consumer's name.
    pub consumer: &'static str,
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

    fn errors(&self) -> Vec<String> {
        self.differences()
            .filter(|setting| setting.difference == Some(Severity::Error))
            .map(Setting::sentence)
            .collect()
    }
}

/// The result of `stream apply`, or of its dry run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Applied {
    /// Whether this was a dry run.
    pub dry_run: bool,
    /// Whether the stream or its consumer is created.
    pub creates: bool,
    /// The settings that change.
    pub changes: Vec<Setting>,
    /// The reasons to refuse. If there is one, nothing changes.
    pub refusals: Vec<String>,
    /// The stream sequence at which a new consumer starts, if the existing one skipped messages of required subjects. Events
    /// that arrive twice count once.
    pub redelivers_from: Option<u64>,
}

/// The stream and the consumer as the server describes them.
struct Found {
    stream: Option<Value>,
    consumer: Option<Value>,
}

impl Found {
    fn stream_config(&self) -> Option<&Value> {
        self.stream.as_ref().map(|info| &info["config"])
    }

    fn consumer_config(&self) -> Option<&Value> {
        self.consumer.as_ref().map(|info| &info["config"])
    }
}

impl Broker {
    /// Checks the server, and compares the stream and its consumer with the configuration. Creates missing ones; never changes
    /// existing ones.
    ///
    /// # Errors
    /// If the server is too old, does not answer, refuses to create them, or has them with settings that would
    /// lose acknowledged likes.
    pub async fn check(&self) -> Result<(), NatsError> {
        let _one_at_a_time = self.checking.lock().await;
        let was_ready = self.is_ready();
        let checked = self.compare_or_create().await;
        self.watch().checked = Some(Instant::now());
        match &checked {
            Ok(report) => {
                self.compared(report);
                self.ready.store(true, Ordering::Relaxed);
                if !self.succeeded(Doing::Checking) && !was_ready {
                    BrokerReady.emit();
                }
            }
            // A server that is slow to describe a stream may still accept events; publishing shows it.
            Err(NatsError::Unavailable(_)) if was_ready => {}
            Err(error) => {
                self.suspect();
                self.failed(Doing::Checking, error);
            }
        }
        checked.map(drop)
    }

    /// Runs [`check`](Self::check) if it is due: while the stream is not in order, and every ten seconds. Logs each cause of a
    /// failure once.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    pub async fn check_if_due(&self) -> Result<(), NatsError> {
        if !self.is_connected() || self.checking.try_lock().is_err() {
            return Ok(());
        }
        let checked = self.watch().checked;
        let is_fresh = checked.is_some_and(|checked| checked.elapsed() < COMPARE_EVERY);
        if self.is_ready() && is_fresh {
            return Ok(());
        }
        self.check().await
    }

    /// Returns descriptions of the differences that the last check found.
    #[must_use]
    pub fn differences(&self) -> Vec<String> {
        self.watch().differences.clone()
    }

    /// Returns the reason why nothing is published, if it lies in the stream's settings.
    #[must_use]
    pub fn misconfigured(&self) -> Option<String> {
        self.watch().error.clone()
    }

    fn watch(&self) -> std::sync::MutexGuard<'_, Watch> {
        self.watch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stores the result of a comparison. Logs the differences when they change.
    fn compared(&self, report: &StreamReport) {
        let differences: Vec<_> = report.differences().map(Setting::sentence).collect();
        let errors = report.errors();
        let mut watch = self.watch();
        watch.error = (!errors.is_empty()).then(|| self.misconfiguration(&errors).to_string());
        let changed = watch.differences != differences;
        watch.differences.clone_from(&differences);
        drop(watch);
        StreamCompared {
            stream: &report.stream,
            differences: &differences,
            errors: errors.len(),
            changed,
        }
        .emit();
    }

    fn misconfiguration(&self, errors: &[String]) -> NatsError {
        NatsError::Misconfigured {
            stream: self.options.stream.clone(),
            reason: errors.join("; "),
        }
    }

    async fn compare_or_create(&self) -> Result<StreamReport, NatsError> {
        if !self.is_connected() {
            return Err(NatsError::Unavailable(format!(
                "no connection to {}",
                self.options.url_without_password()
            )));
        }
        self.check_version()?;
        let mut found = self.find().await?;
        if found.stream.is_none() {
            found.stream = Some(self.create_stream().await?);
        }
        let errors = self.report(&found, None).errors();
        if found.consumer.is_none() && errors.is_empty() {
            found.consumer = Some(self.create_consumer().await?);
        }
        let report = self.report(&found, None);
        let errors = report.errors();
        if errors.is_empty() {
            return Ok(report);
        }
        self.compared(&report);
        Err(self.misconfiguration(&errors))
    }

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

    /// Changes the stream and its consumer to the configured settings, or creates them. Changes nothing if any
    /// change could lose acknowledged likes; see [`Applied::refusals`].
    ///
    /// # Errors
    /// If NATS does not answer or refuses.
    pub async fn apply(&self, dry_run: bool, fewer_replicas: bool) -> Result<Applied, NatsError> {
        self.check_version()?;
        let found = self.find().await?;
        let holds = self.holds(&found).await?;
        let report = self.report(&found, holds);
        let changes: Vec<_> = report.differences().cloned().collect();
        let held = report.holds.clone().unwrap_or_default();
        let mut applied = Applied {
            dry_run,
            creates: found.stream.is_none() || found.consumer.is_none(),
            refusals: refusals(&changes, &held, Utc::now(), fewer_replicas),
            redelivers_from: self.passed_over(&found).await?,
            changes,
        };
        if !applied.refusals.is_empty() {
            applied.redelivers_from = None;
        }
        if dry_run || !applied.refusals.is_empty() {
            return Ok(applied);
        }
        let changes = |owner: Owner| {
            let changes = applied.changes.iter();
            changes.filter(move |change| change.owner == owner)
        };
        match found.stream_config() {
            None => drop(self.create_stream().await?),
            Some(config) if changes(Owner::Stream).next().is_some() => {
                let config = overlaid(config, changes(Owner::Stream));
                let subject = format!("STREAM.UPDATE.{}", self.options.stream);
                self.ask(&subject, &config).await?;
            }
            Some(_) => {}
        }
        let replaced = changes(Owner::Consumer).any(|change| change.field == "ack_policy");
        match found.consumer_config() {
            None => drop(self.create_consumer().await?),
            Some(_) if replaced || applied.redelivers_from.is_some() => {
                // From the beginning if the consumer did not need acknowledgements: taken messages may not be recorded.
                let from = applied.redelivers_from.filter(|_| !replaced);
                self.replace_consumer(from).await?;
            }
            Some(config) if changes(Owner::Consumer).next().is_some() => {
                let config = overlaid(config, changes(Owner::Consumer));
                self.write_consumer("update", &config).await?;
            }
            Some(_) => {}
        }
        Ok(applied)
    }

    /// Returns the durable consumer. Creates it if it is missing.
    ///
    /// # Errors
    /// If NATS does not answer or refuses.
    pub async fn consumer(&self) -> Result<PullConsumer, NatsError> {
        let unavailable = |error: &dyn std::fmt::Display| {
            NatsError::Unavailable(format!("consumer {CONSUMER}: {error}"))
        };
        if self.consumer_info().await?.is_none() {
            self.create_consumer().await?;
        }
        self.context
            .get_consumer_from_stream(CONSUMER, &self.options.stream)
            .await
            .map_err(|error| unavailable(&error))
    }

    /// Returns the number of unacknowledged messages; zero if there is no consumer yet.
    ///
    /// # Errors
    /// If NATS does not answer, or the consumer skips required subjects.
    pub async fn backlog(&self) -> Result<u64, NatsError> {
        let found = self.find().await?;
        let Some(consumer) = &found.consumer else {
            return Ok(0);
        };
        let passed_over = newly_filtered(&consumer["config"]);
        if !passed_over.is_empty() {
            return Err(self.misconfiguration(&[format!(
                "its consumer {CONSUMER} takes nothing from {}",
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

    fn report(&self, found: &Found, holds: Option<Holds>) -> StreamReport {
        let mut settings = compare(
            Owner::Stream,
            &json_of(&self.stream_config()),
            found.stream_config(),
        );
        settings.extend(compare(
            Owner::Consumer,
            &json_of(&consumer_config(self).into_consumer_config()),
            found.consumer_config(),
        ));
        let worst = settings
            .iter()
            .filter_map(|setting| setting.difference)
            .max();
        StreamReport {
            stream: self.options.stream.clone(),
            consumer: CONSUMER,
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

    async fn find(&self) -> Result<Found, NatsError> {
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

    async fn consumer_info(&self) -> Result<Option<Value>, NatsError> {
        let subject = format!("CONSUMER.INFO.{}.{CONSUMER}", self.options.stream);
        self.ask_for(&subject, ErrorCode::CONSUMER_NOT_FOUND).await
    }

    /// Returns the stream's content, and the age of its oldest unacknowledged message.
    async fn holds(&self, found: &Found) -> Result<Option<Holds>, NatsError> {
        let Some(stream) = &found.stream else {
            return Ok(None);
        };
        let state = &stream["state"];
        let messages = number(&state["messages"]);
        let oldest_at = moment(&state["first_ts"]).filter(|_| messages > 0);
        let (unacknowledged, oldest_unacknowledged_at) = match &found.consumer {
            None => (messages, oldest_at),
            Some(consumer) => match backlog_of(consumer) {
                0 => (0, None),
                backlog => {
                    let next = number(&consumer["ack_floor"]["stream_seq"]) + 1;
                    let oldest = self.message_after(next, ">").await?;
                    (backlog, oldest.and_then(|message| moment(&message["time"])))
                }
            },
        };
        Ok(Some(Holds {
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

    /// Returns the sequence of the first message that the consumer's filter skipped; `None` if it skipped none.
    async fn passed_over(&self, found: &Found) -> Result<Option<u64>, NatsError> {
        let Some(consumer) = &found.consumer else {
            return Ok(None);
        };
        let delivered = number(&consumer["delivered"]["stream_seq"]);
        let mut first = None;
        for subject in newly_filtered(&consumer["config"]) {
            let message = self.message_after(1, &subject).await?;
            let sequence = message.map(|message| number(&message["seq"]));
            if let Some(sequence) = sequence.filter(|sequence| *sequence <= delivered) {
                let unacknowledged = number(&consumer["ack_floor"]["stream_seq"]) + 1;
                let from = sequence.min(unacknowledged);
                first = Some(first.map_or(from, |first: u64| first.min(from)));
            }
        }
        Ok(first)
    }

    /// Returns the first message on these subjects at or after this sequence.
    async fn message_after(
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

    /// Returns the configured stream.
    fn stream_config(&self) -> Config {
        let longest = Duration::from_secs(120);
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
            duplicate_window: match self.options.max_age {
                Duration::ZERO => longest,
                max_age => longest.min(max_age),
            },
            ..Config::default()
        }
    }

    /// Creates the stream. If two processes do so at once, one creates it and the other finds it.
    async fn create_stream(&self) -> Result<Value, NatsError> {
        let name = &self.options.stream;
        let subject = format!("STREAM.CREATE.{name}");
        let config = json_of(&self.stream_config());
        let created = self
            .request(&subject, &config, ErrorCode::STREAM_NAME_EXIST)
            .await?;
        match created {
            Some(info) => Ok(info),
            None => self.ask(&format!("STREAM.INFO.{name}"), &json!({})).await,
        }
    }

    /// Creates the consumer. If two processes do so at once, one creates it and the other finds it.
    async fn create_consumer(&self) -> Result<Value, NatsError> {
        let config = json_of(&consumer_config(self).into_consumer_config());
        match self.write_consumer("create", &config).await? {
            Some(info) => Ok(info),
            None => {
                let found = self.consumer_info().await?;
                found.ok_or_else(|| {
                    NatsError::Unavailable(format!("consumer {CONSUMER} came and went"))
                })
            }
        }
    }

    /// Replaces the consumer with one that starts at this sequence, or at the beginning.
    async fn replace_consumer(&self, from: Option<u64>) -> Result<(), NatsError> {
        let name = &self.options.stream;
        let path = format!("CONSUMER.DELETE.{name}.{CONSUMER}");
        self.ask(&path, &json!({})).await?;
        let deliver_policy = from.map_or(DeliverPolicy::All, |start_sequence| {
            DeliverPolicy::ByStartSequence { start_sequence }
        });
        let config = pull::Config {
            deliver_policy,
            ..consumer_config(self)
        };
        // A worker may have created one that delivers everything, which only takes longer.
        self.write_consumer("create", &json_of(&config.into_consumer_config()))
            .await
            .map(drop)
    }

    /// Creates or updates the consumer; `None` if its name is taken.
    async fn write_consumer(
        &self,
        action: &str,
        config: &Value,
    ) -> Result<Option<Value>, NatsError> {
        let stream = &self.options.stream;
        let request = json!({"stream_name": stream, "config": config, "action": action});
        let path = format!("CONSUMER.CREATE.{stream}.{CONSUMER}");
        self.request(&path, &request, ErrorCode::CONSUMER_ALREADY_EXISTS)
            .await
    }

    async fn ask_for(&self, path: &str, absent: ErrorCode) -> Result<Option<Value>, NatsError> {
        self.request(path, &json!({}), absent).await
    }

    async fn ask(&self, path: &str, request: &Value) -> Result<Value, NatsError> {
        let answer = self.request(path, request, ErrorCode(0)).await?;
        answer.ok_or_else(|| NatsError::Unavailable(format!("{path} was not answered")))
    }

    /// Sends a request to JetStream's API; `None` if it returns this error.
    async fn request(
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

fn consumer_config(broker: &Broker) -> pull::Config {
    pull::Config {
        durable_name: Some(CONSUMER.to_owned()),
        deliver_policy: DeliverPolicy::All,
        ack_policy: AckPolicy::Explicit,
        ack_wait: broker.options.redeliver_after,
        // Unlimited: invalid messages are quarantined and then acknowledged.
        max_deliver: -1,
        filter_subjects: our_subjects(),
        max_ack_pending: broker.options.max_ack_pending,
        ..pull::Config::default()
    }
}

/// Returns the server's settings with these changes.
fn overlaid<'a>(config: &Value, changes: impl Iterator<Item = &'a Setting>) -> Value {
    let mut config = config.clone();
    for change in changes {
        if change.field == "filter_subjects"
            && let Some(config) = config.as_object_mut()
        {
            config.remove("filter_subject");
        }
        config[change.field] = change.raw.clone();
    }
    config
}

fn backlog_of(consumer: &Value) -> u64 {
    number(&consumer["num_pending"]) + number(&consumer["num_ack_pending"])
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

fn moment(value: &Value) -> Option<DateTime<Utc>> {
    value.as_str()?.parse().ok()
}

fn json_of(config: &impl Serialize) -> Value {
    serde_json::to_value(config)
        .unwrap_or_else(|error| unreachable!("settings are always JSON: {error}"))
}
