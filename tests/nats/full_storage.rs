//! A full NATS server or stream: likes go to the database, and the log reports the cause once.

use super::{LIKES, Publisher, STREAM};
use crate::support::checks::{ledger_closes, pipeline_drains};
use crate::support::servers::Server;
use crate::support::service::{Service, Setup};
use crate::support::until_seen;

fn broker(service: &Service) -> String {
    service.client().get("/readyz").json()["parts"]["broker"]["state"]
        .as_str()
        .expect("a state")
        .to_owned()
}

/// Sends likes of new users until the publisher has failed this often. Returns the next user.
#[track_caller]
fn fails(service: &Service, times: u64, mut user: i64) -> i64 {
    let client = service.client();
    let errors = || {
        let accepted = client.like(user, 1);
        assert_eq!(accepted.durability, "database", "{accepted:?}");
        user += 1;
        client.actor("event_publisher").errors
    };
    until_seen(
        "publishing or checking to fail some times",
        errors,
        |errors| *errors >= times,
    );
    user
}

#[track_caller]
fn logged(service: &Service, text: &str) {
    service.until_logged(text);
}

#[test]
fn server_with_too_little_storage_is_logged_once() {
    const TEN: &str = "jetstream { max_file_store: 10MB }";
    const MORE: &str = "jetstream { max_file_store: 100MB }";
    let mut nats = Server::nats_with(TEN);
    let service = Setup::new()
        .set("LIKEWISE_NATS_URL", nats.url())
        .set("LIKEWISE_NATS_MAX_BYTES", 50 << 20)
        .start();
    let user = fails(&service, 4, 1);
    let log = service.log();
    let lines: Vec<_> = log
        .lines()
        .filter(|line| line.contains("checking the stream failed"))
        .collect();
    let [line] = lines.as_slice() else {
        panic!("not one line: {lines:#?}");
    };
    assert!(line.contains("insufficient storage resources"), "{line}");
    assert!(
        line.contains("lower LIKEWISE_NATS_MAX_BYTES (now 52428800)"),
        "{line}"
    );
    assert_eq!(broker(&service), "down");

    nats.stop();
    nats.configure(MORE);
    nats.run();
    let client = service.client();
    let mut user = user;
    let like = || {
        user += 1;
        client.like(user, 1)
    };
    until_seen("likes to go through the stream", like, |like| {
        like.durability == "broker"
    });
    logged(&service, "checking the stream succeeds again");
    pipeline_drains(&service);
    service.stop().verify(30).holds();
}

#[test]
fn full_stream_logs_once_and_likes_go_to_the_database() {
    let nats = Server::nats_with("");
    let service = Setup::new()
        .set("LIKEWISE_NATS_URL", nats.url())
        .set("LIKEWISE_NATS_MAX_BYTES", 1 << 20)
        .start();
    assert_eq!(service.client().like(1, 1).durability, "broker");
    let publisher = Publisher::of(&nats);
    let mut filler = 900 << 10;
    while filler > 0 {
        let sent = publisher.runtime.block_on(async {
            let body = vec![b' '; filler];
            let sent = publisher.stream.publish(LIKES, body.into()).await;
            sent.expect("it is sent").await
        });
        if sent.is_err() {
            filler /= 2;
        }
    }
    fails(&service, 4, 2);
    let log = service.log();
    let lines: Vec<_> = log
        .lines()
        .filter(|line| line.contains("publishing events failed"))
        .collect();
    let [line] = lines.as_slice() else {
        panic!("not one line: {lines:#?}");
    };
    assert!(line.contains("maximum bytes exceeded"), "{line}");
    assert!(line.contains("raise LIKEWISE_NATS_MAX_BYTES"), "{line}");

    let purged = publisher.runtime.block_on(async {
        let stream = publisher.stream.get_stream(STREAM).await;
        stream.expect("the stream").purge().await
    });
    assert!(purged.expect("an answer").success);
    let client = service.client();
    until_seen(
        "likes to go through the stream",
        || client.like(1, 2),
        |like| like.durability == "broker",
    );
    logged(&service, "publishing events succeeds again");
    ledger_closes(service.database());
}
