//! `/v1/action`: requests of clients of the previous service, and the envelope of the responses.

use serde_json::{Value, json};

use crate::support::checks::{everything_holds, pipeline_drains};
use crate::support::http::Answer;
use crate::support::service::Setup;
use crate::support::tokens::token_of;

const LIKE: &str = "/v1/action/like";
const LIST: &str = "/v1/action/list";

#[track_caller]
fn enclosed(answer: &Answer) -> Value {
    let body = answer.ok();
    assert_eq!(answer.header("Content-Type"), Some("application/json"));
    assert_eq!(
        (&body["code"], &body["message"]),
        (&json!(10_000), &json!("success"))
    );
    body["data"].clone()
}

#[track_caller]
fn refused(answer: &Answer, status: u16) {
    let body = answer.has_status(status).json();
    assert_eq!(answer.header("Content-Type"), Some("application/json"));
    assert_eq!(
        (&body["code"], &body["data"]),
        (&json!(status), &Value::Null)
    );
    assert!(
        body["message"].as_str().expect("a message").len() > 10,
        "{body}"
    );
}

#[test]
fn legacy_clients_like_unlike_and_list() {
    let service = Setup::new().start();
    let client = service.client();
    let act = |body: Value| enclosed(&client.as_user(1).post(LIKE, body));
    for video in 1..=5 {
        let liked = act(json!({"video_id": video, "action_type": "1"}));
        assert_eq!(
            (&liked["liked"], &liked["like_count"]),
            (&json!(true), &json!(1))
        );
    }
    act(json!({"video_id": "2", "comment_id": "", "action_type": "unlike"}));
    let comment = act(json!({"comment_id": "9", "action_type": "like"}));
    assert_eq!(comment["resource_type"], "comment");
    assert!(client.read(1, 1).liked);
    assert!(!client.read(1, 2).liked);
    pipeline_drains(&service);
    let page = |number: usize| {
        let path = format!("{LIST}?page_num={number}&page_size=3&token=x");
        let data = enclosed(&client.as_user(1).get(&path));
        assert_eq!(data["total"], 4);
        let items = data["items"].as_array().expect("items").clone();
        let ids = items.iter().map(|item| item["video_id"].as_i64());
        ids.collect::<Option<Vec<_>>>().expect("ids")
    };
    assert_eq!(
        [page(1), page(2), page(3)],
        [vec![5, 4, 3], vec![1], vec![]]
    );
    let data = enclosed(&client.as_user(2).get(LIST));
    let empty = json!({"items": [], "total": 0, "page_num": 1, "page_size": 20});
    assert_eq!(data, empty);
    everything_holds(&service);
}

#[test]
fn legacy_errors_use_the_envelope() {
    let service = Setup::new().start();
    let client = service.client();
    for body in [
        json!({"action_type": "1"}),
        json!({"video_id": 1, "comment_id": 1, "action_type": "1"}),
        json!({"video_id": 1, "action_type": "3"}),
        json!([]),
    ] {
        refused(&client.as_user(1).post(LIKE, body), 400);
    }
    for query in [
        "page_num=0",
        "page_num=x",
        "page_size=101",
        "page_num=1000000",
    ] {
        refused(&client.as_user(1).get(&format!("{LIST}?{query}")), 400);
    }
    refused(&client.get(LIST), 400);
    let wrong = client.get(LIKE);
    refused(&wrong, 405);
    assert_eq!(wrong.header("Allow"), Some("POST"));
    refused(&client.get("/v1/action/other"), 404);
    service.stored_nothing();
}

#[test]
fn legacy_clients_sign_in_like_new_ones() {
    let service = Setup::new().with_sign_in().start();
    let client = service.client();
    let body = json!({"video_id": 7, "action_type": "1"});
    let nobody = client.post(LIKE, &body);
    refused(&nobody, 401);
    assert!(nobody.header("WWW-Authenticate").is_some());
    let liked = enclosed(&client.with_token(&token_of(42)).post(LIKE, &body));
    assert_eq!(liked["user_id"], 42);
}
