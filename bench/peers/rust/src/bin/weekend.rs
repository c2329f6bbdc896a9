//! Peer (c): what a good engineer builds in a weekend. The api runs a Redis script and publishes one JetStream message a like,
//! both at once; the worker writes batches of 1,000 in one transaction, with ledger rows that are completed from the start.
//! It has no retries, leases, repair or order between Redis and the database, and one worker only.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::atomic::Ordering;
use std::time::Duration;

use actix_web::web::{self, Data, Path, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use async_nats::HeaderMap;
use async_nats::jetstream::consumer::{AckPolicy, pull};
use async_nats::jetstream::{self, stream};
use futures_util::StreamExt;
use likewise_peers::{COMPLETED, Event, State, cores, failed, read, serve, setting, user};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Opts, TxOpts};
use redis::Script;
use redis::aio::MultiplexedConnection;

const STREAM: &str = "PEER";
const SUBJECT: &str = "peer.likes";
/// The messages of one transaction.
const BATCH: usize = 1_000;

/// Adds the user to the video's set or removes it, and counts the set.
const SCRIPT: &str = "local changed = redis.call(ARGV[2] == '1' and 'SADD' or 'SREM', KEYS[1], ARGV[1]) \
    return {changed, redis.call('SCARD', KEYS[1])}";

/// The rows of a batch as a table `r`.
const ROWS: &str = "JSON_TABLE(?, '$[*]' COLUMNS (event_id CHAR(36) CHARACTER SET ascii PATH '$.event_id', \
    user_id BIGINT PATH '$.user_id', video_id BIGINT PATH '$.video_id', \
    action VARCHAR(16) CHARACTER SET ascii PATH '$.action', version BIGINT PATH '$.version')) AS r";
const AT: &str = "DATE_ADD('1970-01-01 00:00:00.000000', INTERVAL r.version MICROSECOND)";

struct Api {
    redis: MultiplexedConnection,
    nats: jetstream::Context,
    script: Script,
}

impl Api {
    async fn connect() -> Result<Self, Box<dyn Error>> {
        let client = redis::Client::open(setting("REDIS_URL"))?;
        Ok(Self {
            redis: client.get_multiplexed_async_connection().await?,
            nats: jetstream::new(async_nats::connect(setting("NATS_URL")).await?),
            script: Script::new(SCRIPT),
        })
    }

    async fn store(&self, event: &Event) -> Result<State, Box<dyn Error>> {
        let mut redis = self.redis.clone();
        let mut call = self.script.key(key(event.video_id));
        call.arg(event.user_id).arg(u8::from(event.liked()));
        let cached = call.invoke_async::<(i64, i64)>(&mut redis);
        let published = async {
            let mut headers = HeaderMap::new();
            headers.insert(
                async_nats::header::NATS_MESSAGE_ID,
                event.event_id.to_string(),
            );
            let body = serde_json::to_vec(event)?;
            let sent = self
                .nats
                .publish_with_headers(SUBJECT, headers, body.into());
            sent.await?.await?;
            Ok::<_, Box<dyn Error>>(())
        };
        let (cached, published) = tokio::join!(cached, published);
        published?;
        let (changed, like_count) = cached?;
        Ok(State {
            liked: event.liked(),
            changed: changed == 1,
            like_count,
        })
    }
}

fn key(video: i64) -> String {
    format!("peer:likes:{video}")
}

async fn change(request: &HttpRequest, video: i64, liked: bool, api: &Api) -> HttpResponse {
    let Some(event) = Event::of(request, video, liked) else {
        return HttpResponse::BadRequest().finish();
    };
    match api.store(&event).await {
        Ok(state) => event.answered(&state, "broker", true),
        Err(error) => failed(&error),
    }
}

async fn put(request: HttpRequest, video: Path<i64>, api: Data<Api>) -> HttpResponse {
    change(&request, *video, true, &api).await
}

async fn delete(request: HttpRequest, video: Path<i64>, api: Data<Api>) -> HttpResponse {
    change(&request, *video, false, &api).await
}

async fn get(request: HttpRequest, video: Path<i64>, api: Data<Api>) -> HttpResponse {
    let Some(user) = user(&request) else {
        return HttpResponse::BadRequest().finish();
    };
    let mut pipeline = redis::pipe();
    pipeline
        .cmd("SISMEMBER")
        .arg(key(*video))
        .arg(user)
        .cmd("SCARD")
        .arg(key(*video));
    let found: Result<(i64, i64), _> = pipeline.query_async(&mut api.redis.clone()).await;
    match found {
        Ok((liked, like_count)) => {
            let state = State {
                liked: liked == 1,
                changed: false,
                like_count,
            };
            read(user, *video, &state)
        }
        Err(error) => failed(&error),
    }
}

fn configure(config: &mut ServiceConfig) {
    config.service(
        web::resource("/v1/videos/{video_id}/like")
            .route(web::put().to(put))
            .route(web::delete().to(delete))
            .route(web::get().to(get)),
    );
}

/// Creates the stream, unless the other process has done it.
async fn stream_on(context: &jetstream::Context) -> Result<stream::Stream, Box<dyn Error>> {
    let stream = stream::Config {
        name: STREAM.to_owned(),
        subjects: vec![SUBJECT.to_owned()],
        ..stream::Config::default()
    };
    Ok(context.get_or_create_stream(stream).await?)
}

