//! Nothing of an erased user or resource is left, and nothing brings it back.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::TryStreamExt as _;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::nats::{LIKES, Publisher, event};
use crate::support::checks::{everything_holds, pipeline_drains};
use crate::support::database::Database;
use crate::support::http::{Answer, Client};
use crate::support::service::{Service, Setup};
use crate::support::webhook_receiver::Hook;
use crate::support::{PATIENCE, say, until, wait};

matrix!([embedded, mariadb_stack, postgres_stack]: erased_user_leaves_no_trace);

matrix!([embedded, postgres_stack]: erased_resource_leaves_no_trace);

matrix!([embedded, mariadb_stack]: user_who_keeps_liking_is_erased);

matrix!([embedded, mariadb, postgres]: reasons_about_others_do_not_name_the_erased);

matrix!([mariadb_stack]: killed_erasure_is_resumed);

matrix!([embedded, mariadb, postgres]: user_with_likes_of_a_removed_type_is_erased);

/// Ids that occur nowhere by chance.
const USER: i64 = 7_316_258_490_317;
const VIDEO: i64 = 6_427_369_501_428;

/// Where an id is still found, in every column of every table, every key and value on Redis, and every message of the
/// stream.
fn traces(service: &Service, id: i64) -> Vec<String> {
    let mut found = in_tables(service.database(), &id.to_string());
    if service.setup().has_broker() {
        found.extend(in_redis(&service.setup().setting("LIKEWISE_REDIS_URL"), id));
        let nats = service.setup().setting("LIKEWISE_NATS_URL");
        let messages = streams(&nats);
        let named = messages
            .into_iter()
            .filter(|(_, text)| text.contains(&id.to_string()));
        found.extend(named.map(|(place, text)| format!("message {place}: {text}")));
    }
    found
}

fn in_tables(database: &Database, id: &str) -> Vec<String> {
    let hex = hex::encode(id);
    let text = |column: &str| match database {
        Database::Sqlite(_) => format!("CAST({column} AS TEXT)"),
        Database::MariaDb(_) => format!("CAST({column} AS CHAR)"),
        Database::Postgres(_) => format!("{column}::text"),
    };
    let mut tables: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (table, column) in database.columns() {
        let column = text(&column);
        let conditions = tables.entry(table).or_default();
        conditions.push(format!("{column} LIKE '%{id}%' OR {column} LIKE '%{hex}%'"));
    }
    assert!(tables.len() > 12, "{tables:?}");
    let rows = tables.iter().map(|(table, conditions)| {
        let sql = format!(
            "SELECT COUNT(*) FROM {table} WHERE {}",
            conditions.join(" OR ")
        );
        (table, database.number(&sql))
    });
    let found = rows.filter(|(_, rows)| *rows > 0);
    found
        .map(|(table, rows)| format!("{rows} rows of {table}"))
        .collect()
}

fn in_redis(url: &str, id: i64) -> Vec<String> {
    let client = redis::Client::open(url).expect("a URL");
    let mut connection = client.get_connection().expect("a connection");
    let keys: Vec<String> = redis::cmd("KEYS")
        .arg("*")
        .query(&mut connection)
        .expect("keys");
    let mut found = Vec::new();
    for key in keys {
        let kind: String = redis::cmd("TYPE")
            .arg(&key)
            .query(&mut connection)
            .expect("a type");
        let read = if kind == "hash" { "HGETALL" } else { "GET" };
        let value: redis::Value = redis::cmd(read)
            .arg(&key)
            .query(&mut connection)
            .expect("a value");
        let all = format!("{key} {}", text_of(&value));
        if all.contains(&id.to_string()) {
            found.push(all);
        }
    }
    found
}

