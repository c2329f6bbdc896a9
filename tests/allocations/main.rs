//! Bounds the allocations of the hot paths under fixed input: of a like from its request to its completed ledger row, of an
//! event's JSON, and of the cache's rule. Unlike times, the numbers do not depend on the machine or its load.
//!
//! A binary of its own, because its allocator counts. If a change raises a number, make it cheaper; if a number has fallen, lower
//! its bound here, so that it stays low. `cargo test --test allocations -- --nocapture` prints all of them.

use std::sync::Arc;
use std::time::Duration;

use actor_kit::{Registry, Starter};
use allocation_counter::measure;
use likewise::actors::{BehaviorRecorder, CacheWriter, RESTARTS, SyncPublisher};
use likewise::cache::{Cache, MemoryCache};
use likewise::config::{PartialConfig, Settings};
use likewise::domain::{
    BehaviorEvent, BehaviorType, HybridClock, IdKinds, Pair, Resource, ResourceTypes, Version,
    VersionedState,
};
use likewise::likes::{LikeRequest, Likes, Lookups};
use likewise::nats::{Incoming, decode, encode, subject};
use likewise::store::{self, Reader};
use likewise::telemetry::ActorEvents;
use uuid::Uuid;

/// On this thread: the request's permits, cache, record, sync and settlement, without HTTP and SQLite's own threads.
const LIKE_ACCEPTED_AND_COMPLETED: u64 = 58;
/// More than the runs of one measurement.
const WARM_USERS: i64 = 200;
const EVENT_ENCODED: u64 = 3;
const EVENT_DECODED: u64 = 1;
/// Of a thousand events on one resource.
const THOUSAND_EVENTS_APPLIED: u64 = 3;
/// Of a thousand pairs of one user.
const THOUSAND_PAIRS_READ: u64 = 2;

const VIDEO: i64 = 7;

/// Fails if the work allocates more often than the bound. The smallest number of several runs counts: the others also
/// contain a growing table, or a timer that happened to be due.
#[track_caller]
fn at_most(bound: u64, what: &str, mut work: impl FnMut()) {
    let counts = (0..40).map(|_| measure(&mut work).count_total);
    let least = counts.min().unwrap_or_default();
    say(&format!("{what}: {least} allocations, at most {bound}"));
    assert!(
        least <= bound,
        "{what}: {least} allocations, more than the bound of {bound}"
    );
}

#[allow(
    clippy::print_stdout,
    reason = "cargo test hides it unless it is asked for"
)]
fn say(line: &str) {
    println!("{line}");
}

fn event() -> BehaviorEvent {
    BehaviorEvent::accepted(
        Uuid::from_u128(0x0199_d3a1_5c2e_7b44_9f0e_8a6d_21c7_e593),
        42.into(),
        Resource::video(VIDEO),
        BehaviorType::Like,
        Version(1_790_000_000_000_000),
    )
}

fn pair(user: i64, video: i64) -> Pair {
    Pair {
        resource: Resource::video(video),
        user_id: user.into(),
    }
}

#[test]
fn event_json_allocates_little() {
    let event = event();
    let (body, subject) = (encode(&event), subject(&event));
    at_most(EVENT_ENCODED, "an event encoded", || {
        assert_eq!(encode(&event).len(), body.len());
    });
    let (served, now) = (ResourceTypes::default(), event.version);
    at_most(EVENT_DECODED, "an event decoded", || {
        let message = Incoming {
            subject: &subject,
            body: &body,
            sequence: 1,
            trace: None,
        };
        let decoded = decode(&message, now, &served, IdKinds::default());
        assert_eq!(decoded.expect("valid").event_id, event.event_id);
    });
}

