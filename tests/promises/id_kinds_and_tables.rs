//! Ids of any kind, resource types of any name, and tables beside those of a product.

use serde_json::{Value, json};

use crate::support::checks::{ledger_closes_in, pipeline_drains};
use crate::support::database::Database;
use crate::support::http::Client;
use crate::support::servers::Kind;
use crate::support::service::{Service, Setup};

matrix!([embedded, mariadb_stack, postgres_stack]:
    uuid_users_like_resources_with_text_ids,
    first_migration_keeps_the_tables_of_a_product,
    kind_of_ids_cannot_change,
    new_resource_type_gets_its_table,
);

matrix!(&[embedded, mariadb, postgres]: first_migration_that_fails_leaves_nothing);

matrix!([embedded, mariadb, postgres]: new_resource_type_keeps_the_table_of_a_product);

const ANN: &str = "018f3f52-7d1e-7c60-a5ae-0b9d2a1c0f11";
const BOB: &str = "b0b0b0b0-0000-4000-8000-000000000001";

/// Text that a path, a key, a subject or a pattern could misread; and a number as text.
const TEXTS: [&str; 7] = ["a/b c", "}{:=", "%2F", "7", "ü*>.", "i", "'\"\\"];

fn with_ids(setup: Setup) -> Setup {
    setup
        .set("LIKEWISE_USER_IDS", "uuid")
        .set("LIKEWISE_RESOURCE_IDS", "text")
        .set("LIKEWISE_RESOURCE_TYPES", "post,photo")
        .set("LIKEWISE_TABLE_PREFIX", "app_")
}

/// The path of the like of a post, whose id is encoded.
fn like(post: &str) -> String {
    let id: String = post.bytes().map(|byte| format!("%{byte:02X}")).collect();
    format!("/v1/posts/{id}/like")
}

fn send(client: &Client, method: &str, user: &str, path: &str) -> Value {
    client.as_user(user).send(method, path, &[]).ok()
}

/// The ids in a list of likes.
fn listed(page: &Value, key: &str) -> Vec<String> {
    let likes = page["likes"].as_array().expect("likes").iter();
    let id = |like: &Value| like[key].as_str().expect("text").to_owned();
    likes.map(id).collect()
}

fn uuid_users_like_resources_with_text_ids(setup: Setup) {
    let service = with_ids(setup).start();
    let client = service.client();
    for text in TEXTS {
        let liked = send(&client, "PUT", &ANN.to_uppercase(), &like(text));
        assert_eq!(liked["resource_id"], text);
        assert_eq!(liked["user_id"], ANN);
    }
    send(&client, "PUT", BOB, &like(TEXTS[0]));
    send(&client, "PUT", BOB, "/v1/photos/7/like");
    send(&client, "DELETE", ANN, &like("i"));
    pipeline_drains(&service);
    reads_are_right(&client);
    refusals_are_clear(&client);
    behaviors_are_counted(&service);
    everything_is_in_its_tables(&service);
    // The same from the database alone: with an empty cache, a restart knows nothing else.
    let service = service.stop().start();
    reads_are_right(&service.client());
    let setup = service.stop();
    setup.verify(60).holds();
    let audit = setup.run(&["audit", "--json"]);
    let report: Value = serde_json::from_str(&audit.stdout).expect("JSON");
    assert_eq!(report["findings"], json!({}), "{report:#}");
    likes_are_voided_and_restored(&setup);
    let service = setup.start();
    reads_are_right(&service.client());
    service.stop().verify(60).holds();
}

fn likes_are_voided_and_restored(setup: &Setup) {
    let likes = "SELECT * FROM app_post_likes ORDER BY user_id, post_id";
    let before = setup.database().rows(likes);
    for (decision, count) in [("void", 1), ("restore", 7)] {
        let run = setup.run(&["users", decision, ANN, "--reason", "a test", "--yes"]);
        run.prints("6 likes changed");
        let counts = "SELECT like_count FROM app_likewise_like_counts WHERE resource_type = 'post'";
        let counts = setup.database().rows(counts);
        let total: i64 = counts.iter().map(|row| row[0].number()).sum();
        assert_eq!(total, count, "after {decision}");
        setup.verify(60).holds();
    }
    assert_eq!(setup.database().rows(likes), before);
}