fn text_of(value: &redis::Value) -> String {
    match value {
        redis::Value::BulkString(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        redis::Value::Array(items) => items.iter().map(text_of).collect::<Vec<_>>().join(" "),
        redis::Value::Map(pairs) => {
            let pairs = pairs
                .iter()
                .map(|(key, value)| format!("{} {}", text_of(key), text_of(value)));
            pairs.collect::<Vec<_>>().join(" ")
        }
        value => format!("{value:?}"),
    }
}

/// The messages of all streams, with stream and sequence: subject and body.
fn streams(url: &str) -> Vec<(String, String)> {
    wait(async {
        let client = async_nats::connect(url).await.expect("a connection");
        let context = async_nats::jetstream::new(client);
        let names: Vec<String> = context.stream_names().try_collect().await.expect("names");
        assert!(names.contains(&"LIKEWISE".to_owned()), "{names:?}");
        let mut messages = Vec::new();
        for name in names {
            let mut stream = context.get_stream(&name).await.expect("the stream");
            let last = stream.info().await.expect("its state").state.last_sequence;
            for sequence in 1..=last {
                // A gap is an erased message.
                if let Ok(message) = stream.get_raw_message(sequence).await {
                    let body = String::from_utf8_lossy(&message.payload);
                    let text = format!("{} {body}", message.subject);
                    messages.push((format!("{name}/{sequence}"), text));
                }
            }
        }
        messages
    })
}

/// What was sent in the stream of events.
fn events_sent(service: &Service) -> Option<Vec<String>> {
    let setup = service.setup();
    let sent = setup
        .has_broker()
        .then(|| streams(&setup.setting("LIKEWISE_NATS_URL")))?;
    let events = sent
        .into_iter()
        .filter(|(place, _)| place.starts_with("LIKEWISE/"));
    Some(events.map(|(_, text)| text).collect())
}

fn send(
    client: &Client,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &Value,
) -> Answer {
    let body = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    let headers = [headers, &[("Content-Type", "application/json")]].concat();
    let answer = client.try_send(method, path, &headers, body.as_bytes());
    answer.unwrap_or_else(|error| panic!("{method} {path}: {error}"))
}

#[track_caller]
fn erase(client: &Client, path: &str) -> String {
    let answer = client.send("DELETE", path, &[("X-Operator", "ann")]);
    assert_eq!(answer.status, 202, "{answer:?}");
    let erasure = answer.json();
    assert_eq!(erasure["requested_by"], "ann");
    let id = erasure["id"].as_str().expect("an id").to_owned();
    assert_eq!(
        answer.header("location"),
        Some(&*format!("/v1/erasures/{id}"))
    );
    id
}

/// Waits for the end of an erasure. Returns the proof.
#[track_caller]
fn erased(client: &Client, id: &str) -> Value {
    until("the erasure to end", PATIENCE, || {
        let erasure = client.get(&format!("/v1/erasures/{id}")).json();
        assert_ne!(erasure["state"], "failed", "{erasure}");
        match erasure["finished_at"].is_string() {
            true => Ok(erasure),
            false => Err(erasure.to_string()),
        }
    })
}

#[track_caller]
fn job(client: &Client, body: &Value) -> Value {
    let created = send(client, "POST", "/admin/jobs", &[], body);
    assert_eq!(created.status, 201, "{created:?}");
    ended(client, created.json()["id"].as_str().expect("an id"))
}

#[track_caller]
fn ended(client: &Client, job: &str) -> Value {
    until("the job to end", PATIENCE, || {
        let job = client.get(&format!("/admin/jobs/{job}")).json();
        match job["finished_at"].is_string() {
            true => Ok(job),
            false => Err(job.to_string()),
        }
    })
}

/// Writes a like event of this status, as the service would.
fn plant(database: &Database, user: i64, video: i64, status: &str, has_behavior: bool) {
    let id = Uuid::now_v7();
    let at = "'2026-11-01 00:00:00'";
    let version = 1_790_000_000_000_000_i64 + video;
    let due = if status == "dead" {
        "NULL"
    } else {
        "'2100-01-01 00:00:00'"
    };
    let processed = if status == "dead" { at } else { "NULL" };
    database.execute(&[&format!(
        "INSERT INTO sync_events (id, event_type, resource_type, resource_id, user_id, action_type, \
         status, version, retry_count, max_retries, priority, error_message, next_attempt_at, \
         fencing_token, created_at, updated_at, processed_at) VALUES ('{id}', 'video_like', 'video', \
         {video}, {user}, 'like', '{status}', {version}, 1, 10, 0, 'user {user}', {due}, 1, {at}, {at}, \
         {processed})"
    )]);
    if has_behavior {
        database.execute(&[&format!(
            "INSERT INTO user_behaviors (event_id, user_id, resource_type, resource_id, behavior_type, \
             version, source, behavior_time, created_at) VALUES ('{id}', {user}, 'video', {video}, \
             'like', {version}, 'likewise-api', {at}, {at})"
        )]);
    }
}

fn lines(answer: &Answer) -> Vec<Value> {
    let lines = answer.text.lines();
    lines
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect()
}

fn of_kind(lines: &[Value], kind: &str) -> usize {
    lines.iter().filter(|line| line["kind"] == kind).count()
}

/// Likes of both types, unlikes, views, idempotency keys, failed and dead rows, and messages in quarantine.
fn live(service: &Service) {
    let (client, user) = (service.client(), USER.to_string());
    let as_user = [("X-User-Id", &*user)];
    for video in 1..=12 {
        client.like(USER, video);
        client.like(1, video);
    }
    for video in 1..=3 {
        client.unlike(USER, video);
    }
    // The count of a comment whose like by the user is voided is that of another.
    let other = client.send("PUT", "/v1/comments/1/like", &[("X-User-Id", "1")]);
    assert_eq!(other.status, 200, "{other:?}");
    for comment in 1..=4 {
        let path = format!("/v1/comments/{comment}/like");
        assert_eq!(client.send("PUT", &path, &as_user).status, 200);
    }
    // The user's absence from an entry is cached too.
    assert!(!client.read(USER, 500).liked);
    let keyed = [("X-User-Id", &*user), ("Idempotency-Key", "tap-1")];
    assert_eq!(client.send("PUT", "/v1/videos/20/like", &keyed).status, 200);
    let behavior = |user: i64, video: i64, behavior: &str| json!({"user_id": user, "resource_type": "video", "resource_id": video, "behavior": behavior});
    let own = json!({"behaviors": [behavior(USER, 21, "view"), behavior(USER, 21, "share")]});
    let both = json!({"behaviors": [behavior(USER, 22, "like"), behavior(2, 22, "like")]});
    for (key, batch) in [("batch-own", own), ("batch-both", both)] {
        let answer = send(
            &client,
            "POST",
            "/v1/likes",
            &[("Idempotency-Key", key)],
            &batch,
        );
        assert_eq!(answer.json()["accepted"], 2, "{answer:?}");
    }
    let of_another = json!({"behaviors": [behavior(2, 21, "view")]});
    let answer = send(&client, "POST", "/v1/likes", &[], &of_another);
    assert_eq!(answer.json()["accepted"], 1, "{answer:?}");
    if service.setup().has_broker() {
        let publisher = Publisher::at(&service.setup().setting("LIKEWISE_NATS_URL"));
        let mut bad = event(USER, 7, "liked", "2026-11-01T00:00:00Z");
        publisher.publish(LIKES, bad.to_string());
        bad["user_id"] = json!(2);
        publisher.publish(LIKES, bad.to_string());
        publisher.publish(
            LIKES,
            json!({"userId": USER.to_string(), "what": 1}).to_string(),
        );
        publisher.publish(LIKES, format!("no JSON, but {USER}"));
    }
    pipeline_drains(service);
    plant(service.database(), USER, 30, "failed", true);
    plant(service.database(), USER, 31, "dead", true);
    plant(service.database(), USER, 32, "dead", false);
    let filter = json!({"user_id": USER, "status": "dead"});
    let retried = job(
        &client,
        &json!({"kind": "discard", "filter": {"user_id": USER, "status": "failed"}, "reason": "a test"}),
    );
    assert_eq!(retried["state"], "completed", "{retried}");
    let dry = send(
        &client,
        "POST",
        "/admin/jobs",
        &[],
        &json!({"kind": "retry", "filter": filter, "dry_run": true}),
    );
    assert_eq!(dry.json()["total"], 3, "{dry:?}");
}

#[track_caller]
fn export_is_whole(client: &Client, database: &Database) {
    let path = format!("/v1/users/{USER}/export");
    let answer = client.get(&path);
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("content-type"), Some("text/x-ndjson"));
    let lines = lines(&answer);
    let rows = |table: &str| {
        let sql = format!("SELECT COUNT(*) FROM {table} WHERE user_id = {USER}");
        database.number(&sql) as usize
    };
    assert_eq!(of_kind(&lines, "behavior"), rows("user_behaviors"));
    // One ledger row has no behavior, so nothing shows whose it is but an erasure's search.
    assert_eq!(of_kind(&lines, "ledger_row"), rows("sync_events") - 1);
    assert_eq!(
        of_kind(&lines, "like"),
        rows("video_likes") + rows("comment_likes")
    );
    assert_eq!(of_kind(&lines, "idempotency_key"), 3);
    assert_eq!(of_kind(&lines, "fact"), rows("likewise_outbox"));
    assert_eq!(of_kind(&lines, "job"), 2);
    let end = lines.last().expect("an end");
    assert_eq!(
        (&end["kind"], &end["lines"]),
        (&json!("end"), &json!(lines.len() - 1))
    );
    let another = client.send("GET", &path, &[("X-User-Id", "2")]);
    assert_eq!(another.problem(), "forbidden");
}

