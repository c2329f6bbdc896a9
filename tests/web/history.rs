//! `/admin/history`: what the deployment did, which survives restarts.

use serde_json::Value;

use crate::support::checks::pipeline_drains;
use crate::support::http::Client;
use crate::support::service::Setup;
use crate::support::until_seen;

matrix!([embedded, mariadb_stack, postgres]: history_survives_a_restart);

fn points(client: &Client) -> Vec<Value> {
    let history = client.get("/admin/history").ok();
    history["points"].as_array().expect("points").clone()
}

/// The number of likes that these points show, by a rate of theirs.
fn sum(points: &[Value], rate: &str) -> f64 {
    let rates = points.iter().filter_map(|point| point[rate].as_f64());
    (rates.sum::<f64>() * 10.0).round()
}

fn history_survives_a_restart(setup: Setup) {
    const LIKES: i64 = 20;
    let service = setup.start();
    let client = service.client();
    for user in 1..=LIKES {
        client.like(user, 1);
    }
    pipeline_drains(&service);
    let is_complete = |points: &Vec<Value>| {
        // An interval lasts a little more or less than ten seconds.
        sum(points, "accepted_per_second") >= 18.0
            && sum(points, "completed_per_second") >= 18.0
            && points
                .iter()
                .any(|point| point["ledger"]["completed"] == LIKES)
    };
    let seen = until_seen("the likes in the history", || points(&client), is_complete);
    assert!((359..=360).contains(&seen.len()), "{}", seen.len());
    let with_likes = seen
        .iter()
        .find(|point| point["accepted_to_completed_ms"].is_object())
        .expect("a point with likes");
    let times = &with_likes["accepted_to_completed_ms"];
    assert!(times["p50"].as_f64() > Some(0.0), "{times}");
    assert!(times["p99"].as_f64() >= times["p50"].as_f64(), "{times}");
    assert_eq!(with_likes["processes"], 1, "{with_likes}");
    // Before the start there is nothing, and that is no zero.
    assert_eq!(seen[0]["accepted_per_second"], Value::Null, "{}", seen[0]);
    let counted = seen
        .iter()
        .rfind(|point| point["ledger"].is_object())
        .expect("a counted ledger");
    assert_eq!(counted["ledger"]["failed"], 0, "{counted}");
    assert_eq!(counted["oldest_open_seconds"], 0.0, "{counted}");
    let has_broker = service.setup().has_broker();
    assert_eq!(counted["consumer_lag"].as_u64(), has_broker.then_some(0));

    // What is in one interval is not in the next.
    let later = until_seen(
        "a later interval",
        || points(&client),
        |points| {
            let recorded = points.iter().rfind(|point| point["processes"] == 1);
            recorded.is_some_and(|point| point["at"].as_str() > counted["at"].as_str())
        },
    );
    let all = sum(&later, "accepted_per_second");
    assert!((18.0..=22.0).contains(&all), "{all}");

    let service = service.stop().start();
    let again = points(&service.client());
    assert!(is_complete(&again), "{again:?}");
}

#[test]
fn history_has_the_requested_steps() {
    let service = Setup::new().start();
    let client = service.client();
    let hour = client.get("/admin/history?step=60").ok();
    assert_eq!(hour["step_seconds"], 60, "{hour}");
    let number = hour["points"].as_array().map(Vec::len);
    assert!((60..=61).contains(&number.expect("points")), "{number:?}");
    let seconds = |at: &Value| {
        let at = at.as_str().expect("a time");
        chrono::DateTime::parse_from_rfc3339(at)
            .expect("a time")
            .timestamp()
    };
    let ats: Vec<_> = hour["points"]
        .as_array()
        .expect("points")
        .iter()
        .map(|point| seconds(&point["at"]))
        .collect();
    assert!(ats.windows(2).all(|two| two[1] - two[0] == 60), "{ats:?}");
    assert_eq!(ats[0], seconds(&hour["since"]));
    let now = chrono::Utc::now();
    let since = |hours| (now - chrono::TimeDelta::hours(hours)).format("%Y-%m-%dT%H:%M:%SZ");
    let day = client
        .get(&format!("/admin/history?since={}", since(23)))
        .ok();
    assert_eq!(day["step_seconds"], 230, "{}", day["step_seconds"]);
    for bad in [
        format!("since={}", since(25)),
        format!("since={}", since(-1)),
        "since=yesterday".to_owned(),
        "step=0".to_owned(),
        "step=15".to_owned(),
        "step=3610".to_owned(),
        format!("since={}&step=10", since(23)),
    ] {
        let answer = client.get(&format!("/admin/history?{bad}"));
        answer.is_problem(400, "invalid_parameter");
    }
}
