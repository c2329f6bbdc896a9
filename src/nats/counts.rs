//! Announced counts: one message for all counts that changed at about the same time, on core NATS. The announcer and the jobs
//! publish them, and processes with watchers subscribe.

use std::borrow::Cow;
use std::fmt;
use std::sync::atomic::Ordering;

use async_nats::Subscriber;
use bytes::Bytes;
use futures_util::StreamExt;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::NatsError;
use super::connection::Broker;
use super::encode::write;
use crate::domain::{Deployment, Id, LikeCount, Resource, ResourceType};

/// The subject of announced counts, and the prefix of those of single resources: `likewise.counts.<resource_type>.<id>`.
const COUNTS: &str = "likewise.counts";
const BATCH: &str = "likewise.counts.batch";

/// The JSON of an announced count.
#[derive(Serialize)]
struct CountJson<'a> {
    like_count: i64,
    resource_id: &'a Id,
    resource_type: ResourceType,
    revision: i64,
}

impl<'a> CountJson<'a> {
    const fn of(resource: &'a Resource, count: LikeCount) -> Self {
        Self {
            like_count: count.like_count,
            resource_id: &resource.id,
            resource_type: resource.resource_type,
            revision: count.revision,
        }
    }
}

/// The JSON of a message with announced counts, read.
#[derive(Deserialize)]
struct BatchJson<'a> {
    deployment: Option<Uuid>,
    #[serde(borrow)]
    generation: Option<Cow<'a, str>>,
    #[serde(borrow)]
    counts: Vec<ReadCountJson<'a>>,
}

#[derive(Deserialize)]
struct ReadCountJson<'a> {
    like_count: i64,
    resource_id: Id,
    #[serde(borrow)]
    resource_type: Cow<'a, str>,
    revision: i64,
}

/// The counts of one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announced {
    /// The deployment whose database holds them.
    pub deployment: Deployment,
    /// The counts.
    pub counts: Vec<(Resource, LikeCount)>,
}

impl Announced {
    /// Reads a message. `None` if no process of Likewise wrote it. Counts of types that this process does not know are left
    /// out.
    fn read(body: &[u8]) -> Option<Self> {
        let batch: BatchJson<'_> = serde_json::from_slice(body).ok()?;
        let counts = batch.counts.into_iter().filter_map(|read| {
            let resource = Resource {
                resource_type: ResourceType::known(&read.resource_type)?,
                id: read.resource_id,
            };
            let count = LikeCount {
                like_count: read.like_count,
                revision: read.revision,
            };
            Some((resource, count))
        });
        Some(Self {
            counts: counts.collect(),
            deployment: Deployment {
                id: batch.deployment?,
                generation: batch.generation?.into_owned(),
            },
        })
    }
}

/// Returns the messages with these counts, each of at most `largest` bytes, unless a single count is larger.
fn messages<'a>(
    deployment: Option<&Deployment>,
    counts: impl IntoIterator<Item = (&'a Resource, LikeCount)>,
    largest: usize,
) -> Vec<Vec<u8>> {
    const END: &[u8] = b"]}";
    let head = match deployment {
        Some(Deployment { id, generation }) => {
            format!("{{\"deployment\":\"{id}\",\"generation\":\"{generation}\",\"counts\":[")
        }
        None => "{\"deployment\":null,\"generation\":null,\"counts\":[".to_owned(),
    };
    let mut messages = Vec::new();
    let mut body = Vec::new();
    let mut count_json = Vec::with_capacity(128);
    for (resource, count) in counts {
        count_json.clear();
        write(&CountJson::of(resource, count), &mut count_json);
        if !body.is_empty() && body.len() + 1 + count_json.len() + END.len() > largest {
            body.extend_from_slice(END);
            messages.push(std::mem::take(&mut body));
        }
        if body.is_empty() {
            body.extend_from_slice(head.as_bytes());
        } else {
            body.push(b',');
        }
        body.extend_from_slice(&count_json);
    }
    if !body.is_empty() {
        body.extend_from_slice(END);
        messages.push(body);
    }
    messages
}

impl Broker {
    /// Announces changed counts to subscribers. Each message is sent once, and nobody acknowledges it.
    ///
    /// # Errors
    /// If they cannot be sent.
    pub async fn announce<'a>(
        &self,
        counts: impl IntoIterator<Item = (&'a Resource, LikeCount)> + Clone,
    ) -> Result<(), NatsError> {
        let deployment = self.deployment.get();
        for body in messages(deployment.as_deref(), counts.clone(), self.largest_batch()) {
            self.send(BATCH.to_owned(), body).await?;
        }
        if self.options.resource_counts {
            for (resource, count) in counts {
                let token = super::subjects::token(&resource.id);
                let subject = format!("{COUNTS}.{}.{token}", resource.resource_type);
                let mut body = Vec::with_capacity(128);
                write(&CountJson::of(resource, count), &mut body);
                self.send(subject, body).await?;
            }
        }
        Ok(())
    }