fn counts_of_others_hold(service: &Service) {
    let liked = |user: i64, video: i64| {
        let read = service.client().read(user, video);
        (read.liked, read.like_count)
    };
    for video in 1..=12 {
        assert_eq!(liked(1, video), (true, Some(1)), "{video}");
    }
    assert_eq!(liked(2, 22), (true, Some(1)));
    // The view and the share of the erased user are subtracted.
    let counts = service.client().get("/v1/videos/21/behaviors/count").json();
    let one_view = json!({"view": 1, "share": 0, "comment": 0});
    assert_eq!(counts["counts"], one_view, "{counts}");
}

fn no_trace(service: &Service, id: i64) {
    // A message that is no JSON cannot be matched, and the proof counts it.
    let found = traces(service, id);
    let found: Vec<_> = found
        .iter()
        .filter(|one| !one.contains("no JSON") && *one != "1 rows of likewise_quarantined_events")
        .collect();
    assert!(found.is_empty(), "{found:#?}");
}

/// Adds receivers of facts, of which one refuses those of the user and so gets dead letters, and an archive with a row of
/// the user.
fn with_receivers_and_archive(setup: Setup, hook: &Hook) -> Setup {
    let archive = setup.folder().join("behaviors.jsonl.gz");
    let rows = [USER, 2].map(|user| json!({"user_id": user, "resource_type": "video"}).to_string());
    let file = fs::File::create(&archive).expect("a file");
    let mut file = GzEncoder::new(file, Compression::fast());
    writeln!(file, "{}", rows.join("\n")).expect("it is written");
    file.finish().expect("it is complete");
    let has_broker = setup.has_broker();
    setup
        .set("LIKEWISE_RETENTION_ARCHIVE", archive.display())
        .set("LIKEWISE_FACTS_STREAM", has_broker)
        .set("LIKEWISE_WEBHOOK_URLS", hook.url())
        .set(
            "LIKEWISE_WEBHOOK_SECRET",
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        )
        .set("LIKEWISE_WEBHOOK_MAX_ATTEMPTS", 2)
        .set("LIKEWISE_LEASE_SECONDS", 3)
}

