//! The tools of the tests: a service that tests start, stop and kill, its clients, and plain SQL against its database.

#[macro_use]
pub mod matrix;

pub mod backup;
pub mod certificates;
pub mod checks;
pub mod clock;
pub mod crowd;
pub mod database;
pub mod failover;
pub mod faults;
pub mod forwarder;
pub mod haproxy;
pub mod http;
pub mod interactions;
pub mod logs;
pub mod nginx;
pub mod raw_tcp;
pub mod redis_and_nats;
pub mod redis_cluster;
pub mod schemathesis;
pub mod seed;
pub mod servers;
pub mod service;
pub mod sse;
pub mod terminal;
pub mod tokens;
pub mod webhook_receiver;

use std::fmt::{Arguments, Debug, Display};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::runtime::{Builder, Runtime};

/// The time limit of waits. It exceeds the need of a busy machine by far, so only a failure takes so long.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Calls `look` until it succeeds. A test that waits too long fails with the last error.
#[track_caller]
pub fn until<T, E: Display>(
    what: &str,
    within: Duration,
    mut look: impl FnMut() -> Result<T, E>,
) -> T {
    let started = Instant::now();
    loop {
        match look() {
            Ok(found) => return found,
            Err(seen) if started.elapsed() > within => {
                panic!("waited {within:?} for {what}; last seen: {seen}")
            }
            Err(_) => sleep(Duration::from_millis(10)),
        }
    }
}

/// Calls `look` until its value is right, and returns that value.
#[track_caller]
pub fn until_seen<T: Debug>(
    what: &str,
    mut look: impl FnMut() -> T,
    is_right: impl Fn(&T) -> bool,
) -> T {
    until(what, PATIENCE, || {
        let seen = look();
        if is_right(&seen) {
            Ok(seen)
        } else {
            Err(format!("{seen:?}"))
        }
    })
}

/// Calls `look` until its value equals `expected`.
#[track_caller]
#[allow(clippy::needless_pass_by_value, reason = "calls read better")]
pub fn until_equal<T: Debug + PartialEq>(what: &str, expected: T, look: impl FnMut() -> T) {
    until_seen(what, look, |seen| *seen == expected);
}

/// The runtime of this thread's connections.
pub fn runtime() -> Runtime {
    let runtime = Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime")
}

/// Runs a future to its end on this thread. Its connections must not outlive it.
pub fn wait<T>(work: impl Future<Output = T>) -> T {
    runtime().block_on(work)
}

/// Prints information for the reader of a failed test; `cargo test` hides it otherwise.
#[allow(clippy::print_stdout)]
pub fn say(text: Arguments<'_>) {
    println!("{text}");
}

/// Replaces fields that vary between runs by their names, so that a snapshot can compare the rest.
#[track_caller]
pub fn redacted(mut answer: Value, fields: &[&str]) -> Value {
    for field in fields {
        let value = answer.get_mut(field).expect("the field to redact");
        *value = format!("[{field}]").into();
    }
    answer
}
