//! `likewise import`: repeats change nothing, counts are exact at every moment, and a killed import resumes.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;

use rand::RngExt;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use serde_json::{Value, json};

use crate::support::checks::{
    everything_holds, pipeline_drains, reads_come_to_equal_the_database, stored_counts,
    stored_states,
};
use crate::support::crowd::{Crowd, Pair};
use crate::support::database::Database;
use crate::support::service::{Ran, Setup};
use crate::support::{interactions, seed, until_seen};

matrix!(&[embedded, mariadb, postgres]:
    import_equals_the_fold_of_its_rows,
    table_is_read_by_its_key,
);
matrix!([embedded, mariadb, postgres]: import_takes_every_kind_of_id);
matrix!([mariadb_stack, postgres_stack]: counts_are_exact_while_likes_and_rows_arrive);
matrix!(&[embedded, mariadb_stack]: killed_import_resumes_where_it_stopped);
matrix!(&[embedded, mariadb, postgres]: runs_of_one_import_side_by_side_count_once);

fn import(setup: &Setup, arguments: &[&str]) -> (Ran, Value) {
    let ran = setup.run(&[&["import", "--json"], arguments].concat());
    let report = serde_json::from_str(&ran.stdout).unwrap_or(Value::Null);
    (ran, report)
}

/// Imports, and checks the numbers of rows, rejected rows, new events and repeated ones.
#[track_caller]
fn imports(setup: &Setup, arguments: &[&str], expected: [usize; 4]) -> Value {
    let (ran, report) = import(setup, arguments);
    let numbers = ["rows", "rejected", "new", "repeated"].map(|name| report[name].clone());
    assert_eq!(numbers, expected.map(|one| json!(one)), "{ran:?}");
    assert_eq!(ran.code, Some(i32::from(expected[1] > 0)), "{ran:?}");
    report
}