/// Voids likes of the user, for a reason that names the user.
#[track_caller]
fn void(client: &Client) {
    let body =
        json!({"resource_type": "comment", "reason": format!("user {USER} is a click farm")});
    let path = format!("/admin/users/{USER}/likes/void");
    let created = send(client, "POST", &path, &[], &body);
    assert_eq!(created.status, 201, "{created:?}");
    let id = created.json()["id"].as_str().expect("an id").to_owned();
    ended(client, &id);
}

/// Imports rows of the user and of another, and returns how many events were new and repeated.
#[track_caller]
fn import(service: &Service) -> [Value; 2] {
    let path = service.setup().folder().join("likes.csv");
    let rows = format!("user_id,video_id,time\n{USER},40,1790000000\n3,40,1790000000\n");
    fs::write(&path, rows).expect("a file");
    let path = path.display().to_string();
    let mut arguments = vec!["import", "--json", &path];
    if !service.setup().has_broker() {
        // The service caches in its own memory.
        arguments.push("--stale-caches");
    }
    let ran = service.setup().run(&arguments);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let report: Value = serde_json::from_str(&ran.stdout).expect("a report");
    ["new", "repeated"].map(|name| report[name].clone())
}

fn erased_user_leaves_no_trace(setup: Setup) {
    let hook = Hook::start(|body| match body.contains(&USER.to_string()) {
        true => 422,
        false => 204,
    });
    let setup = with_receivers_and_archive(setup, &hook);
    let service = setup.start();
    let client = service.client();
    live(&service);
    void(&client);
    assert_eq!(import(&service), [2, 0]);
    let dead = "SELECT COUNT(*) FROM likewise_outbox WHERE dead_at IS NOT NULL";
    until("dead letters", PATIENCE, || {
        match service.database().number(dead) {
            0 => Err(0),
            _ => Ok(()),
        }
    });
    assert!(!traces(&service, USER).is_empty());
    export_is_whole(&client, service.database());
    let sent = events_sent(&service);

    let id = erase(&client, &format!("/v1/users/{USER}"));
    let proof = erased(&client, &id);
    say(format_args!("{proof:#}"));
    let deleted = &proof["deleted"];
    // 12 likes, 3 unlikes, 4 of comments and their voids, 1 with a key, a view, a share, 1 of a batch, 2 planted, 1 import.
    assert_eq!(deleted["behaviors"], 30, "{proof}");
    assert_eq!(deleted["ledger_rows"], 24, "{proof}");
    assert_eq!(deleted["likes"], 19, "{proof}");
    assert!(deleted["facts"].as_u64() > Some(20), "{proof}");
    assert_eq!(
        (&deleted["idempotency_keys"], &deleted["redacted_answers"]),
        (&json!(2), &json!(1))
    );
    if sent.is_some() {
        assert_eq!(deleted["quarantined_messages"], 2, "{proof}");
        // What was accepted, and the two messages in quarantine. View and share are of one request, so a message may hold both.
        let messages = deleted["stream_messages"].as_u64();
        assert!(matches!(messages, Some(24 | 25)), "{proof}");
    }
    no_trace(&service, USER);
    counts_of_others_hold(&service);
    // Before a rebuild could repair them.
    pipeline_drains(&service);
    everything_holds(&service);
    assert_eq!(erase(&client, &format!("/v1/users/{USER}")), id);
    let shown = client.get(&format!(
        "/admin/jobs/{}",
        proof["job_id"].as_str().expect("a job")
    ));
    let shown = shown.json();
    assert_eq!(shown["spec"]["user_id"], "erased");
    assert_eq!(shown["result"]["archives"][0]["rows"], 1, "{shown}");
    let overwritten = deleted["messages_overwritten"].as_u64();
    assert_eq!(overwritten > Some(0), sent.is_some(), "{proof}");
    let jobs = client.get("/admin/jobs").text;
    assert!(jobs.contains("user erased is a click farm"), "{jobs}");
    assert_eq!(import(&service), [0, 1]);

    let user = USER.to_string();
    for (method, path) in [
        ("PUT", "/v1/videos/1/like".to_owned()),
        ("GET", "/v1/videos/1/like".to_owned()),
        ("GET", format!("/v1/users/{USER}/export")),
        ("GET", "/v1/users/me/likes".to_owned()),
    ] {
        let answer = client.send(method, &path, &[("X-User-Id", &user)]);
        assert_eq!(
            (answer.status, &*answer.problem()),
            (410, "user_erased"),
            "{path}"
        );
    }
    let batch = json!({"behaviors": [
        {"user_id": USER, "resource_type": "video", "resource_id": 1, "behavior": "like"},
        {"user_id": 3, "resource_type": "video", "resource_id": 1, "behavior": "like"},
    ]});
    let answer = send(&client, "POST", "/v1/likes", &[], &batch).json();
    assert_eq!(
        (&answer["accepted"], &answer["results"][0]["status"]),
        (&json!(1), &json!(410))
    );
    let voiding = send(
        &client,
        "POST",
        &format!("/admin/users/{USER}/likes/void"),
        &[],
        &json!({"reason": "late"}),
    );
    assert_eq!(voiding.problem(), "conflict", "{voiding:?}");
    client.unlike(3, 1);
    // The key of the batch that named others still answers once.
    let both = json!({"behaviors": [
        {"user_id": USER, "resource_type": "video", "resource_id": 22, "behavior": "like"},
        {"user_id": 2, "resource_type": "video", "resource_id": 22, "behavior": "like"},
    ]});
    let again = send(
        &client,
        "POST",
        "/v1/likes",
        &[("Idempotency-Key", "batch-both")],
        &both,
    );
    assert_eq!(
        again.header("idempotency-replayed"),
        Some("true"),
        "{again:?}"
    );

    if let Some(sent) = sent {
        bring_back(&service, &sent);
        no_trace(&service, USER);
    }
    let rebuilt = job(&client, &json!({"kind": "rebuild"}));
    assert_eq!(rebuilt["state"], "completed", "{rebuilt}");
    let service = service.stop().start();
    pipeline_drains(&service);
    no_trace(&service, USER);
    counts_of_others_hold(&service);
    let audit = job(&service.client(), &json!({"kind": "audit"}));
    assert_eq!(audit["result"]["findings"], json!({}), "{audit}");
    everything_holds(&service);
    service.stop();
}

