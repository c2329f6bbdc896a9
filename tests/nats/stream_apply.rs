//! An operator's change of the consumer stays, although JetStream has no conditional write and each process writes the
//! consumer's settings back when it notes a heartbeat.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::Publisher;
use crate::support::redis_and_nats::Stack;
use crate::support::service::{Ran, Setup};
use crate::support::until_equal;

const STREAM: &str = "LIKEWISE";

#[track_caller]
fn apply(setup: &Setup) -> Ran {
    setup.run(&["stream", "apply"])
}

/// The consumer of a stream that `apply` has created, as a client of JetStream's API changes it.
struct Consumer {
    publisher: Publisher,
    name: String,
    /// Its settings with another time to acknowledge.
    older: Value,
}

impl Consumer {
    /// Creates the stream and the consumer with this setup.
    #[track_caller]
    fn create(stack: &Stack, setup: &Setup) -> Self {
        setup.run(&["migrate"]).exits(0);
        apply(setup).exits(0);
        let mut consumer = Self {
            publisher: Publisher::of(&stack.nats),
            name: setup.consumer(),
            older: Value::Null,
        };
        consumer.older = consumer.settings();
        consumer.older["ack_wait"] = json!(7_000_000_000_i64);
        consumer
    }

    #[track_caller]
    fn ask(&self, path: String, request: &Value) -> Value {
        let answer = self.publisher.runtime.block_on(async {
            let asked: Result<Value, _> = self.publisher.stream.request(path, request).await;
            asked.expect("an answer")
        });
        assert_eq!(answer.get("error"), None, "{answer:#}");
        answer
    }

    #[track_caller]
    fn settings(&self) -> Value {
        let path = format!("CONSUMER.INFO.{STREAM}.{}", self.name);
        self.ask(path, &json!({}))["config"].clone()
    }

    fn ack_wait(&self) -> Value {
        self.settings()["ack_wait"].clone()
    }

    /// Writes the older settings, as a heartbeat does that has read them.
    #[track_caller]
    fn write_older(&self) {
        let path = format!("CONSUMER.CREATE.{STREAM}.{}", self.name);
        let request = json!({"stream_name": STREAM, "config": self.older, "action": "update"});
        self.ask(path, &request);
    }
}

#[test]
fn apply_repeats_a_change_that_a_heartbeat_undoes() {
    let stack = Stack::start();
    let setup = stack.setup();
    let consumer = Consumer::create(&stack, &setup);
    let configured = consumer.ack_wait();
    loop {
        consumer.write_older();
        let (applied, undone_after) = std::thread::scope(|scope| {
            let applying = scope.spawn(|| apply(&setup));
            let mut unchanged_at = Instant::now();
            let look = || {
                let now = Instant::now();
                let ack_wait = consumer.ack_wait();
                if ack_wait != configured {
                    unchanged_at = now;
                }
                ack_wait
            };
            until_equal("the change", configured.clone(), look);
            consumer.write_older();
            let undone_after = unchanged_at.elapsed();
            (applying.join().expect("it ends"), undone_after)
        });
        // On a busy machine, the command may have read its change back before.
        if undone_after < Duration::from_secs(2) {
            applied
                .exits(0)
                .prints("consumer ack_wait_seconds: 7 -> 30");
            assert_eq!(consumer.ack_wait(), configured);
            return;
        }
    }
}

#[test]
fn apply_fails_while_another_client_undoes_its_changes() {
    let stack = Stack::start();
    let setup = stack.setup();
    let consumer = Consumer::create(&stack, &setup);
    consumer.write_older();
    let applied = std::thread::scope(|scope| {
        let applying = scope.spawn(|| apply(&setup));
        while !applying.is_finished() {
            consumer.write_older();
            std::thread::sleep(Duration::from_millis(20));
        }
        applying.join().expect("it ends")
    });
    assert_ne!(applied.code, Some(0), "{applied:?}");
    applied.reports("does not keep its settings: consumer ack_wait_seconds is 7, configured is 30");
}