#[test]
fn cache_rule_allocates_little() {
    let system = actix::System::new();
    let cache = MemoryCache::new(1_000_000);
    let pairs: Vec<_> = (1..=1_000).map(|user| pair(user, VIDEO)).collect();
    let mut version = 0;
    // The entry grows in the first run; later runs change the same pairs.
    at_most(THOUSAND_EVENTS_APPLIED, "a thousand events applied", || {
        version += 1;
        let state = |pair: &Pair| {
            let liked = version % 2 == 1;
            (
                pair.clone(),
                VersionedState {
                    version: Version(version),
                    liked,
                },
            )
        };
        let events: Vec<_> = pairs.iter().map(state).collect();
        let applied = system
            .block_on(cache.apply_and_open(&events, Version(version)))
            .expect("in process");
        assert_eq!(applied.len(), pairs.len());
    });
    let (user_id, page): (_, Vec<_>) = (42.into(), (1..=1_000).map(Resource::video).collect());
    at_most(THOUSAND_PAIRS_READ, "a thousand pairs read", || {
        let read = cache.read(Some(&user_id), &page, Version(version));
        let read = system.block_on(read).expect("in process");
        assert_eq!(read.len(), page.len());
    });
}

/// The pipeline of the embedded default, without HTTP.
struct Pipeline {
    likes: Arc<Likes>,
    sync_publisher: actor_kit::Mailbox<SyncPublisher>,
}

impl Pipeline {
    async fn start(settings: &Settings) -> Self {
        store::migrate(&settings.store).await.expect("migrations");
        let store = store::connect(&settings.store).await.expect("a store");
        let starter = Starter {
            registry: Registry::new(settings.stuck_after, ActorEvents),
            policy: RESTARTS,
            capacity: settings.mailbox_capacity,
            given_up: Arc::default(),
        };
        let cache: Arc<dyn Cache> = Arc::new(MemoryCache::new(settings.cache_pairs));
        let reader = Reader::new(Arc::clone(&store), settings.read_timeout);
        let cache_writer = starter.start(|context| {
            CacheWriter::new(
                Arc::clone(&cache),
                reader.clone(),
                None,
                settings.cache,
                context,
            )
        });
        let sync_publisher = starter.start(|context| {
            let (store, cache_writer) = (Arc::clone(&store), cache_writer.clone());
            SyncPublisher::new(
                store,
                cache_writer,
                Arc::default(),
                None,
                settings.sync,
                context,
            )
        });
        let recorder = starter.start(|context| {
            let (store, sync_publisher) = (Arc::clone(&store), sync_publisher.clone());
            BehaviorRecorder::new(store, sync_publisher, settings.recorder, context)
        });
        let likes = Arc::new(Likes {
            resource_types: settings.store.resource_types.clone(),
            clock: Arc::new(HybridClock::default()),
            in_flight: Arc::default(),
            cache,
            reader,
            lookups: Arc::new(Lookups::new(
                settings.mailbox_capacity,
                Duration::from_secs(1),
            )),
            cache_writer,
            publisher: None,
            recorder,
            keeper: None,
            gone: Arc::default(),
        });
        Self {
            likes,
            sync_publisher,
        }
    }

    /// Accepts a like of another user, and waits until the actors have no work left.
    async fn like(&self, user: i64) {
        let request = LikeRequest {
            user_id: user.into(),
            resource: Resource::video(VIDEO),
            behavior: BehaviorType::Like,
            trace: None,
        };
        let accepted = Arc::clone(&self.likes).accept(request, None).await;
        let accepted = accepted.expect("accepted");
        assert_eq!(accepted.like_count, Some(user));
        self.likes.recorder.gauge().idle().await;
        self.sync_publisher.gauge().idle().await;
        self.likes.cache_writer.gauge().idle().await;
    }
}

#[test]
fn accepted_like_allocates_little() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("likewise.toml");
    let url = format!("sqlite://{}", folder.path().join("likewise.db").display());
    std::fs::write(&file, format!("database_url = \"{url}\"\n")).expect("a file");
    let settings = PartialConfig::default().load(&file).expect("settings");
    let system = actix::System::new();
    let pipeline = system.block_on(Pipeline::start(&settings));
    // The entries of users who have been here before.
    for user in 1..=WARM_USERS {
        let user_id = user.into();
        let read = pipeline.likes.read(Some(&user_id), Resource::video(VIDEO));
        let read = system.block_on(read).expect("an answer");
        assert_eq!(read.like_count, Some(0));
    }
    let mut user = 0;
    let what = "a like accepted and completed";
    at_most(LIKE_ACCEPTED_AND_COMPLETED, what, || {
        user += 1;
        system.block_on(pipeline.like(user));
    });
}