#[track_caller]
fn migrated(setup: &Setup) {
    let ran = setup.run(&["migrate"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
}

/// An imported like or unlike, at a second.
type Event = (Pair, i64, bool);

/// Draws likes and unlikes of few pairs, so that they repeat, in no order.
fn drawn(count: usize, rng: &mut SmallRng) -> Vec<Event> {
    let draw = |_| {
        let pair = (rng.random_range(1..=60), rng.random_range(1..=15));
        let second = 1_700_000_000 + rng.random_range(0..400);
        (pair, second, rng.random_bool(0.6))
    };
    (0..count).map(draw).collect()
}

/// The state of each pair: the newest event wins, between equal ones the unlike.
fn newest(events: &[Event]) -> BTreeMap<Pair, bool> {
    let mut newest: BTreeMap<Pair, (i64, bool)> = BTreeMap::new();
    for (pair, second, liked) in events {
        let event = (*second, !liked);
        let held = newest.entry(*pair).or_insert(event);
        *held = event.max(*held);
    }
    newest
        .into_iter()
        .map(|(pair, (_, unliked))| (pair, !unliked))
        .collect()
}

fn distinct(events: &[Event]) -> usize {
    let distinct: std::collections::BTreeSet<_> = events.iter().collect();
    distinct.len()
}

fn csv(events: &[Event]) -> String {
    let mut text = "action,created_at,video_id,user_id\n".to_owned();
    for ((user, video), second, liked) in events {
        let action = if *liked { "like" } else { "unlike" };
        let moment = chrono::DateTime::from_timestamp(*second, 0).expect("a time");
        let time = match second % 3 {
            0 => second.to_string(),
            1 => format!("{second}000000"),
            _ => moment.to_rfc3339(),
        };
        writeln!(text, "{action},\"{time}\",{video},{user}").expect("text");
    }
    text
}

fn json_lines(events: &[Event]) -> String {
    let line = |((user, video), second, liked): &Event| {
        json!({"user": user.to_string(), "item_id": video, "type": "video", "ts": second, "liked": liked})
            .to_string()
            + "\n"
    };
    events.iter().map(line).collect()
}

fn import_equals_the_fold_of_its_rows(setup: &Setup) {
    let mut rng = seed::rng("import");
    migrated(setup);
    let mut events = drawn(1_500, &mut rng);
    let folder = setup.folder().to_owned();
    let (some, others) = events.split_at(900);
    let invalid = "like,2999-01-01,7,7\nlike,soon,7,7\nview,,7,7\nlike,,7,ann\nlike,,7\n";
    fs::write(folder.join("some.csv"), csv(some) + invalid).expect("written");
    // Overlaps with the first file.
    let rest = events[600..].to_vec();
    fs::write(folder.join("rest.jsonl"), json_lines(&rest)).expect("written");

    let dry = import(setup, &["some.csv", "--dry-run"]);
    assert_eq!(
        (dry.1["rows"].as_i64(), dry.1["rejected"].as_i64()),
        (Some(905), Some(5))
    );
    assert_eq!(stored_states(setup.database()).len(), 0);
    let new = distinct(some);
    let report = imports(
        setup,
        &["some.csv", "--batch", "100", "--rejects", "rejects.jsonl"],
        [905, 5, new, 900 - new],
    );
    for (example, said) in [
        ("0", "future"),
        ("1", "RFC 3339"),
        ("2", "like or unlike"),
        ("3", "the user must be"),
        ("4", "3 fields"),
    ] {
        let example = &report["examples"][example.parse::<usize>().expect("a number")];
        let reason = example["reason"].as_str().expect("a reason");
        assert!(reason.contains(said), "{example}");
    }
    assert_eq!(report["examples"][0]["place"], "line 902");
    let rejects = fs::read_to_string(folder.join("rejects.jsonl")).expect("rejects");
    assert_eq!(rejects.lines().count(), 5, "{rejects}");
    assert_eq!(stored_states(setup.database()), newest(some));
    setup.verify(0).holds();

    let more = distinct(&events) - new;
    let rows = rest.len();
    imports(
        setup,
        &["rest.jsonl", "--batch", "77"],
        [rows, 0, more, rows - more],
    );
    assert_eq!(others.len(), 600);
    let states = newest(&events);
    assert_eq!(stored_states(setup.database()), states);
    let mut counts: BTreeMap<i64, i64> = BTreeMap::new();
    for ((_, video), liked) in &states {
        *counts.entry(*video).or_default() += i64::from(*liked);
    }
    assert_eq!(stored_counts(setup.database()), counts);
    setup.verify(0).holds();

    // In another order, in another file, under another source: the same events.
    let before = setup.database().sizes();
    events.shuffle(&mut rng);
    interactions::write_text(&folder.join("all.csv.gz"), &csv(&events));
    imports(
        setup,
        &["all.csv.gz", "--source", "again"],
        [1_500, 0, 0, 1_500],
    );
    assert_eq!(setup.database().sizes(), before);
    assert_eq!(stored_states(setup.database()), states);
    setup.verify(0).holds();
    let audited = setup.run(&["audit"]);
    assert_eq!(audited.code, Some(0), "{audited:?}");
}

/// A time in SQL.
fn moment(database: &Database, second: i64) -> String {
    match database {
        Database::Sqlite(_) => format!("datetime({second}, 'unixepoch')"),
        Database::MariaDb(_) => format!("FROM_UNIXTIME({second})"),
        Database::Postgres(_) => format!("to_timestamp({second})"),
    }
}

fn table_is_read_by_its_key(setup: &Setup) {
    migrated(setup);
    let database = setup.database();
    let time = match database {
        Database::Postgres(_) => "TIMESTAMPTZ",
        _ => "TIMESTAMP",
    };
    database.execute(&[
        &format!(
            "CREATE TABLE old_likes (id BIGINT NOT NULL PRIMARY KEY, member BIGINT, clip BIGINT, \
             made {time} NULL, removed_at {time} NULL)"
        ),
        "CREATE TABLE pairs (video_id BIGINT NOT NULL, user_id BIGINT NOT NULL, \
         PRIMARY KEY (video_id, user_id))",
        "CREATE TABLE keyless (video_id BIGINT, user_id BIGINT)",
    ]);
    let insert = |id: i64, member: &str, removed: &str| {
        let made = moment(database, 1_700_000_000 + id);
        database.execute(&[&format!(
            "INSERT INTO old_likes (id, member, clip, made, removed_at) \
             VALUES ({id}, {member}, {}, {made}, {removed})",
            id % 4 + 1
        )]);
    };
    let removed = moment(database, 1_700_005_000);
    for id in 1..=20 {
        let removed = if id % 5 == 0 {
            removed.as_str()
        } else {
            "NULL"
        };
        insert(id, &id.to_string(), removed);
    }
    insert(21, "NULL", "NULL");
    let columns = "user=member,resource=clip,time=made,deleted=removed_at";
    let table = [
        "--table",
        "old_likes",
        "--type",
        "video",
        "--columns",
        columns,
    ];
    let arguments = [&table[..], &["--batch", "3"]].concat();
    let report = imports(setup, &arguments, [21, 1, 24, 0]);
    assert_eq!(report["examples"][0]["place"], "row 21");
    let states = stored_states(database);
    let expected = (1..=20).map(|id| ((id, id % 4 + 1), id % 5 != 0)).collect();
    assert_eq!(states, expected);
    let versions = database.number("SELECT MIN(version) FROM user_behaviors");
    assert_eq!(versions, 1_700_000_001_000_000);
    // What changed since is imported by another run.
    insert(22, "22", "NULL");
    database.execute(&[&format!(
        "UPDATE old_likes SET removed_at = {removed} WHERE id = 1"
    )]);
    imports(setup, &arguments, [22, 1, 2, 24]);

    for pair in 0..30 {
        database.execute(&[&format!(
            "INSERT INTO pairs (video_id, user_id) VALUES ({}, {})",
            pair % 3 + 1,
            100 + pair
        )]);
    }
    imports(setup, &["--table", "pairs", "--batch", "4"], [30, 0, 30, 0]);
    imports(setup, &["--table", "pairs", "--restart"], [30, 0, 0, 30]);
    setup.verify(0).holds();

    database.execute(&["INSERT INTO keyless (video_id, user_id) VALUES (3, 300)"]);
    match database {
        Database::Sqlite(_) => drop(imports(setup, &["--table", "keyless"], [1, 0, 1, 0])),
        _ => refuses(setup, &["--table", "keyless"], "--key"),
    }
    for (arguments, said) in [
        (&["--table", "VIDEO_LIKES"][..], "Likewise's own"),
        (&["--table", "likewise_imports"], "Likewise's own"),
        (&["--table", "nothing"], "no table nothing"),
        (&["--table", "pairs; DROP TABLE pairs"], "not a table name"),
        (&["--table", "old_likes"], "--columns user=NAME"),
        (&["--table", "pairs", "--key", "id"], "no column 'id'"),
        (&["--table", "pairs", "--type", "cat"], "'cat'"),
        (&["--table", "pairs", "--source", "likewise-api"], "source"),
    ] {
        refuses(setup, arguments, said);
    }
}

#[track_caller]
fn refuses(setup: &Setup, arguments: &[&str], said: &str) {
    let (ran, _) = import(setup, arguments);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.stderr.contains(said), "{said}: {ran:?}");
}

fn import_takes_every_kind_of_id(setup: Setup) {
    const USER: &str = "018f3f52-7d1e-7c60-a5ae-0b9d2a1c0f11";
    let setup = setup
        .set("LIKEWISE_USER_IDS", "uuid")
        .set("LIKEWISE_RESOURCE_IDS", "text")
        .set("LIKEWISE_RESOURCE_TYPES", "post")
        .set("LIKEWISE_TABLE_PREFIX", "app_");
    migrated(&setup);
    let database = setup.database();
    let (bytes, value) = match database {
        Database::Sqlite(_) => ("BLOB", "x'018f3f527d1e7c60a5ae0b9d2a1c0f11'"),
        Database::MariaDb(_) => ("BINARY(16)", "x'018f3f527d1e7c60a5ae0b9d2a1c0f11'"),
        Database::Postgres(_) => ("UUID", "'018f3f52-7d1e-7c60-a5ae-0b9d2a1c0f11'"),
    };
    // The product's own table may be named like one of ours without the prefix.
    database.execute(&[
        &format!(
            "CREATE TABLE post_likes (user_id {bytes} NOT NULL, post_id VARCHAR(64) NOT NULL, \
             is_deleted INT NOT NULL, PRIMARY KEY (user_id, post_id))"
        ),
        &format!(
            "INSERT INTO post_likes VALUES ({value}, 'a', 0), ({value}, 'b', 1), ({value}, 'ü', 0)"
        ),
    ]);
    imports(
        &setup,
        &["--table", "post_likes", "--batch", "1"],
        [3, 0, 3, 0],
    );
    let file = format!("user_id,post_id\n{USER},a\n{USER},c\n7,a\n");
    fs::write(setup.folder().join("likes.csv"), file).expect("written");
    imports(&setup, &["likes.csv"], [3, 1, 1, 1]);
    let liked = "SELECT post_id FROM app_post_likes WHERE deleted_at IS NULL ORDER BY post_id";
    assert_eq!(database.texts(liked), ["a", "c", "ü"]);
    setup.verify(0).holds();
}

/// The number of like counts that differ from their rows. One statement reads one snapshot.
fn wrong_counts(database: &Database) -> i64 {
    database.count(
        "likewise_like_counts c WHERE c.like_count <> (SELECT COUNT(*) \
         FROM video_likes l WHERE l.video_id = c.resource_id AND l.deleted_at IS NULL)",
    )
}

fn counts_are_exact_while_likes_and_rows_arrive(setup: Setup) {
    let mut rng = seed::rng("import_live");
    let service = setup.start();
    let crowd = Crowd {
        first_user: 1,
        threads: 3,
        users: 20,
        videos: 15,
    };
    let running = crowd.start(&service, &mut rng);
    running.wait_for(100);
    let events = drawn(6_000, &mut rng);
    let path = service.setup().folder().join("live.csv");
    fs::write(&path, csv(&events)).expect("written");
    let mut importing = service
        .setup()
        .launch(&["import", "live.csv", "--json", "--batch", "150"]);
    let mut looks = 0;
    while importing.exit_status().is_none() {
        assert_eq!(wrong_counts(service.database()), 0);
        looks += 1;
    }
    let ran = importing.finish();
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(looks > 3, "{looks}");
    running.wait_for(100);
    let diary = running.stop();
    assert!(diary.not_acknowledged().is_empty());
    pipeline_drains(&service);
    // Live likes are newer than the history.
    let mut expected = newest(&events);
    for (pair, wishes) in diary.pairs() {
        expected.insert(pair, wishes.last().expect("a wish").liked);
    }
    assert_eq!(stored_states(service.database()), expected);
    assert_eq!(wrong_counts(service.database()), 0);
    reads_come_to_equal_the_database(&service);
    everything_holds(&service);
    let audited = service.setup().run(&["audit"]);
    assert_eq!(audited.code, Some(0), "{audited:?}");
}

fn killed_import_resumes_where_it_stopped(setup: &Setup) {
    const LAST: i64 = 61;
    let mut rng = seed::rng("import_kill");
    let has_redis = setup.has_broker();
    migrated(setup);
    let mut events = drawn(19_999, &mut rng);
    // The import cannot end before it is killed.
    events.push(((LAST, 1), 1_700_000_000, true));
    setup.database().refuse_likes_of(LAST, "not yet");
    let path = setup.folder().join("likes.csv");
    fs::write(&path, csv(&events)).expect("written");
    let service = has_redis.then(|| setup.beside().start());
    if let Some(service) = &service {
        // Entries that an import must keep up to date.
        for video in 1..=15 {
            service.client().read(1, video);
        }
    }
    // The first window has ten chunks, and the import is killed in a later one.
    let importing = setup.launch(&["import", "likes.csv", "--batch", "100"]);
    let recorded = "SELECT COUNT(*) FROM user_behaviors";
    let first = distinct(&events[..1_000]) as i64;
    until_seen(
        "the import to get going",
        || setup.database().number(recorded),
        |recorded| *recorded > first + 500,
    );
    drop(importing);
    setup.database().accept_likes_of(LAST);
    assert_eq!(wrong_counts(setup.database()), 0);
    let read = "SELECT MAX(rows_read) FROM likewise_imports";
    let stopped = setup.database().number(read);
    assert!((1_000..20_000).contains(&stopped), "{stopped}");
    let new = distinct(&events);
    let report = imports(
        setup,
        &["likes.csv", "--batch", "1000"],
        [20_000, 0, new, 20_000 - new],
    );
    // Some lanes may have been further than others.
    let resumed = report["resumed_at"].as_i64().expect("a number");
    assert!((1_000..=stopped).contains(&resumed), "{report}, {stopped}");
    assert_eq!(stored_states(setup.database()), newest(&events));
    match &service {
        Some(service) => everything_holds(service),
        None => drop(setup.verify(0).holds()),
    }
}

fn runs_of_one_import_side_by_side_count_once(setup: &Setup) {
    let mut rng = seed::rng("import_twice");
    migrated(setup);
    let events = drawn(6_000, &mut rng);
    fs::write(setup.folder().join("likes.csv"), csv(&events)).expect("written");
    // In other chunks, so that one run inserts what is in several chunks of the other.
    let runs = ["40", "70"];
    let runs = runs.map(|batch| setup.launch(&["import", "likes.csv", "--batch", batch]));
    let ran = runs.map(|run| run.finish());
    for ran in &ran {
        let is_overtaken = ran.stderr.contains("a newer run goes on with this import");
        assert!(ran.code == Some(0) || is_overtaken, "{ran:?}");
    }
    // The newest run ends well.
    assert!(ran.iter().any(|ran| ran.code == Some(0)), "{ran:?}");
    let recorded = setup
        .database()
        .number("SELECT COUNT(*) FROM user_behaviors");
    assert_eq!(recorded, distinct(&events) as i64);
    assert_eq!(stored_states(setup.database()), newest(&events));
    assert_eq!(wrong_counts(setup.database()), 0);
    setup.verify(0).holds();
}

#[test]
fn table_that_changed_since_the_kill_is_read_again() {
    let setup = Setup::new();
    migrated(&setup);
    let database = setup.database();
    database.execute(&[
        "CREATE TABLE old_likes (id BIGINT NOT NULL PRIMARY KEY, user_id BIGINT, video_id BIGINT)",
        "INSERT INTO old_likes VALUES (1000, NULL, 1)",
    ]);
    let insert = |id: i64| {
        let values = format!("INSERT INTO old_likes VALUES ({id}, {}, {})", 100 + id, id);
        database.execute(&[&values]);
    };
    (1..=20).for_each(|place| insert(10 * place));
    let table = ["--table", "old_likes", "--batch", "10"];
    refuses(&setup, &[&table[..], &["--strict"]].concat(), "row 1000");
    // As if the import had been killed within the window.
    database.execute(&[
        "UPDATE likewise_imports SET rows_read = 0",
        "UPDATE likewise_import_lanes SET \
         position = REPLACE(position, '\"done\":20,\"left\":0', '\"done\":12,\"left\":8')",
    ]);
    (1..=10).for_each(|place| insert(10 * place + 5));
    imports(&setup, &table, [31, 1, 30, 20]);
    assert_eq!(stored_states(database).len(), 30);
    setup.verify(0).holds();
}

#[test]
fn strict_import_ends_and_resumes_unless_the_file_changed() {
    let setup = Setup::new();
    migrated(&setup);
    let path = setup.folder().join("likes.csv");
    let file = |first: &str, last: &str| {
        let text = format!("user_id,video_id\n{first},1\n2,1\n3,1\n{last},1\n");
        fs::write(&path, text).expect("written");
    };
    let strict = ["likes.csv", "--strict", "--batch", "2"];
    file("1", "ann");
    refuses(&setup, &strict, "line 5 is invalid");
    assert_eq!(setup.database().count("video_likes"), 2);
    // The rows before the checkpoint are the same.
    file("1", "4");
    let report = imports(&setup, &strict, [4, 0, 4, 0]);
    assert_eq!(report["resumed_at"], 2, "{report}");

    file("1", "ann");
    refuses(&setup, &strict, "line 5 is invalid");
    file("9", "4");
    let report = imports(&setup, &strict, [4, 0, 1, 3]);
    assert_eq!(report["resumed_at"], 0, "{report}");
    setup.verify(0).holds();
}

#[test]
fn import_refuses_to_go_behind_a_cache() {
    let service = Setup::new().start();
    let setup = service.setup();
    let client = service.client();
    let file = "user_id,video_id,liked_at\n7,1,2024-01-01\n8,1,2024-01-01\n";
    fs::write(setup.folder().join("likes.csv"), file).expect("written");
    client.like(1, 1);
    assert_eq!(client.read(7, 1).like_count, Some(1));
    let running = "SELECT COUNT(*) FROM likewise_processes";
    until_seen(
        "the heartbeat",
        || setup.database().number(running),
        |beats| *beats > 0,
    );
    refuses(setup, &["likes.csv"], "--stale-caches");
    imports(setup, &["likes.csv", "--stale-caches"], [2, 0, 2, 0]);
    reads_come_to_equal_the_database(&service);
    assert_eq!(client.read(7, 1).like_count, Some(3));
}

#[test]
fn import_refuses_to_miss_the_services_redis() {
    let stack = crate::support::redis_and_nats::Stack::start();
    let service = stack.setup().start();
    let bare = Setup::new().on(service.database());
    fs::write(bare.folder().join("likes.csv"), "user_id,video_id\n7,1\n").expect("written");
    let running = "SELECT COUNT(*) FROM likewise_processes";
    until_seen(
        "the heartbeat",
        || bare.database().number(running),
        |beats| *beats > 0,
    );
    refuses(&bare, &["likes.csv"], "LIKEWISE_REDIS_URL");
}
