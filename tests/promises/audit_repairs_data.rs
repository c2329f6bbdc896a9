//! The audit finds nothing under load, and finds and repairs every kind of corruption.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::support::checks::{pipeline_drains, reads_come_to_equal_the_database};
use crate::support::crowd::Crowd;
use crate::support::database::Database;
use crate::support::matrix::Backends;
use crate::support::seed;
use crate::support::service::{Service, Setup};

const CROWD: Crowd = Crowd {
    first_user: 1,
    threads: 4,
    users: 25,
    videos: 40,
};

matrix!([embedded, mariadb_stack]: audit_repairs_a_thousand_corruptions);

fn audit_repairs_a_thousand_corruptions(backends: Backends) {
    let mut setup = Setup::from(backends);
    let mut redis = None;
    if backends.has_redis_and_nats {
        setup = setup.set("LIKEWISE_AUDIT_INTERVAL_SECONDS", 0);
        redis = Some(setup.setting("LIKEWISE_REDIS_URL"));
    }
    let mut rng = seed::rng("audits mend");
    let service = setup.start();
    let running = CROWD.start(&service, &mut rng);
    for _ in 0..2 {
        running.wait_for(800);
        let clean = audit(&service, &["--chunk", "300"]);
        assert_eq!(found(&clean), BTreeMap::new(), "under load: {clean:#}");
    }
    running.wait_for(800);
    let diary = running.stop();
    assert!(diary.not_acknowledged().is_empty());
    pipeline_drains(&service);

    let mut planted = corrupt_database(service.database());
    if let Some(redis) = redis {
        planted.insert("stale_cache_entry", corrupt_redis(&redis));
    }
    let all: u64 = planted.values().sum();
    assert!(all >= 1_000, "{planted:?}");

    // The audit reports the corruption and changes nothing.
    let before = service.database().sizes();
    let report = audit(&service, &[]);
    for (finding, planted) in &planted {
        let seen = found(&report).get(*finding).copied().unwrap_or_default();
        assert!(seen >= *planted, "{finding}: {planted} planted, {report:#}");
    }
    assert_eq!(service.database().sizes(), before);

    let repaired = audit(&service, &["--repair"]);
    for (finding, tally) in repaired["findings"].as_object().expect("findings") {
        assert_eq!(tally["found"], tally["mended"], "{finding}: {repaired:#}");
    }
    pipeline_drains(&service);
    let again = audit(&service, &[]);
    assert_eq!(
        found(&again),
        BTreeMap::new(),
        "after the repair: {again:#}"
    );
    reads_come_to_equal_the_database(&service);
    let setup = service.stop();
    setup.verify(30).holds();
}

/// Corrupts rows with plain SQL, each in one way only. Returns the number of corruptions of each kind.
fn corrupt_database(database: &Database) -> BTreeMap<&'static str, u64> {
    let pairs =
        database.rows("SELECT user_id, video_id FROM video_likes ORDER BY user_id, video_id");
    let events =
        database.texts("SELECT id FROM sync_events WHERE status = 'completed' ORDER BY id");
    let counts = database.rows("SELECT resource_id FROM likewise_like_counts ORDER BY resource_id");
    let mut planted = BTreeMap::new();
    let mut statements = Vec::new();
    for (n, pair) in pairs.iter().enumerate().take(600) {
        let which = format!(
            "WHERE user_id = {} AND video_id = {}",
            pair[0].number(),
            pair[1].number()
        );
        statements.push(match n % 3 {
            0 => format!("DELETE FROM video_likes {which}"),
            1 => format!(
                "UPDATE video_likes SET deleted_at = CASE WHEN deleted_at IS NULL \
                 THEN created_at END {which}"
            ),
            _ => format!("UPDATE video_likes SET version = version + 60000000 {which}"),
        });
        *planted.entry("wrong_like").or_default() += 1;
    }
    for (n, count) in counts.iter().enumerate().take(20) {
        let which = format!(
            "WHERE resource_type = 'video' AND resource_id = {}",
            count[0].number()
        );
        statements.push(match n % 2 {
            0 => format!("UPDATE likewise_like_counts SET like_count = like_count + 7 {which}"),
            _ => format!("DELETE FROM likewise_like_counts {which}"),
        });
        *planted.entry("wrong_count").or_default() += 1;
    }
    for (n, id) in events.iter().enumerate().take(450) {
        let (finding, statement) = match n % 3 {
            0 => (
                "missing_ledger_row",
                format!("DELETE FROM sync_events WHERE id = '{id}'"),
            ),
            1 => (
                "missing_behavior",
                format!("DELETE FROM user_behaviors WHERE event_id = '{id}'"),
            ),
            _ => (
                "broken_ledger_row",
                format!("UPDATE sync_events SET processed_at = NULL WHERE id = '{id}'"),
            ),
        };
        statements.push(statement);
        *planted.entry(finding).or_default() += 1;
    }
    let statements: Vec<_> = statements.iter().map(String::as_str).collect();
    database.execute(&statements);
    planted
}

/// Corrupts every cache entry in one way. Returns the number of entries.
fn corrupt_redis(url: &str) -> u64 {
    let client = redis::Client::open(url).expect("a URL");
    let mut connection = client.get_connection().expect("a connection");
    let mut keys: Vec<String> = redis::cmd("KEYS")
        .arg("likewise:*:{*")
        .query(&mut connection)
        .expect("keys");
    keys.sort();
    let mut planted = 0;
    for (n, key) in keys.iter().enumerate() {
        let entry: String = redis::cmd("GET")
            .arg(key)
            .query(&mut connection)
            .expect("an entry");
        let corrupted = if key.contains(":c:{") {
            corrupt_count(n, &entry)
        } else {
            corrupt_user(n, &entry)
        };
        let Some(corrupted) = corrupted else {
            continue;
        };
        let _: String = redis::cmd("SET")
            .arg(&[key.as_str(), &corrupted])
            .query(&mut connection)
            .expect("an answer");
        planted += 1;
    }
    assert!(planted > 0, "{keys:?}");
    planted
}

/// Corrupts a count, or what it says of events in flight.
fn corrupt_count(n: usize, entry: &str) -> Option<String> {
    let (likes, revision) = entry.split_once(':')?;
    let likes: i64 = likes.parse().ok()?;
    let revision: i64 = revision.parse().ok()?;
    Some(match n % 3 {
        0 => format!("{}:{revision}", likes + 5),
        1 => format!("{likes}:{}", revision + 1),
        _ => format!("{likes}:{revision}:3:1:1:"),
    })
}

/// Corrupts the last pair of a user that is settled: its like, and in every other entry its version too.
fn corrupt_user(n: usize, entry: &str) -> Option<String> {
    let (head, state) = entry.rsplit_once('\t')?;
    let version: i64 = state.get(..18)?.parse().ok()?;
    let liked = state.get(18..)?.strip_suffix('s')?;
    let other = if liked == "1" { "0" } else { "1" };
    let version = version - i64::from(n.is_multiple_of(2));
    Some(format!("{head}\t{version:018}{other}s"))
}

fn audit(service: &Service, arguments: &[&str]) -> Value {
    let arguments = [&["audit", "--json"], arguments].concat();
    let ran = service.setup().run(&arguments);
    serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"))
}

/// Returns the number of findings of each kind.
fn found(report: &Value) -> BTreeMap<&str, u64> {
    let findings = report["findings"].as_object().expect("findings");
    findings
        .iter()
        .map(|(finding, tally)| (finding.as_str(), tally["found"].as_u64().expect("a number")))
        .collect()
}
