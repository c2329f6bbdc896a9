//! Erasing from the streams: messages stay in them after their acknowledgement, until they are too old. An erasure looks
//! through each stream once, and overwrites the messages of the erased. If a batch also holds events of others, these are
//! published again first. The job (`admin/erase.rs`) and the subscriber call it.

use std::time::{Duration, Instant};

use async_nats::HeaderMap;
use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::consumer::PullConsumer;
use async_nats::jetstream::message::Message;
use bytes::Bytes;
use futures_util::stream::{StreamExt, iter};
use serde_json::{Value, json};
use uuid::Uuid;

use super::batch::{is_batch, without};
use super::connection::Broker;
use super::jetstream::number;
use super::publish::publish_error;
use super::subjects::our_subjects;
use super::{DEPLOYMENT_HEADER, FACTS, NatsError};
use crate::domain::origin::ACCEPTED_BATCH;
use crate::domain::{DataSubject, Names};

/// The outcome of looking through a part of the stream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StreamSwept {
    /// The last sequence that was looked at. The next call continues after it.
    pub sequence: u64,
    /// The number of messages that were erased.
    pub erased: u64,
    /// The number of those that the server overwrote.
    pub overwritten: u64,
    /// The time that overwriting took.
    pub overwriting: Duration,
    /// The number of messages that no reader can decode.
    pub unreadable: u64,
}

/// A message to erase.
#[derive(Debug, Clone)]
pub struct Erasable {
    sequence: u64,
    /// A batch without the events of the erased; `None` if it holds no others.
    rest: Option<(HeaderMap, Bytes)>,
}

/// How much the server overwrites at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OverwriteLimit {
    /// The number of messages.
    pub messages: usize,
    /// The time after which no more are begun.
    pub time: Duration,
}

/// The messages of one step, and their bytes.
const MESSAGES: usize = 5_000;
const BYTES: usize = 8 << 20;

/// The requests to delete that run at once, and those to overwrite, which the server does one after the other.
const DELETING: usize = 128;
const OVERWRITING: usize = 8;

/// The longest silence of the server.
const SILENCE: Duration = Duration::from_secs(5);

/// The error of a server that cannot delete a message, for example because it is gone.
const DELETE_FAILED: ErrorCode = ErrorCode(10_057);

impl Broker {
    /// Returns the name of the stream of events.
    #[must_use]
    pub fn stream_name(&self) -> &str {
        &self.options.stream
    }

    /// Returns the last sequence of a stream; `None` if there is no such stream.
    ///
    /// # Errors
    /// If NATS does not answer.
    pub async fn last_sequence(&self, stream: &str) -> Result<Option<u64>, NatsError> {
        let path = format!("STREAM.INFO.{stream}");
        let info = self.ask_for(&path, ErrorCode::STREAM_NOT_FOUND).await?;
        Ok(info.map(|info| number(&info["state"]["last_seq"])))
    }