fn reads_are_right(client: &Client) {
    let read = send(client, "GET", BOB, &like(TEXTS[0]));
    assert_eq!(
        (&read["liked"], &read["like_count"]),
        (&json!(true), &json!(2))
    );
    let item = |id: &str| json!({"resource_type": "post", "resource_id": id});
    let items = json!({"items": TEXTS.map(item)});
    let status = client.as_user(ANN).post("/v1/likes/status", items).ok();
    for (item, text) in status["items"].as_array().expect("items").iter().zip(TEXTS) {
        assert_eq!(item["resource_id"], text, "{status}");
        assert_eq!(item["liked"], text != "i", "{status}");
    }
    // A page of two at a time passes every like once.
    let mut seen = Vec::new();
    let mut path = "/v1/users/me/likes?limit=2".to_owned();
    loop {
        let page = send(client, "GET", ANN, &path);
        seen.extend(listed(&page, "resource_id"));
        let Some(cursor) = page["next_cursor"].as_str() else {
            break;
        };
        path = format!("/v1/users/me/likes?limit=2&cursor={cursor}");
    }
    let liked = TEXTS.into_iter().rev().filter(|text| *text != "i");
    assert_eq!(seen, liked.collect::<Vec<_>>());
    let likers = send(client, "GET", ANN, &format!("{}s", like(TEXTS[0])));
    assert_eq!(listed(&likers, "user_id"), [BOB, ANN]);
    let top = send(client, "GET", ANN, "/v1/posts/top?limit=1");
    assert_eq!(top["resources"][0]["resource_id"], TEXTS[0]);
    assert_eq!(top["resources"][0]["like_count"], 2);
}

fn refusals_are_clear(client: &Client) {
    let long = like(&"x".repeat(65));
    for (user, path, status, code) in [
        ("42", "/v1/posts/7/like", 400, "invalid_user_id"),
        ("", "/v1/posts/7/like", 400, "invalid_user_id"),
        (ANN, &*long, 400, "invalid_resource_id"),
        (ANN, "/v1/posts/%20/like", 400, "invalid_resource_id"),
        (ANN, "/v1/videos/7/like", 404, "not_found"),
    ] {
        client.as_user(user).put(path).is_problem(status, code);
    }
    let batch = json!({"behaviors": [
        {"user_id": ANN, "resource_type": "video", "resource_id": "7", "behavior": "like"},
        {"user_id": 7, "resource_type": "post", "resource_id": "7", "behavior": "like"},
        {"user_id": ANN, "resource_type": "post", "resource_id": 7, "behavior": "like"},
        {"user_id": ANN, "resource_type": "photo", "resource_id": "8", "behavior": "view"},
    ]});
    let batch = client.post("/v1/likes", batch).ok();
    assert_eq!(batch["refused"], 3, "{batch}");
}

/// Text ids that differ in case, or look like numbers, have counts of their own. The photo was viewed before.
fn behaviors_are_counted(service: &Service) {
    let client = service.client();
    let item = |kind: &str, id: &str| json!({"resource_type": kind, "resource_id": id});
    let behaviors = TEXTS.into_iter().chain(["I", "07"]).zip(1..);
    let sent: Vec<_> = behaviors
        .clone()
        .flat_map(|(id, views)| {
            let mut view = item("post", id);
            view["user_id"] = json!(BOB);
            view["behavior"] = json!("view");
            std::iter::repeat_n(view, views)
        })
        .collect();
    let accepted = client.post("/v1/likes", json!({ "behaviors": sent })).ok();
    assert_eq!(accepted["refused"], 0, "{accepted}");
    pipeline_drains(service);
    for (id, views) in behaviors {
        let path = like(id).replace("/like", "/behaviors/count");
        let counts = client.get(&path).ok();
        assert_eq!(counts["resource_id"], id);
        assert_eq!(counts["counts"]["view"], views, "{counts:#}");
    }
    let items = [item("photo", "8"), item("post", "i"), item("post", "J")];
    let counts = client.post("/v1/behaviors/count", json!({ "items": items }));
    let counts = counts.ok();
    let views = [0, 1, 2].map(|n| counts["items"][n]["counts"]["view"].as_i64());
    assert_eq!(views, [Some(1), Some(6), Some(0)], "{counts}");
}