/// Publishes the messages of the erased user again, new ones, and one that is no event.
fn bring_back(service: &Service, sent: &[String]) {
    let publisher = Publisher::at(&service.setup().setting("LIKEWISE_NATS_URL"));
    let mut published = 0;
    for message in sent {
        let (subject, body) = message.split_once(' ').expect("a subject");
        let events = match serde_json::from_str(body) {
            Ok(Value::Array(batch)) => batch,
            Ok(event) => vec![event],
            Err(_) => Vec::new(),
        };
        let of_user = events
            .iter()
            .filter(|event| event["version"].is_number() && event["user_id"] == USER)
            .count();
        if of_user > 0 {
            publisher.publish(subject, body);
            published += of_user;
        }
    }
    assert!(published > 20, "{published}");
    publisher.publish(
        LIKES,
        event(USER, 77, "like", "2026-11-01T00:00:00Z").to_string(),
    );
    publisher.publish(
        LIKES,
        event(USER, 77, "liked", "2026-11-01T00:00:00Z").to_string(),
    );
    pipeline_drains(service);
    let metrics = service.client().get("/metrics").text;
    let dropped = format!("likewise_events_of_erased_total {}", published + 1);
    assert!(metrics.contains(&dropped), "{dropped}");
}

fn erased_resource_leaves_no_trace(setup: Setup) {
    let service = setup.start();
    let client = service.client();
    for user in 1..=9 {
        client.like(user, VIDEO);
        client.like(user, 2);
    }
    client.unlike(9, VIDEO);
    let view = json!({"behaviors": [
        {"user_id": 4, "resource_type": "video", "resource_id": VIDEO, "behavior": "view"},
        {"user_id": 4, "resource_type": "video", "resource_id": 2, "behavior": "view"},
    ]});
    let keyed = [("Idempotency-Key", "views")];
    assert_eq!(
        send(&client, "POST", "/v1/likes", &keyed, &view).status,
        200
    );
    pipeline_drains(&service);
    let sent = events_sent(&service);
    // Two older views are pruned.
    service.database().execute(&[&format!(
        "UPDATE likewise_behavior_counts SET behavior_count = 3, pruned_count = 2 \
         WHERE resource_id = {VIDEO}"
    )]);
    let path = format!("/v1/videos/{VIDEO}");
    let proof = erased(&client, &erase(&client, &path));
    let deleted = &proof["deleted"];
    assert_eq!(
        (&deleted["behaviors"], &deleted["likes"]),
        (&json!(11), &json!(9)),
        "{proof}"
    );
    assert_eq!(deleted["counts"], 2, "{proof}");
    no_trace(&service, VIDEO);
    for path in [
        format!("{path}/like"),
        format!("{path}/likes"),
        format!("{path}/likes/count"),
        format!("{path}/behaviors/count"),
    ] {
        let answer = client.send("GET", &path, &[("X-User-Id", "1")]);
        assert_eq!(
            (answer.status, &*answer.problem()),
            (410, "resource_erased"),
            "{path}"
        );
    }
    let page = json!({"items": [
        {"resource_type": "video", "resource_id": VIDEO}, {"resource_type": "video", "resource_id": 2},
    ]});
    let behaviors = send(&client, "POST", "/v1/behaviors/count", &[], &page).json();
    let views = [0, 1].map(|n| behaviors["items"][n]["counts"]["view"].as_i64());
    assert_eq!(views, [Some(0), Some(1)], "{behaviors}");
    let page = send(
        &client,
        "POST",
        "/v1/likes/status",
        &[("X-User-Id", "1")],
        &page,
    )
    .json();
    let counts: Vec<_> = [0, 1]
        .map(|n| page["items"][n]["like_count"].clone())
        .to_vec();
    assert_eq!(counts, [0, 9], "{page}");
    if let Some(sent) = sent {
        let publisher = Publisher::at(&service.setup().setting("LIKEWISE_NATS_URL"));
        for message in sent {
            let (subject, body) = message.split_once(' ').expect("a subject");
            publisher.publish(subject, body);
        }
        pipeline_drains(&service);
    }
    let rebuilt = job(&client, &json!({"kind": "rebuild"}));
    assert_eq!(rebuilt["state"], "completed", "{rebuilt}");
    let service = service.stop().start();
    no_trace(&service, VIDEO);
    assert_eq!(service.client().read(1, 2).like_count, Some(9));
    everything_holds(&service);
    service.stop();
}