    /// Looks through the next messages up to `last`, and erases the events that name the subject. The server overwrites
    /// messages as the limit allows, because that is slow, and only deletes the others. Adds to `swept` what it did, also
    /// before an error. Events that another deployment accepted stay, because its ids are of other people.
    ///
    /// # Errors
    /// If NATS does not answer or refuses. The next call looks at the same messages again.
    pub async fn sweep(
        &self,
        stream: &str,
        last: u64,
        limit: OverwriteLimit,
        (subject, names): (&DataSubject, &Names<'_>),
        swept: &mut StreamSwept,
    ) -> Result<(), NatsError> {
        let name = format!("likewise-erase-{}", Uuid::now_v7());
        let subjects = if stream == self.options.stream {
            our_subjects()
        } else {
            vec![format!("{FACTS}.>")]
        };
        let config = json!({
            "name": name,
            "deliver_policy": "by_start_sequence",
            "opt_start_seq": swept.sequence + 1,
            "ack_policy": "none",
            "filter_subjects": subjects,
            "inactive_threshold": Duration::from_secs(60).as_nanos() as u64,
            "mem_storage": true,
            "num_replicas": 1,
        });
        let request = json!({"stream_name": stream, "config": config, "action": "create"});
        self.ask(&format!("CONSUMER.CREATE.{stream}.{name}"), &request)
            .await?;
        let outcome = self
            .sweep_with((stream, &name), last, limit, (subject, names), swept)
            .await;
        let path = format!("CONSUMER.DELETE.{stream}.{name}");
        // The server deletes it after a minute otherwise.
        let _ = self.ask(&path, &json!({})).await;
        outcome
    }

    async fn sweep_with(
        &self,
        (stream, name): (&str, &str),
        last: u64,
        limit: OverwriteLimit,
        (subject, names): (&DataSubject, &Names<'_>),
        swept: &mut StreamSwept,
    ) -> Result<(), NatsError> {
        let unavailable = |error: &dyn std::fmt::Display| NatsError::Unavailable(error.to_string());
        let consumer: PullConsumer = self
            .context
            .get_consumer_from_stream(name, stream)
            .await
            .map_err(|error| unavailable(&error))?;
        let mut messages = consumer
            .fetch()
            .max_messages(MESSAGES)
            .max_bytes(self.bytes_per_pull(BYTES))
            .messages()
            .await
            .map_err(|error| unavailable(&error))?;
        let mut found = Vec::new();
        let (mut seen, mut unreadable, mut sequence) = (0, 0, swept.sequence);
        loop {
            let next = tokio::time::timeout(SILENCE, messages.next()).await;
            let Some(message) = next.map_err(|error| unavailable(&error))? else {
                break;
            };
            let message = message.map_err(|error| unavailable(&error))?;
            let info = message.info().map_err(|error| unavailable(&error))?;
            seen += 1;
            sequence = info.stream_sequence;
            let named = match self.is_of_another_deployment(&message) {
                true => Some(false),
                false => subject.is_named_in_bytes(&message.payload, names),
            };
            match named {
                Some(true) => {
                    let is_removed = |_, event: &Value| subject.is_named_in(event, names);
                    found.push(self.erasable(&message, sequence, is_removed));
                }
                Some(false) => {}
                None => unreadable += 1,
            }
            if info.stream_sequence >= last || info.pending == 0 {
                break;
            }
        }
        let pending = consumer.cached_info().num_pending;
        if pending <= seen {
            // The rest is on other subjects.
            sequence = sequence.max(last);
        } else if seen == 0 {
            return Err(unavailable(&"the server delivered none of its messages"));
        }
        self.erase_messages(stream, found, limit, swept).await?;
        swept.unreadable += unreadable;
        swept.sequence = sequence;
        Ok(())
    }

    /// Returns what to erase of a message: all of it, or the given events of a batch, by their places and JSON.
    #[must_use]
    pub fn erasable(
        &self,
        message: &Message,
        sequence: u64,
        is_removed: impl Fn(usize, &Value) -> bool,
    ) -> Erasable {
        // A body that is no batch holds no event of others that could be recorded.
        let rest = match is_batch(&message.subject) {
            true => without(&message.payload, is_removed).ok().flatten(),
            false => None,
        };
        let rest = rest.map(|body| {
            let mut headers = HeaderMap::new();
            let given = message.headers.as_ref();
            if let Some(deployment) = given.and_then(|given| given.get(DEPLOYMENT_HEADER)) {
                headers.insert(DEPLOYMENT_HEADER, deployment.clone());
            }
            (headers, body)
        });
        Erasable { sequence, rest }
    }

    /// Erases messages from a stream. The server overwrites the first, as the limit allows, and only deletes the others:
    /// nobody can read these, but their bytes stay on its disk for a while. Messages that are gone already count as erased.
    /// Adds to `swept` what it did, also before an error.
    ///
    /// # Errors
    /// If NATS does not answer or refuses.
    pub async fn erase_messages(
        &self,
        stream: &str,
        messages: Vec<Erasable>,
        limit: OverwriteLimit,
        swept: &mut StreamSwept,
    ) -> Result<(), NatsError> {
        let started = Instant::now();
        let mut rest = messages.into_iter();
        let mut left = limit.messages;
        while left > 0 && started.elapsed() < limit.time {
            let next: Vec<_> = rest.by_ref().take(OVERWRITING.min(left)).collect();
            if next.is_empty() {
                break;
            }
            left -= next.len();
            let mut overwriting = iter(next)
                .map(|message| self.erase_message(stream, message, true))
                .buffer_unordered(OVERWRITING);
            while let Some(erased) = overwriting.next().await {
                erased?;
                swept.erased += 1;
                swept.overwritten += 1;
            }
        }
        swept.overwriting += started.elapsed();
        let mut deleting = iter(rest)
            .map(|message| self.erase_message(stream, message, false))
            .buffer_unordered(DELETING);
        while let Some(erased) = deleting.next().await {
            erased?;
            swept.erased += 1;
        }
        Ok(())
    }

    async fn erase_message(
        &self,
        stream: &str,
        Erasable { sequence, rest }: Erasable,
        overwrites: bool,
    ) -> Result<(), NatsError> {
        // The workers may not have recorded these, and a restored database takes them again. What they have recorded they
        // recognise.
        if let Some((headers, body)) = rest {
            let sent = self
                .context
                .publish_with_headers(ACCEPTED_BATCH, headers, body);
            let stored = sent.await.map_err(|error| publish_error(&error))?.await;
            stored.map_err(|error| publish_error(&error))?;
        }
        let path = format!("STREAM.MSG.DELETE.{stream}");
        let request = json!({"seq": sequence, "no_erase": !overwrites});
        let deleted = self.request(&path, &request, DELETE_FAILED).await?;
        if deleted.is_some() {
            return Ok(());
        }
        let path = format!("STREAM.MSG.GET.{stream}");
        let request = json!({"seq": sequence});
        match self
            .request(&path, &request, ErrorCode::NO_MESSAGE_FOUND)
            .await?
        {
            None => Ok(()),
            Some(_) => Err(NatsError::Unavailable(format!(
                "the server did not delete message {sequence} of stream {stream}"
            ))),
        }
    }
}
