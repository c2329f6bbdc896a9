//! The parts of the pipeline alone, each with the payloads that Likewise sends: how much of a like's cost is the server's.
//! A part prepares itself, logs `ready`, waits for the file `go`, works, and logs `finished in N s`.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use async_nats::HeaderMap;
use async_nats::jetstream::consumer::{AckPolicy, pull};
use async_nats::jetstream::context::PublishAckFuture;
use async_nats::jetstream::{self, stream};
use bytes::Bytes;
use futures_util::StreamExt;
use harness::bench::BenchArgs;
use harness::generate;
use tokio::time::sleep;
use uuid::Uuid;

use super::ToolError;
use crate::cache;
use crate::cli::Failure;
use crate::config::Settings;
use crate::domain::{
    BehaviorEvent, BehaviorType, CurrentDeployment, Lease, Pair, Resource, Version, VersionedState,
};
use crate::nats;
use crate::store;

/// The default number of events.
const EVENTS: u64 = 100_000;
const SEED: u64 = 17;
/// As the actors of the pipeline work: events in one call of the cache, in one transaction and in one pull, and
/// acknowledgements awaited at a time.
const CACHED_AT_ONCE: usize = 256;
const STORED_AT_ONCE: usize = 500;
const PULLED_AT_ONCE: usize = 500;
const IN_FLIGHT: usize = 512;

/// Events in a message, where the api publishes what waits as one.
pub(super) const A_MESSAGE: usize = 64;

const STREAM: &str = "LIKEWISE_BENCH";
const SUBJECT: &str = "likewise_bench.like";

/// Events of distinct ids, as the api makes them.
fn events(args: &BenchArgs) -> Vec<BehaviorEvent> {
    let count = usize::try_from(args.likes.unwrap_or(EVENTS)).unwrap_or(usize::MAX);
    let now = Version::at(chrono::Utc::now());
    let likes = generate::likes(SEED).take(count).enumerate();
    let event = |(place, like): (usize, harness::Interaction)| {
        BehaviorEvent::accepted(
            Uuid::now_v7(),
            like.user_id.into(),
            Resource::video(like.video_id),
            BehaviorType::Like,
            Version(now.0 + place as i64),
        )
    };
    likes.map(event).collect()
}

/// Runs the work when the benchmark says so, and waits until the benchmark ends this process.
async fn measured<E>(work: impl Future<Output = Result<(), E>>) -> Result<(), Failure>
where
    Failure: From<E>,
{
    writeln!(io::stderr(), "ready")?;
    while !Path::new("go").exists() {
        sleep(Duration::from_millis(5)).await;
    }
    let started = Instant::now();
    work.await?;
    writeln!(
        io::stderr(),
        "finished in {:.6} s",
        started.elapsed().as_secs_f64()
    )?;
    std::future::pending().await
}

/// Applies events to the cache on Redis, two calls at a time as the cache writer does.
pub(super) async fn redis(settings: &Settings, args: &BenchArgs) -> Result<(), Failure> {
    let options = settings
        .redis
        .as_ref()
        .ok_or(ToolError::Needs("LIKEWISE_REDIS_URL"))?;
    let store = store::connect(&settings.store).await?;
    let deployment = CurrentDeployment::from(store.deployment().await?);
    let cache = cache::on_redis(options, deployment)?;
    let events = events(args);
    let states = events.iter().filter_map(|event| {
        let pair = Pair {
            resource: event.resource.clone(),
            user_id: event.user_id.clone(),
        };
        Some((pair, VersionedState::new(event.version, event.action()?)))
    });
    let states: Vec<_> = states.collect();
    let now = Version::at(store.now());
    cache.ping().await?;
    measured(async {
        let calls = states
            .chunks(CACHED_AT_ONCE)
            .map(|chunk| cache.apply(chunk, now));
        let mut calls = futures_util::stream::iter(calls).buffered(2);
        while let Some(applied) = calls.next().await {
            applied?;
        }
        Ok::<_, Failure>(())
    })
    .await
}

/// Publishes events to a stream on disk, this many in each message, with a bounded number of acknowledgements in flight.
pub(super) async fn publish(
    settings: &Settings,
    args: &BenchArgs,
    per_message: usize,
) -> Result<(), Failure> {
    let context = stream_on(settings).await?;
    let messages = messages(args, per_message);
    measured(publish_all(&context, &messages)).await
}