fn reasons_about_others_do_not_name_the_erased(setup: Setup) {
    const ERASED: &str = "ann-4711";
    let service = setup.set("LIKEWISE_USER_IDS", "text").start();
    let client = service.client();
    for user in [ERASED, "bob"] {
        client.send("PUT", "/v1/videos/7/like", &[("X-User-Id", user)]);
    }
    pipeline_drains(&service);
    let body = json!({"resource_type": "video", "reason": format!("same phone as {ERASED}")});
    let path = "/admin/users/bob/likes/void";
    let void = send(&client, "POST", path, &[], &body).json();
    let id = void["id"].as_str().expect("an id");
    ended(&client, id);
    erased(&client, &erase(&client, &format!("/v1/users/{ERASED}")));
    assert_eq!(in_tables(service.database(), ERASED), [""; 0]);
    let job = ended(&client, id);
    assert!(job.to_string().contains("same phone as erased"), "{job}");
}

fn user_who_keeps_liking_is_erased(setup: Setup) {
    let service = setup.start();
    let client = service.client();
    for video in 1..=40 {
        client.like(USER, video);
    }
    let (stop, refused, accepted) = (AtomicBool::new(false), AtomicI64::new(0), AtomicI64::new(0));
    let proof = std::thread::scope(|scope| {
        for user in [USER, USER, 1, 2] {
            let (stop, refused, accepted, service) = (&stop, &refused, &accepted, &service);
            scope.spawn(move || {
                let client = service.client();
                let mut video = 0;
                while !stop.load(Ordering::Relaxed) {
                    video = video % 200 + 1;
                    let method = if video % 7 == 0 { "DELETE" } else { "PUT" };
                    let answer = client.try_like(method, user, video).expect("an answer");
                    match (answer.status, user == USER) {
                        (200, _) => accepted.fetch_add(1, Ordering::Relaxed),
                        (410, true) => refused.fetch_add(1, Ordering::Relaxed),
                        _ => panic!("{user}: {answer:?}"),
                    };
                }
            });
        }
        // Also ends the clients of a test that fails.
        scopeguard::defer!(stop.store(true, Ordering::Relaxed));
        until("likes to arrive", PATIENCE, || {
            (accepted.load(Ordering::Relaxed) > 400)
                .then_some(())
                .ok_or("not yet")
        });
        let proof = erased(&client, &erase(&client, &format!("/v1/users/{USER}")));
        until("more likes to be refused", PATIENCE, || {
            (refused.load(Ordering::Relaxed) > 50)
                .then_some(())
                .ok_or("not yet")
        });
        proof
    });
    say(format_args!(
        "{accepted:?} accepted, {refused:?} refused, {proof}"
    ));
    pipeline_drains(&service);
    no_trace(&service, USER);
    everything_holds(&service);
    service.stop();
}