/// Writes what arrives, one transaction after the other.
async fn work() -> Result<(), Box<dyn Error>> {
    let context = jetstream::new(async_nats::connect(setting("NATS_URL")).await?);
    let consumer = pull::Config {
        durable_name: Some("peer".to_owned()),
        // The acknowledgement of a message is that of all before it.
        ack_policy: AckPolicy::All,
        max_ack_pending: 50_000,
        ..pull::Config::default()
    };
    let consumer = stream_on(&context).await?.create_consumer(consumer).await?;
    let messages = consumer
        .stream()
        .max_messages_per_batch(2 * BATCH)
        .heartbeat(Duration::from_secs(5))
        .messages()
        .await?;
    let mut batches = messages.ready_chunks(BATCH);
    let mut database = Conn::new(Opts::from_url(&setting("DATABASE_URL"))?).await?;
    while let Some(batch) = batches.next().await {
        let batch = batch.into_iter().collect::<Result<Vec<_>, _>>()?;
        let events = batch
            .iter()
            .map(|message| serde_json::from_slice(&message.payload));
        let events: Vec<Event> = events.collect::<Result<_, _>>()?;
        write(&mut database, &events).await?;
        if let Some(last) = batch.last() {
            last.ack().await.map_err(|error| error.to_string())?;
        }
        COMPLETED.fetch_add(events.len() as u64, Ordering::Relaxed);
    }
    Err("the stream of messages has ended".into())
}

async fn write(database: &mut Conn, events: &[Event]) -> Result<(), Box<dyn Error>> {
    let rows = serde_json::to_string(events)?;
    // The newest event of each pair.
    let mut newest: BTreeMap<(i64, i64), &Event> = BTreeMap::new();
    for event in events {
        let known = newest
            .entry((event.user_id, event.video_id))
            .or_insert(event);
        if known.version < event.version {
            *known = event;
        }
    }
    let pairs = serde_json::to_string(&newest.values().collect::<Vec<_>>())?;
    let mut transaction = database.start_transaction(TxOpts::default()).await?;
    let insert = format!(
        "INSERT IGNORE INTO user_behaviors (event_id, user_id, resource_type, resource_id, behavior_type, version, \
         source, behavior_time, created_at) SELECT r.event_id, r.user_id, 'video', r.video_id, r.action, r.version, \
         'peer', {AT}, {AT} FROM {ROWS}"
    );
    transaction.exec_drop(insert, (&rows,)).await?;
    let insert = format!(
        "INSERT IGNORE INTO sync_events (id, event_type, resource_type, resource_id, user_id, action_type, status, \
         version, retry_count, max_retries, priority, fencing_token, created_at, updated_at, processed_at) \
         SELECT r.event_id, 'video_like', 'video', r.video_id, r.user_id, r.action, 'completed', r.version, 0, 5, 0, \
         1, {AT}, {AT}, {AT} FROM {ROWS}"
    );
    transaction.exec_drop(insert, (&rows,)).await?;
    let select = format!(
        "SELECT l.user_id, l.video_id, l.version, l.deleted_at IS NULL FROM {ROWS} \
         STRAIGHT_JOIN video_likes l ON l.user_id = r.user_id AND l.video_id = r.video_id"
    );
    let known: Vec<(i64, i64, i64, bool)> = transaction.exec(select, (&pairs,)).await?;
    let known: BTreeMap<_, _> = known
        .into_iter()
        .map(|(user, video, version, liked)| ((user, video), (version, liked)))
        .collect();
    let mut deltas: BTreeMap<i64, i64> = BTreeMap::new();
    for (pair, event) in &newest {
        let (version, liked) = known.get(pair).copied().unwrap_or((i64::MIN, false));
        if version < event.version && liked != event.liked() {
            *deltas.entry(event.video_id).or_default() += if event.liked() { 1 } else { -1 };
        }
    }
    let upsert = format!(
        "INSERT INTO video_likes (user_id, video_id, version, created_at, deleted_at) SELECT r.user_id, r.video_id, \
         r.version, {AT}, IF(r.action = 'like', NULL, {AT}) FROM {ROWS} ON DUPLICATE KEY UPDATE \
         deleted_at = IF(VALUES(version) > video_likes.version, VALUES(deleted_at), video_likes.deleted_at), \
         version = GREATEST(video_likes.version, VALUES(version))"
    );
    transaction.exec_drop(upsert, (&pairs,)).await?;
    let changed: Vec<_> = deltas.iter().filter(|(_, delta)| **delta != 0).collect();
    if !changed.is_empty() {
        let counts = serde_json::to_string(&changed)?;
        let upsert = "INSERT INTO likewise_like_counts (resource_type, resource_id, like_count, revision, updated_at) \
            SELECT 'video', r.video_id, r.delta, 1, UTC_TIMESTAMP(6) FROM JSON_TABLE(?, '$[*]' COLUMNS \
            (video_id BIGINT PATH '$[0]', delta BIGINT PATH '$[1]')) AS r ON DUPLICATE KEY UPDATE \
            like_count = likewise_like_counts.like_count + VALUES(like_count), \
            revision = likewise_like_counts.revision + 1, updated_at = VALUES(updated_at)";
        transaction.exec_drop(upsert, (counts,)).await?;
    }
    Ok(transaction.commit().await?)
}

#[actix_web::main]
async fn main() -> Result<(), Box<dyn Error>> {
    if std::env::args().nth(1).as_deref() == Some("worker") {
        // Its metrics; a failed worker ends the process.
        actix_web::rt::spawn(async {
            let ended = work().await;
            eprintln!("the worker failed: {ended:?}");
            std::process::exit(1);
        });
        serve(1, || async { Ok(()) }, |_| {}).await?;
        return Ok(());
    }
    let context = jetstream::new(async_nats::connect(setting("NATS_URL")).await?);
    stream_on(&context).await?;
    serve(cores(), Api::connect, configure).await?;
    Ok(())
}
