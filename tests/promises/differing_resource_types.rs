//! Processes that serve different resource types, as during a rolling restart that adds one: likes of a type wait for a
//! worker that serves it.

use serde_json::json;

use crate::support::checks::pipeline_drains;
use crate::support::servers::Kind;
use crate::support::service::Setup;

const TYPES: &str = "LIKEWISE_RESOURCE_TYPES";
const WITH_POSTS: &str = "video,comment,post";

#[test]
fn likes_of_a_new_type_wait_for_a_worker_that_serves_it() {
    let setup = Setup::on_parts(Kind::MariaDb);
    let (api, new) = (setup.beside(), setup.beside());
    let old = setup.start_as(&["serve", "--role", "worker"]);
    let api = api
        .set(TYPES, WITH_POSTS)
        .start_as(&["serve", "--role", "api"]);
    let (client, database) = (api.client(), api.database());
    let liked = client.as_user(1).put("/v1/posts/7/like").ok();
    assert_eq!(liked["durability"], "broker", "{liked}");
    // One message may have events of several types.
    let like = |user: i64, kind: &str| json!({"user_id": user, "resource_type": kind, "resource_id": 7, "behavior": "like"});
    let batch = json!({"behaviors": [like(2, "video"), like(2, "post"), like(3, "post")]});
    let accepted = client.post("/v1/likes", batch).ok();
    assert_eq!(accepted["accepted"], 3, "{accepted}");
    client.like(1, 7);

    old.until_logged("does not serve their resource type");
    database.until_count("video_likes", 2);
    assert_eq!(database.count("post_likes"), 0);
    assert_eq!(old.logged("does not serve their resource type").len(), 1);

    let new = new
        .set(TYPES, WITH_POSTS)
        .start_as(&["serve", "--role", "worker"]);
    old.stop();
    pipeline_drains(&new);
    assert_eq!(database.count("post_likes"), 3);
    assert_eq!(database.count("likewise_quarantined_events"), 0);
    assert_eq!(database.count("sync_events WHERE status = 'dead'"), 0);
    api.setup().verify(60).holds();
}

#[test]
fn type_without_a_worker_is_reported() {
    let service = Setup::new().start();
    let (client, database) = (service.client(), service.database());
    client.like(1, 7);
    pipeline_drains(&service);
    // As if the type was removed from the settings while a like of it waited.
    database.execute(&[
        "UPDATE sync_events SET resource_type = 'post', status = 'pending', processed_at = NULL, \
         next_attempt_at = '2026-01-01 00:00:00'",
    ]);
    service.until_logged("no running worker serves their resource type");
    client.like(2, 7);
    database.until_count("video_likes", 2);
    let row = "SELECT status, retry_count FROM sync_events WHERE resource_type = 'post'";
    assert_eq!(database.line(row), "pending 0");
    let ledger = client.get("/admin/ledger").json();
    assert_eq!(ledger["due"], 1, "{ledger}");
    service.stop();
}