/// Loads likes of one user with their behaviors and completed ledger rows, in bulk.
fn load(database: &Database, likes: i64) {
    const AT_ONCE: i64 = 2_000;
    for first in (1..=likes).step_by(AT_ONCE as usize) {
        let (mut behaviors, mut ledger, mut states, mut counts) = (vec![], vec![], vec![], vec![]);
        let at = "'2026-11-01 00:00:00'";
        for video in first..(first + AT_ONCE).min(likes + 1) {
            let id = Uuid::now_v7();
            let since = "'2026-09-21 13:33:20.000000'";
            behaviors.push(format!(
                "('{id}', {USER}, 'video', {video}, 'like', 1790000000000000, 'likewise-api', {since}, {at})"
            ));
            ledger.push(format!(
                "('{id}', 'video_like', 'video', {video}, {USER}, 'like', 'completed', 1790000000000000, 0, 10, 0, 1, {at}, {at}, {at})"
            ));
            states.push(format!("({USER}, {video}, 1790000000000000, {since})"));
            counts.push(format!("('video', {video}, 1, 1, {at})"));
        }
        database.execute(&[
            &format!(
                "INSERT INTO user_behaviors (event_id, user_id, resource_type, resource_id, behavior_type, \
                 version, source, behavior_time, created_at) VALUES {}",
                behaviors.join(", ")
            ),
            &format!(
                "INSERT INTO sync_events (id, event_type, resource_type, resource_id, user_id, action_type, \
                 status, version, retry_count, max_retries, priority, fencing_token, created_at, \
                 updated_at, processed_at) VALUES {}",
                ledger.join(", ")
            ),
            &format!(
                "INSERT INTO video_likes (user_id, video_id, version, created_at) VALUES {}",
                states.join(", ")
            ),
            &format!(
                "INSERT INTO likewise_like_counts (resource_type, resource_id, like_count, revision, \
                 updated_at) VALUES {}",
                counts.join(", ")
            ),
        ]);
    }
}

fn killed_erasure_is_resumed(setup: Setup) {
    const LIKED: i64 = 8_000;
    let service = setup.start();
    load(service.database(), LIKED);
    let client = service.client();
    client.like(1, 5);
    pipeline_drains(&service);
    let id = erase(&client, &format!("/v1/users/{USER}"));
    let left = format!("SELECT COUNT(*) FROM user_behaviors WHERE user_id = {USER}");
    until("a part to be erased", PATIENCE, || {
        let left = service.database().number(&left);
        (left < LIKED).then_some(()).ok_or(left)
    });
    let setup = service.kill();
    let rest = setup.database().number(&left);
    say(format_args!("{rest} of {LIKED} left at the kill"));
    // The lease of the killed worker ends.
    setup
        .database()
        .execute(&["UPDATE likewise_jobs SET lease_until = NULL WHERE kind = 'erase'"]);
    let service = setup.start();
    let proof = erased(&service.client(), &id);
    assert_eq!(proof["deleted"]["behaviors"], LIKED, "{proof}");
    assert_eq!(proof["deleted"]["likes"], LIKED, "{proof}");
    no_trace(&service, USER);
    assert_eq!(service.client().read(1, 5).like_count, Some(1));
    everything_holds(&service);
    service.stop();
}