fn everything_is_in_its_tables(service: &Service) {
    let database = service.database();
    let users = database.texts("SELECT DISTINCT user_id FROM app_post_likes");
    assert_eq!(users.len(), 2, "{users:?}");
    let ids = database.texts("SELECT post_id FROM app_post_likes WHERE deleted_at IS NULL");
    for text in TEXTS {
        assert_eq!(ids.iter().any(|id| id == text), text != "i", "{ids:?}");
    }
    assert_eq!(database.count("app_photo_likes"), 1);
    let open = database.count("app_sync_events WHERE status <> 'completed'");
    assert_eq!(open, 0);
    for (table, _) in database.columns() {
        assert!(table.starts_with("app_"), "{table}");
    }
}

/// What a product may have in its database.
const OF_THE_PRODUCT: [&str; 3] = [
    "CREATE TABLE jobs (id INT, name TEXT)",
    "CREATE TABLE likes (user_id INT, video_id INT)",
    "CREATE TABLE __diesel_schema_migrations (version VARCHAR(50) PRIMARY KEY, run_on TIMESTAMP)",
];

fn make_file(setup: &Setup) {
    if let Database::Sqlite(path) = setup.database() {
        std::fs::write(path, "").expect("a file");
    }
}

fn first_migration_keeps_the_tables_of_a_product(setup: Setup) {
    make_file(&setup);
    setup.database().execute(&OF_THE_PRODUCT);
    let taken = "CREATE TABLE user_behaviors (mine INT)";
    setup.database().execute(&[taken]);
    let before = setup.database().columns();
    let refused = setup.run(&["migrate"]);
    refused.exits(1);
    for said in ["user_behaviors", "LIKEWISE_TABLE_PREFIX"] {
        refused.reports(said);
    }
    assert_eq!(setup.database().columns(), before);
    let service = setup.set("LIKEWISE_TABLE_PREFIX", "likes_").start();
    service.client().like(1, 7);
    pipeline_drains(&service);
    let after = service.database().columns();
    for column in before {
        assert!(after.contains(&column), "{column:?}");
    }
    let setup = service.stop();
    assert_eq!(setup.database().count("__diesel_schema_migrations"), 0);
    setup.verify(60).holds();
}

/// Returns the ids in an answer, wherever they are.
fn ids_in(answer: &Value) -> Vec<Value> {
    match answer {
        Value::Object(fields) => fields
            .iter()
            .flat_map(|(name, value)| match name.as_str() {
                "user_id" | "resource_id" => vec![value.clone()],
                _ => ids_in(value),
            })
            .collect(),
        Value::Array(items) => items.iter().flat_map(ids_in).collect(),
        _ => Vec::new(),
    }
}

#[test]
fn ids_are_strings_in_every_answer_if_configured() {
    // Beyond the integers that JavaScript has.
    const LARGE: &str = "9007199254740993";
    let service = Setup::new().set("LIKEWISE_JSON_IDS", "string").start();
    let client = service.client();
    let liked = send(&client, "PUT", LARGE, &format!("/v1/videos/{LARGE}/like"));
    let event = liked["event_id"].as_str().expect("an id").to_owned();
    pipeline_drains(&service);
    let mut answers = vec![liked];
    for path in [
        &*format!("/v1/videos/{LARGE}/like"),
        &*format!("/v1/videos/{LARGE}/likes"),
        &*format!("/v1/videos/{LARGE}/likes/count"),
        &*format!("/v1/videos/{LARGE}/behaviors/count"),
        "/v1/users/me/likes",
        "/v1/videos/top",
        "/admin/ledger/events",
        &*format!("/admin/ledger/events/{event}"),
    ] {
        answers.push(send(&client, "GET", LARGE, path));
    }
    let item = json!({"resource_type": "video", "resource_id": LARGE});
    let mut behavior = item.clone();
    behavior["user_id"] = LARGE.into();
    behavior["behavior"] = "like".into();
    for (path, body) in [
        ("/v1/likes/status", json!({"items": [item]})),
        ("/v1/behaviors/count", json!({"items": [item]})),
        ("/v1/likes", json!({"behaviors": [behavior]})),
    ] {
        answers.push(client.as_user(LARGE).post(path, body).json());
    }
    for answer in answers {
        let ids = ids_in(&answer);
        assert!(!ids.is_empty(), "{answer:#}");
        assert!(ids.iter().all(|id| id == LARGE), "{answer:#}");
    }
}

