//! The recommended permissions on a real server: Likewise can work, and a foreign publisher cannot publish acknowledged
//! events.

use std::time::Duration;

use async_nats::jetstream;

use super::{ACCEPTED, LIKES, event};
use crate::support::servers::Server;
use crate::support::service::Setup;
use crate::support::{runtime, until_equal};

const RECOMMENDED: &str = include_str!("../../docs/nats-permissions.conf");

/// The recommended configuration, with passwords in place of the variables.
fn server() -> Server {
    let config = RECOMMENDED
        .replace("$LIKEWISE_NATS_PASSWORD", "\"ours\"")
        .replace("$FEED_NATS_PASSWORD", "\"theirs\"");
    Server::nats_with(&config)
}

#[test]
fn foreign_publishers_cannot_use_accepted_subjects() {
    let nats = server();
    let setup = Setup::new().set("LIKEWISE_NATS_URL", nats.url_for("likewise", "ours"));
    let service = setup.start();
    assert_eq!(service.client().like(1, 1).durability, "broker");
    let feed = runtime();
    let (said, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let options =
        async_nats::ConnectOptions::with_user_and_password("feed".into(), "theirs".into())
            .event_callback(move |event| {
                let said = said.clone();
                async move { drop(said.send(event.to_string())) }
            });
    feed.block_on(async {
        let client = options.connect(nats.url()).await.expect("a connection");
        let stream = jetstream::new(client.clone());
        let publish = async |subject: &str, user: i64| {
            let body = event(user, 1, "like", "2026-01-02T12:00:00Z").to_string();
            let sent = stream.publish(subject.to_owned(), body.into()).await;
            sent.expect("it is sent")
        };
        publish(LIKES, 2).await.await.expect("an acknowledgement");
        for subject in [
            ACCEPTED,
            "$JS.API.STREAM.DELETE.LIKEWISE",
            "$JS.API.STREAM.UPDATE.LIKEWISE",
        ] {
            // The request would fail only at its time-out; the server reports the refusal at once.
            drop(publish(subject, 3).await);
            client.flush().await.expect("the server has it");
            let refused = async {
                while let Some(event) = heard.recv().await {
                    if event.to_lowercase().contains("permissions violation") {
                        return event;
                    }
                }
                String::new()
            };
            let refused = tokio::time::timeout(Duration::from_secs(30), refused).await;
            let refused = refused.expect("a refusal");
            assert!(refused.contains(subject), "{refused}");
        }
    });
    let database = service.database();
    let expected = [
        vec![1.into(), "likewise-api".into()],
        vec![2.into(), "feed".into()],
    ];
    until_equal("the foreign like to be recorded", expected.to_vec(), || {
        database.rows("SELECT user_id, source FROM user_behaviors ORDER BY user_id")
    });
    for arguments in [["stream", "show"], ["stream", "apply"]] {
        let ran = service.setup().run(&arguments);
        ran.exits(0).prints("every setting is as configured");
    }
    service.stop().verify(30).holds();
}
