//! Measures what a message costs in time of its thread, from the mailbox to the answer: its permit, its batch, its reply, and
//! the counters and percentiles of reports.
//!
//! ```sh
//! cargo run --release -p actor-kit --example message_cost
//! ```
#![allow(clippy::print_stdout, reason = "it prints its figures")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use actor_kit::{
    Actor, BatchActor, BatchLimits, Envelope, Mailbox, Observer, Refused, Registry, Request,
    Starter, StuckAfter, SupervisorPolicy,
};
use tokio::sync::Notify;

const MESSAGES: usize = 1_000_000;

struct Add(u32, u32);

impl Request for Add {
    type Reply = u32;
}

struct Adder;

impl Actor for Adder {
    const NAME: &'static str = "adder";
}

impl BatchActor<Add> for Adder {
    type Item = Envelope<Add>;

    fn limits(&self) -> BatchLimits {
        BatchLimits {
            largest: 1_000,
            lanes: 1,
            spare_lanes: 0,
        }
    }

    async fn run(self: Arc<Self>, batch: Vec<Envelope<Add>>) {
        for envelope in batch {
            let Add(one, other) = envelope.body;
            envelope.reply.send(one + other);
        }
    }
}

struct Silent;

impl Observer for Silent {
    fn panicked(&self, _: &'static str, _: &str) {}
    fn restarted(&self, _: &'static str, _: u64) {}
    fn given_up(&self, _: &'static str, _: usize, _: Duration) {}
}

fn main() -> Result<(), Refused> {
    actix::System::new().block_on(async {
        let stuck_after = StuckAfter {
            no_progress: Duration::from_secs(10),
            blocked_thread: Duration::from_secs(10),
        };
        let starter = Starter {
            registry: Registry::new(stuck_after, Silent),
            policy: SupervisorPolicy {
                wait: |_| Duration::from_secs(1),
                max_restarts: 1,
                window: Duration::from_secs(60),
            },
            capacity: 1_000,
            given_up: Arc::new(Notify::new()),
        };
        let adder = starter.start(|_| Adder);
        println!("| messages at a time | ns a message |");
        println!("|---|---|");
        for at_a_time in [1, 10, 100] {
            let started = Instant::now();
            for _ in 0..MESSAGES / at_a_time {
                send(&adder, at_a_time).await?;
            }
            let each = started.elapsed().as_nanos() / MESSAGES as u128;
            println!("| {at_a_time} | {each} |");
        }
        Ok(())
    })
}

/// Sends messages, and awaits their answers.
async fn send(adder: &Mailbox<Adder>, count: usize) -> Result<(), Refused> {
    let mut answers = Vec::with_capacity(count);
    for _ in 0..count {
        answers.push(adder.reserve(1)?.ask(Add(1, 2)));
    }
    for answer in answers {
        // The actor answers each message.
        let _ = answer.await;
    }
    Ok(())
}