#[test]
fn schema_of_postgres_has_every_table() {
    let setup = Setup::new().on(&Database::hosted(Kind::Postgres));
    let taken = "CREATE TABLE user_behaviors (mine INT)";
    setup.database().execute(&[taken]);
    let before = setup.database().columns();
    let service = setup.set("LIKEWISE_DATABASE_SCHEMA", "likes").start();
    service.client().like(1, 7);
    ledger_closes_in(service.database(), "likes.");
    assert_eq!(service.database().count("likes.video_likes"), 1);
    assert_eq!(service.database().columns(), before);
    let setup = service.stop();
    setup.verify(60).holds();

    // A first migration that fails leaves no schema.
    let failing = setup.beside();
    failing.database().execute(&[
        "CREATE SCHEMA other",
        "CREATE TABLE other.video_likes_user (mine INT)",
    ]);
    let failing = failing.set("LIKEWISE_DATABASE_SCHEMA", "other");
    let failed = failing.run(&["migrate"]);
    failed.exits(1);
    let schemas = setup.database().texts(
        "SELECT table_name::text FROM information_schema.tables WHERE table_schema = 'other'",
    );
    assert_eq!(schemas, ["video_likes_user"]);

    let sqlite = Setup::new().set("LIKEWISE_DATABASE_SCHEMA", "likes");
    let refused = sqlite.run(&["migrate"]);
    refused.reports("LIKEWISE_TABLE_PREFIX");
}

fn kind_of_ids_cannot_change(setup: Setup) {
    let migrated = setup.run(&["migrate"]);
    migrated.exits(0);
    let before = setup.database().columns();
    let setup = setup.set("LIKEWISE_RESOURCE_IDS", "uuid");
    for command in ["migrate", "serve", "verify"] {
        let refused = setup.run(&[command]);
        refused.exits(1);
        for said in ["IDS is uuid", "LIKEWISE_RESOURCE_IDS=number"] {
            assert!(refused.stderr.contains(said), "{command}: {refused:?}");
        }
    }
    assert_eq!(setup.database().columns(), before);
}

fn new_resource_type_gets_its_table(setup: Setup) {
    let service = setup.start();
    service.client().like(1, 7);
    pipeline_drains(&service);
    let setup = service
        .stop()
        .set("LIKEWISE_RESOURCE_TYPES", "video,comment,live_stream");
    let service = setup.start();
    send(&service.client(), "PUT", "1", "/v1/live_streams/7/like");
    pipeline_drains(&service);
    let likes = service
        .database()
        .count("live_stream_likes WHERE live_stream_id = 7");
    assert_eq!(likes, 1);
    service.stop().verify(60).holds();
}

fn new_resource_type_keeps_the_table_of_a_product(setup: Setup) {
    let service = setup.start();
    service.client().like(1, 7);
    pipeline_drains(&service);
    let setup = service.stop();
    setup
        .database()
        .execute(&["CREATE TABLE post_likes (user_id INT, post_id INT, liked_at INT)"]);
    let before = setup.database().columns();
    let with_posts = setup
        .beside()
        .set("LIKEWISE_RESOURCE_TYPES", "video,comment,post");
    for command in ["migrate", "serve"] {
        let refused = with_posts.run(&[command]);
        refused.exits(1);
        refused
            .reports("post_likes")
            .reports("LIKEWISE_RESOURCE_TYPES");
    }
    assert_eq!(setup.database().columns(), before);
    let noted = "likewise_schema_migrations WHERE name = 'create_post_likes'";
    assert_eq!(setup.database().count(noted), 0);
    // Those without the type go on.
    let service = setup.start();
    service.client().like(2, 7);
    pipeline_drains(&service);
    service.stop().verify(60).holds();
}

fn first_migration_that_fails_leaves_nothing(setup: &Setup) {
    make_file(setup);
    // The name of an index that a late migration creates.
    let taken = match setup.database() {
        Database::MariaDb(_) => "CREATE VIEW likewise_idempotency_keys AS SELECT 1 AS one",
        _ => "CREATE TABLE video_likes_user (mine INT)",
    };
    setup.database().execute(&[taken]);
    let before = setup.database().columns();
    let failed = setup.run(&["migrate"]);
    failed.exits(1);
    assert_eq!(setup.database().columns(), before, "{failed:?}");
}
