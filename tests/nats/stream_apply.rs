//! An operator's change of the consumer stays, although JetStream has no conditional write and each process writes the
//! consumer's settings back when it notes a heartbeat.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Publisher, apply};
use crate::support::redis_and_nats::Stack;
use crate::support::service::Setup;
use crate::support::{PATIENCE, until, until_equal};

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
        apply(setup, &[]).exits(0);
        let publisher = Publisher::of(&stack.nats);
        let name = setup.consumer();
        let mut older = publisher.consumer_settings(&name);
        older["ack_wait"] = json!(7_000_000_000_i64);
        Self {
            publisher,
            name,
            older,
        }
    }

    #[track_caller]
    fn ack_wait(&self) -> Value {
        self.publisher.consumer_settings(&self.name)["ack_wait"].clone()
    }

    /// Writes the older settings, as a heartbeat does that has read them.
    #[track_caller]
    fn write_older(&self) {
        self.publisher.write_consumer(&self.name, &self.older);
    }
}

#[test]
fn apply_repeats_a_change_that_a_heartbeat_undoes() {
    let stack = Stack::start();
    let setup = stack.setup();
    let consumer = Consumer::create(&stack, &setup);
    let configured = consumer.ack_wait();
    let applied = until("the test to undo a change in time", PATIENCE, || {
        consumer.write_older();
        let (applied, undone_after) = std::thread::scope(|scope| {
            let mut unchanged_at = Instant::now();
            let applying = scope.spawn(|| apply(&setup, &[]));
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
        // On a busy machine, the command may have read its change back before the test undid it.
        if undone_after < Duration::from_secs(2) {
            Ok(applied)
        } else {
            Err(format!("undone after {undone_after:?}"))
        }
    });
    applied
        .exits(0)
        .prints("consumer ack_wait_seconds: 7 -> 30");
    assert_eq!(consumer.ack_wait(), configured);
}

#[test]
fn apply_fails_while_another_client_undoes_its_changes() {
    let stack = Stack::start();
    let setup = stack.setup();
    let consumer = Consumer::create(&stack, &setup);
    let applied = until("each change to be undone in time", PATIENCE, || {
        consumer.write_older();
        let applied = std::thread::scope(|scope| {
            let applying = scope.spawn(|| apply(&setup, &[]));
            while !applying.is_finished() {
                consumer.write_older();
                std::thread::sleep(Duration::from_millis(20));
            }
            applying.join().expect("it ends")
        });
        // On a busy machine, the command may have read its change back before the test undid it.
        match applied.code {
            Some(0) => Err(format!("{applied:?}")),
            _ => Ok(applied),
        }
    });
    applied
        .exits(1)
        .reports("does not keep its settings: consumer ack_wait_seconds is 7, configured is 30");
}