    async fn send(&self, subject: String, body: Vec<u8>) -> Result<(), NatsError> {
        let sent = self.client.publish(subject, Bytes::from(body)).await;
        sent.map_err(|error| NatsError::Unavailable(error.to_string()))
    }

    /// Subscribes to announced counts. The subscription outlives reconnects; what is announced meanwhile is lost.
    ///
    /// # Errors
    /// If the client has ended.
    pub async fn announcements(&self) -> Result<Announcements, NatsError> {
        let subscribed = self.client.subscribe(BATCH).await;
        subscribed
            .map(Announcements)
            .map_err(|error| NatsError::Unavailable(error.to_string()))
    }

    /// Waits until everything that was published before is written to the connection.
    ///
    /// # Errors
    /// If the client has ended.
    pub async fn flush(&self) -> Result<(), NatsError> {
        let flushed = self.client.flush().await;
        flushed.map_err(|error| NatsError::Unavailable(error.to_string()))
    }

    /// Returns how often the client has connected: a higher number means that announcements may have been lost.
    #[must_use]
    pub fn connects(&self) -> u64 {
        self.client.statistics().connects.load(Ordering::Relaxed)
    }
}

/// A subscription to announced counts.
pub struct Announcements(Subscriber);

impl fmt::Debug for Announcements {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Announcements").finish_non_exhaustive()
    }
}

impl Announcements {
    /// Waits for the next message. Messages that no process of Likewise wrote are skipped. `None` if the client has ended.
    pub async fn next(&mut self) -> Option<Announced> {
        loop {
            if let Some(announced) = Announced::read(&self.0.next().await?.payload) {
                return Some(announced);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deployment() -> Deployment {
        Deployment {
            id: Uuid::from_u128(7),
            generation: "5f0c".to_owned(),
        }
    }

    fn counts(number: i64) -> Vec<(Resource, LikeCount)> {
        let count = |video| LikeCount {
            like_count: video * 2,
            revision: video * 3,
        };
        (1..=number)
            .map(|video| (Resource::video(video), count(video)))
            .collect()
    }

    fn written(deployment: Option<&Deployment>, counts: &[(Resource, LikeCount)]) -> Vec<Vec<u8>> {
        let counts = counts.iter().map(|(resource, count)| (resource, *count));
        messages(deployment, counts, 1_000)
    }

    #[test]
    fn announced_counts_are_read_back() {
        let sent = counts(2);
        let [body] = &*written(Some(&deployment()), &sent) else {
            panic!("one message");
        };
        assert_eq!(
            std::str::from_utf8(body).expect("text"),
            "{\"deployment\":\"00000000-0000-0000-0000-000000000007\",\"generation\":\"5f0c\",\"counts\":[\
             {\"like_count\":2,\"resource_id\":1,\"resource_type\":\"video\",\"revision\":3},\
             {\"like_count\":4,\"resource_id\":2,\"resource_type\":\"video\",\"revision\":6}]}"
        );
        let read = Announced::read(body).expect("ours");
        assert_eq!((read.deployment, read.counts), (deployment(), sent));
    }

    #[test]
    fn many_counts_travel_in_bounded_messages() {
        let sent = counts(100);
        let bodies = written(Some(&deployment()), &sent);
        assert!(bodies.len() > 5, "{}", bodies.len());
        let mut read = Vec::new();
        for body in &bodies {
            assert!(body.len() <= 1_000, "{}", body.len());
            read.extend(Announced::read(body).expect("ours").counts);
        }
        assert_eq!(read, sent);
        assert_eq!(written(None, &[]), [] as [Vec<u8>; 0]);
    }

    #[test]
    fn foreign_announcements_are_not_read() {
        let unnamed = &written(None, &counts(1))[0];
        for body in [&b""[..], b"{}", b"[]", b"not json", unnamed] {
            assert_eq!(Announced::read(body), None);
        }
        // A type of a later version, and text ids.
        let body = br#"{"deployment":"00000000-0000-0000-0000-000000000007","generation":"5f0c","later":1,"counts":[
            {"like_count":1,"resource_id":7,"resource_type":"unheard_of","revision":1},
            {"like_count":2,"resource_id":"a/b","resource_type":"video","revision":2}]}"#;
        let read = Announced::read(body).expect("ours");
        let [(resource, count)] = &*read.counts else {
            panic!("{read:?}");
        };
        assert_eq!((&*resource.id.text(), count.revision), ("a/b", 2));
    }
}