/// Pulls and acknowledges messages that were published before.
pub(super) async fn pull(
    settings: &Settings,
    args: &BenchArgs,
    per_message: usize,
) -> Result<(), Failure> {
    let context = stream_on(settings).await?;
    let messages = messages(args, per_message);
    publish_all(&context, &messages).await?;
    let consumer = pull::Config {
        ack_policy: AckPolicy::Explicit,
        max_ack_pending: 20_000,
        ..pull::Config::default()
    };
    let consumer = context.create_consumer_on_stream(consumer, STREAM).await;
    let consumer = consumer.map_err(failed)?;
    measured(async {
        let mut pulled = 0;
        while pulled < messages.len() {
            let batch = consumer.fetch().max_messages(PULLED_AT_ONCE).messages();
            let mut batch = batch.await.map_err(failed)?;
            while let Some(message) = batch.next().await {
                let message = message.map_err(failed)?;
                message.ack().await.map_err(failed)?;
                pulled += 1;
            }
        }
        context.client().flush().await.map_err(failed)
    })
    .await
}

/// Records and syncs events in batches, one after the other: in one transaction, or in two.
pub(super) async fn database(
    settings: &Settings,
    args: &BenchArgs,
    in_two: bool,
) -> Result<(), Failure> {
    let store = store::connect(&settings.store).await?;
    let events = events(args);
    measured(async {
        for batch in events.chunks(STORED_AT_ONCE) {
            let batch: Vec<_> = batch.iter().collect();
            let lease = Lease {
                now: store.now(),
                duration: Duration::from_secs(60),
                max_retries: 5,
            };
            if in_two {
                let recorded = store.record(&batch, lease).await?;
                store.sync(&recorded.rows, store.now()).await?;
            } else {
                store.record_and_sync(&batch, lease).await?;
            }
        }
        Ok::<_, Failure>(())
    })
    .await
}

/// Connects, and creates an empty stream.
async fn stream_on(settings: &Settings) -> Result<jetstream::Context, ToolError> {
    let options = settings
        .nats
        .as_ref()
        .ok_or(ToolError::Needs("LIKEWISE_NATS_URL"))?;
    let client = async_nats::connect(&options.url).await.map_err(failed)?;
    let context = jetstream::new(client);
    // Of an earlier part, on the same server.
    let _ = context.delete_stream(STREAM).await;
    let stream = stream::Config {
        name: STREAM.to_owned(),
        subjects: vec![SUBJECT.to_owned()],
        ..stream::Config::default()
    };
    context.create_stream(stream).await.map_err(failed)?;
    Ok(context)
}

async fn publish_all(context: &jetstream::Context, messages: &[Message]) -> Result<(), ToolError> {
    let mut in_flight: VecDeque<PublishAckFuture> = VecDeque::with_capacity(IN_FLIGHT);
    for message in messages {
        if in_flight.len() == IN_FLIGHT
            && let Some(oldest) = in_flight.pop_front()
        {
            oldest.await.map_err(failed)?;
        }
        let mut headers = HeaderMap::new();
        if let Some(id) = &message.id {
            headers.insert(async_nats::header::NATS_MESSAGE_ID, id.as_str());
        }
        let sent = context.publish_with_headers(SUBJECT, headers, message.body.clone());
        in_flight.push_back(sent.await.map_err(failed)?);
    }
    for acknowledgement in in_flight {
        acknowledgement.await.map_err(failed)?;
    }
    Ok(())
}

/// A message to publish.
struct Message {
    /// The id by which the server drops repeats; a batch has none.
    id: Option<String>,
    body: Bytes,
}

/// The messages of the events: one for each, or a JSON array for several.
fn messages(args: &BenchArgs, per_message: usize) -> Vec<Message> {
    let events = events(args);
    let message = |events: &[BehaviorEvent]| match events {
        [event] => Message {
            id: Some(event.event_id.hyphenated().to_string()),
            body: nats::encode(event),
        },
        events => {
            let bodies: Vec<_> = events.iter().map(nats::encode).collect();
            let body = [b"[".as_slice(), &bodies.join(&b','), b"]"].concat();
            Message {
                id: None,
                body: body.into(),
            }
        }
    };
    events.chunks(per_message).map(message).collect()
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn failed(error: impl std::fmt::Display) -> ToolError {
    ToolError::Nats(error.to_string())
}
