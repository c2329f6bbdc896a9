//! Requests with an `Idempotency-Key`: which one is processed, and the answer to repetitions.

use std::time::Duration;

use chrono::{DateTime, Utc};
use likewise::domain::idempotency::KEPT_FOR;
use likewise::domain::{Identity, KeyedRequest, Started, Version};
use likewise::store::StoredResponse;
use uuid::Uuid;

use super::fixture::Bench;

matrix!(&[sqlite, mariadb, postgres]:
    one_attempt_runs_and_its_answer_is_stored_for_a_day,
    expired_request_is_resumed_with_its_events,
    each_request_of_a_batch_has_its_own_answer,
    old_requests_are_deleted,
);

const LEASE: Duration = Duration::from_secs(15);

fn request(id: &str, fingerprint: &str) -> KeyedRequest {
    KeyedRequest {
        id: id.to_owned(),
        caller: "user 1".to_owned(),
        key: format!("key of {id}, 'quoted' \\ \"twice\""),
        fingerprint: fingerprint.to_owned(),
        identity: Identity {
            event_id: Uuid::now_v7(),
            version: Version(17),
            resumed: false,
        },
    }
}

fn begin(bench: &Bench, requests: &[KeyedRequest], now: DateTime<Utc>) -> Vec<Started> {
    bench.ask(|store| store.start_requests(requests, now, now + LEASE))
}

fn begin_one(bench: &Bench, request: &KeyedRequest, now: DateTime<Utc>) -> Started {
    begin(bench, std::slice::from_ref(request), now).remove(0)
}

fn end(bench: &Bench, request: &KeyedRequest, answer: Option<&str>, now: DateTime<Utc>) {
    let ended = [StoredResponse {
        id: request.id.clone(),
        holder: request.identity.event_id,
        answer: answer.map(str::to_owned),
    }];
    bench.ask(|store| store.store_responses(&ended, now));
}

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp_micros(Utc::now().timestamp_micros()).expect("a moment")
}

fn one_attempt_runs_and_its_answer_is_stored_for_a_day(bench: &Bench) {
    let now = now();
    let first = request("a", "f");
    // A transaction may run twice.
    for _ in 0..2 {
        let started = begin_one(bench, &first, now);
        assert_eq!(started, Started::Yours(first.identity));
    }
    let second = request("a", "f");
    assert_eq!(begin_one(bench, &second, now), Started::InProgress);
    assert_eq!(begin_one(bench, &request("a", "g"), now), Started::Reused);
    let answer = r#"{"text":"ä 💙 ' \" \\ \n"}"#;
    end(bench, &first, Some(answer), now);
    let answered = || Started::Answered(answer.to_owned());
    assert_eq!(begin_one(bench, &second, now), answered());
    assert_eq!(begin_one(bench, &second, now + LEASE * 2), answered());
    assert_eq!(begin_one(bench, &request("a", "g"), now), Started::Reused);
    let late = now + KEPT_FOR - Duration::from_micros(1);
    assert_eq!(begin_one(bench, &second, late), answered());
    let other = request("a", "g");
    let day_after = now + KEPT_FOR;
    let started = begin_one(bench, &other, day_after);
    assert_eq!(started, Started::Yours(other.identity));
    assert_eq!(begin_one(bench, &second, day_after), Started::Reused);
    let again = begin_one(bench, &request("a", "g"), day_after);
    assert_eq!(again, Started::InProgress);
}

fn expired_request_is_resumed_with_its_events(bench: &Bench) {
    let now = now();
    let first = request("a", "f");
    begin_one(bench, &first, now);
    let resumed = Identity {
        resumed: true,
        ..first.identity
    };
    let second = request("a", "f");
    let lapsed = now + LEASE;
    assert_eq!(begin_one(bench, &second, lapsed), Started::Yours(resumed));
    // The previous holder can no longer store an answer.
    end(bench, &first, Some("{}"), lapsed);
    let again = begin_one(bench, &request("a", "f"), lapsed);
    assert_eq!(again, Started::InProgress);
    // An attempt without an answer frees the key at once.
    end(bench, &second, None, lapsed);
    let third = request("a", "f");
    assert_eq!(begin_one(bench, &third, lapsed), Started::Yours(resumed));
    end(bench, &third, Some("[]"), lapsed);
    let answered = Started::Answered("[]".to_owned());
    assert_eq!(begin_one(bench, &second, lapsed), answered);
}

fn each_request_of_a_batch_has_its_own_answer(bench: &Bench) {
    let now = now();
    let known = request("c", "f");
    begin_one(bench, &known, now);
    end(bench, &known, Some("known"), now);
    let lapsed = request("d", "f");
    begin_one(bench, &lapsed, now);
    end(bench, &lapsed, None, now);
    let batch = ["zf", "cf", "af", "af", "cg", "df", "df"].map(|it| request(&it[..1], &it[1..]));
    let begun = begin(bench, &batch, now);
    let resumed = Identity {
        resumed: true,
        ..lapsed.identity
    };
    assert_eq!(begun[0], Started::Yours(batch[0].identity));
    assert_eq!(begun[1], Started::Answered("known".to_owned()));
    let of_a: Vec<_> = [2, 3]
        .into_iter()
        .filter(|at| begun[*at] == Started::Yours(batch[*at].identity))
        .collect();
    assert_eq!(of_a.len(), 1, "{begun:?}");
    assert!(begun[2..4].contains(&Started::InProgress));
    assert_eq!(begun[4], Started::Reused);
    assert_eq!(begun[5..], [Started::Yours(resumed), Started::InProgress]);
    assert_eq!(begin(bench, &[], now), []);
}

fn old_requests_are_deleted(bench: &Bench) {
    let now = now();
    let requests: Vec<_> = ["a", "b", "c"].map(|id| request(id, "f")).into();
    begin(bench, &requests, now);
    let fresh = request("d", "f");
    begin_one(bench, &fresh, now + Duration::from_secs(1));
    let before = now + Duration::from_secs(1);
    let prune = || bench.ask(|store| store.prune_requests(before, 2));
    assert_eq!((prune(), prune(), prune()), (2, 1, 0));
    let again = request("d", "f");
    assert_eq!(begin_one(bench, &again, now), Started::InProgress);
}
