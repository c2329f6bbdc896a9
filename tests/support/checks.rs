//! Checks that must hold after every test.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;

use async_nats::jetstream;
use serde_json::Value;

use super::crowd::{Diary, Pair};
use super::database::Database;
use super::http::Like;
use super::service::Service;
use super::{PATIENCE, runtime, until};

/// Waits until every accepted event has taken effect: the workers have acknowledged the whole stream, and then every
/// ledger row is closed. The ledger alone is not enough, because an event in the stream has no row yet.
#[track_caller]
pub fn pipeline_drains(service: &Service) {
    if service.setup().has_broker() {
        let url = service.setup().setting("LIKEWISE_NATS_URL");
        let consumer = service.setup().consumer();
        let runtime = runtime();
        until("the workers to acknowledge the stream", PATIENCE, || {
            runtime.block_on(unacknowledged(&url, &consumer))
        });
    }
    let prefix = service.setup().table_prefix();
    ledger_closes_in(service.database(), &prefix);
}

/// Fails while the stream holds messages that the workers have not acknowledged. Compares sequences: the number
/// of pending messages lags behind a publish that has just been acknowledged.
async fn unacknowledged(url: &str, consumer: &str) -> Result<(), String> {
    let client = async_nats::connect(url).await.map_err(text)?;
    let context = jetstream::new(client);
    let mut stream = context.get_stream("LIKEWISE").await.map_err(text)?;
    let published = stream.info().await.map_err(text)?.state.last_sequence;
    let consumer = stream.consumer_info(consumer).await;
    let acknowledged = consumer.map_err(text)?.ack_floor.stream_sequence;
    if acknowledged >= published {
        return Ok(());
    }
    Err(format!("acknowledged {acknowledged} of {published}"))
}

fn text(error: impl Display) -> String {
    error.to_string()
}

/// Waits until every ledger row is closed. Use [`pipeline_drains`] where likes may still be in a stream.
#[track_caller]
pub fn ledger_closes(database: &Database) {
    ledger_closes_in(database, "");
}

/// As [`ledger_closes`], of tables whose names have this prefix.
#[track_caller]
pub fn ledger_closes_in(database: &Database, prefix: &str) {
    let open = format!(
        "SELECT COUNT(*) FROM {prefix}sync_events WHERE status NOT IN ('completed', 'dead')"
    );
    until("the ledger to close", PATIENCE, || {
        let open = database.number(&open);
        if open == 0 {
            Ok(())
        } else {
            Err(format!("{open} open rows"))
        }
    });
}

/// The number of open ledger rows.
#[track_caller]
pub fn open_rows(database: &Database) -> i64 {
    database.count("sync_events WHERE status NOT IN ('completed', 'dead')")
}

/// Checks every guarantee that the data can show, and that the service's answers equal the data.
#[track_caller]
pub fn everything_holds(service: &Service) {
    service.setup().verify(60).holds();
    reads_equal_database(service);
}

/// As [`everything_holds`], after a kill -9 of a process that accepts likes. A process killed between the cache and the
/// stream leaves the effect of an unanswered request in that video's cache entry. Only then, the entry is repaired
/// first.
#[track_caller]
pub fn everything_holds_after_a_kill(service: &Service, diary: &Diary) {
    let verified = service.setup().verify(60);
    if only_cache_differs(&verified.report, &diary.unanswered_videos()) {
        let repaired = service.setup().run(&["audit", "--repair"]);
        assert_eq!(repaired.code, Some(0), "{repaired:?}");
    }
    everything_holds(service);
}

/// Whether `verify` reports differences, all of them in the cache and of these resources, such as `video 7`.
pub fn only_cache_differs(report: &Value, resources: &BTreeSet<String>) -> bool {
    let checks = report["checks"].as_array().expect("checks");
    let mut broken = checks
        .iter()
        .filter(|check| check["differences"] != 0)
        .peekable();
    broken.peek().is_some()
        && broken.all(|check| {
            let promise = check["promise"].as_str().expect("a promise");
            let examples = check["examples"].as_array().expect("examples");
            promise.starts_with("known values on Redis")
                && examples.iter().all(|example| {
                    let subject = example["subject"].as_str().expect("a subject");
                    let (_, resource) = subject.split_once(", ").expect("a user and a resource");
                    resources.contains(resource)
                })
        })
}