/// Publishes the loaded events, as the stream keeps them, and waits until the workers have recognised them.
fn publish(service: &Service) {
    let url = service.setup().setting("LIKEWISE_NATS_URL");
    let events = service
        .database()
        .rows("SELECT event_id, resource_id FROM user_behaviors");
    wait(async {
        let client = async_nats::connect(url).await.expect("a connection");
        let stream = async_nats::jetstream::new(client);
        for some in events.chunks(1_000) {
            let mut sent = Vec::new();
            for event in some {
                let body = json!({
                    "event_id": event[0].text(), "user_id": USER, "resource_type": "video",
                    "resource_id": event[1].number(), "behavior": "like",
                    "occurred_at": "2026-09-21T13:33:20Z", "version": 1_790_000_000_000_000_i64,
                });
                let subject = "likewise.accepted.video.like";
                sent.push(
                    stream
                        .publish(subject, body.to_string().into())
                        .await
                        .expect("it is sent"),
                );
            }
            for acknowledged in sent {
                acknowledged.await.expect("an acknowledgement");
            }
        }
    });
    pipeline_drains(service);
}

/// 100,000 likes of one user on MariaDB, with Redis and NATS, are erased in less than a minute.
#[test]
#[ignore = "measures"]
fn large_erasure_takes_less_than_a_minute() {
    const LIKED: i64 = 100_000;
    let setup = Setup::on_parts(crate::support::servers::Kind::MariaDb);
    let service = setup.start();
    load(service.database(), LIKED);
    // Bulk-loaded tables have no statistics yet.
    service
        .database()
        .execute(&["ANALYZE TABLE user_behaviors, sync_events, video_likes, likewise_like_counts"]);
    publish(&service);
    let client = service.client();
    let started = Instant::now();
    let export = client.get(&format!("/v1/users/{USER}/export"));
    let exported = started.elapsed();
    assert_eq!(export.text.lines().count() as i64, 3 * LIKED + 1);
    let started = Instant::now();
    let proof = erased(&client, &erase(&client, &format!("/v1/users/{USER}")));
    let took = started.elapsed();
    say(format_args!(
        "exported {LIKED} likes in {exported:?}, erased them in {took:?}, {} KiB: {proof}",
        service.memory_kib()
    ));
    assert_eq!(proof["deleted"]["behaviors"], LIKED);
    assert_eq!(proof["deleted"]["stream_messages"], LIKED);
    let overwritten = proof["deleted"]["messages_overwritten"].as_i64();
    assert!(
        overwritten > Some(0) && overwritten <= Some(1_000),
        "{proof}"
    );
    no_trace(&service, USER);
    assert!(took < Duration::from_secs(60), "{took:?}");
    service.stop();
}

fn user_with_likes_of_a_removed_type_is_erased(setup: Setup) {
    const TYPES: &str = "LIKEWISE_RESOURCE_TYPES";
    let service = setup.set(TYPES, "video,comment,post").start();
    let client = service.client();
    client.like(USER, 1);
    for (user, post) in [(USER, 1), (USER, 2), (1, 1)] {
        client
            .as_user(user)
            .put(&format!("/v1/posts/{post}/like"))
            .has_status(200);
    }
    pipeline_drains(&service);
    let service = service.stop().set(TYPES, "video,comment").start();
    let (client, database) = (service.client(), service.database());
    let id = erase(&client, &format!("/v1/users/{USER}"));
    let deleted = erased(&client, &id)["deleted"].clone();
    for kind in ["behaviors", "ledger_rows", "likes"] {
        assert_eq!(deleted[kind], 3, "{deleted}");
    }
    let found = in_tables(database, &USER.to_string());
    assert!(found.is_empty(), "{found:#?}");
    let counts = "SELECT like_count FROM likewise_like_counts WHERE resource_type = 'post' \
                  ORDER BY resource_id";
    let counts = database.rows(counts);
    let counts: Vec<_> = counts.iter().map(|row| row[0].number()).collect();
    assert_eq!(counts, [1, 0]);
    service
        .setup()
        .beside()
        .set(TYPES, "video,comment,post")
        .verify(60)
        .holds();

    // Without the table, the events are erased all the same.
    database.execute(&["DROP TABLE post_likes"]);
    let id = erase(&client, "/v1/users/1");
    assert_eq!(erased(&client, &id)["deleted"]["behaviors"], 1);
    assert_eq!(database.count("user_behaviors"), 0);
    assert_eq!(database.count("sync_events"), 0);
    service.stop();
}
