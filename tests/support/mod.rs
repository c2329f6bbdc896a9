//! What the tests stand on: a service that is started, stopped, killed and started again, its clients,
//! and plain SQL against its database.

#[macro_use]
pub mod matrix;

pub mod checks;
pub mod clock;
pub mod crowd;
pub mod database;
pub mod failover;
pub mod forwarder;
pub mod gateway;
pub mod haproxy;
pub mod http;
pub mod interactions;
pub mod raw;
pub mod schemathesis;
pub mod seed;
pub mod servers;
pub mod service;
pub mod stack;
pub mod tokens;

use std::fmt::{Arguments, Display};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::runtime::{Builder, Runtime};

/// How long a test waits for what should take a moment. Far more than a busy machine needs: only a failure
/// waits so long.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Looks until it finds what it looks for; a test that waits in vain fails with what it saw last.
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
                panic!("waited {within:?} for {what} in vain; last seen: {seen}")
            }
            Err(_) => sleep(Duration::from_millis(10)),
        }
    }
}

/// What connections of this thread's own live on.
pub fn runtime() -> Runtime {
    let runtime = Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime")
}

/// Runs something to its end on this thread; no connection that it makes outlives it.
pub fn wait<T>(work: impl Future<Output = T>) -> T {
    runtime().block_on(work)
}

/// Says something that whoever reads a failed test needs to know; `cargo test` hides it otherwise.
#[allow(clippy::print_stdout)]
pub fn say(text: Arguments<'_>) {
    println!("{text}");
}

/// Replaces fields that differ from run to run by their names, so that the rest can be compared as a snapshot.
#[track_caller]
pub fn redacted(mut answer: Value, fields: &[&str]) -> Value {
    for field in fields {
        let value = answer.get_mut(field).expect("the field to redact");
        *value = format!("[{field}]").into();
    }
    answer
}