/// Waits until every read equals the database, because the cache is settled after the commit.
#[track_caller]
pub fn reads_come_to_equal_the_database(service: &Service) {
    until("reads to equal the database", PATIENCE, || {
        differing_read(service).map_or(Ok(()), Err)
    });
}

/// Returns the first read that differs from the database.
fn differing_read(service: &Service) -> Option<String> {
    let client = service.client();
    let counts = stored_counts(service.database());
    for ((user, video), liked) in stored_states(service.database()) {
        let read = client.read(user, video);
        if (read.liked, read.like_count) != (liked, counts.get(&video).copied()) {
            return Some(format!("{read:?}, but stored: {liked}"));
        }
    }
    None
}

/// Checks that each of these events was stored once in each of the two tables, and is completed.
#[track_caller]
pub fn stored_once<'a>(database: &Database, events: impl IntoIterator<Item = &'a str>) {
    let behaviors = tally(database.texts("SELECT event_id FROM user_behaviors"));
    let completed = tally(database.texts("SELECT id FROM sync_events WHERE status = 'completed'"));
    for event in events {
        let stored = (behaviors.get(event), completed.get(event));
        assert_eq!(
            stored,
            (Some(&1), Some(&1)),
            "event {event}: how often in user_behaviors, and completed in sync_events"
        );
    }
}

fn tally(ids: Vec<String>) -> BTreeMap<String, usize> {
    let mut tally = BTreeMap::new();
    for id in ids {
        *tally.entry(id).or_default() += 1;
    }
    tally
}

/// Every pair of the read model, and whether it is liked.
pub fn stored_states(database: &Database) -> BTreeMap<Pair, bool> {
    let rows = database.rows(
        "SELECT user_id, video_id, CASE WHEN deleted_at IS NULL THEN 1 ELSE 0 END FROM video_likes",
    );
    rows.iter()
        .map(|row| ((row[0].number(), row[1].number()), row[2].number() == 1))
        .collect()
}

/// Every stored like count.
pub fn stored_counts(database: &Database) -> BTreeMap<i64, i64> {
    let rows = database.rows(
        "SELECT resource_id, like_count FROM likewise_like_counts WHERE resource_type = 'video'",
    );
    rows.iter()
        .map(|row| (row[0].number(), row[1].number()))
        .collect()
}

/// Checks that every acknowledged event is stored, that each pair is in a state that its user requested, and that later
/// acknowledged events have newer versions.
#[track_caller]
pub fn diary_is_kept(database: &Database, diary: &Diary) {
    stored_once(database, diary.acknowledged());
    let states = stored_states(database);
    for (pair, wishes) in diary.pairs() {
        let stored = states.get(&pair).copied().unwrap_or_default();
        let allowed = Diary::allowed(wishes);
        assert!(
            allowed.contains(&stored),
            "user and video {pair:?}: liked is {stored} after {wishes:#?}"
        );
    }
    let versions: BTreeMap<_, _> = database
        .rows("SELECT event_id, version FROM user_behaviors")
        .into_iter()
        .map(|row| (row[0].text().to_owned(), row[1].number()))
        .collect();
    for (pair, wishes) in diary.pairs() {
        let drawn: Vec<_> = wishes
            .iter()
            .filter_map(|wish| wish.event_id())
            .map(|id| versions[id])
            .collect();
        assert!(
            drawn.is_sorted_by(|earlier, later| earlier < later),
            "user and video {pair:?}: versions in the order of the answers: {drawn:?}"
        );
    }
}

/// Checks that a user's reads equal the database, for the first thousand pairs and counts.
#[track_caller]
pub fn reads_equal_database(service: &Service) {
    const MOST: usize = 1_000;
    let client = service.client();
    let counts = stored_counts(service.database());
    for ((user, video), liked) in stored_states(service.database()).into_iter().take(MOST) {
        assert_eq!(
            client.read(user, video),
            Like {
                resource_type: "video".into(),
                resource_id: video,
                user_id: user,
                liked,
                like_count: counts.get(&video).copied(),
            }
        );
    }
}
