//! Simulates the pipeline: the real rules of the domain between processes that crash, a stream that redelivers and
//! reorders, a database that fails and a cache that is lost. A seed decides each step, so every run can be repeated.
//!
//! `LIKEWISE_SIMULATION_SEED=n` repeats one run and prints each of its steps; `LIKEWISE_SIMULATION_SEEDS=n` sets the
//! number of runs.

mod accepting;
mod cache;
mod caching;
mod database;
mod ending;
mod process;
mod recording;
mod stream;
mod syncing;
mod world;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use rand::RngExt;

use self::world::World;
use crate::support::say;

/// The number of runs in each test.
const SEEDS: u64 = 3_000;

/// The number of a failed run's last steps that are printed.
const LAST_STEPS: usize = 80;

/// An invariant that is broken.
#[derive(Debug)]
pub struct Broken(String);

impl Broken {
    fn new(what: String) -> Self {
        Self(what)
    }
}

/// One run: some hundred random steps, then rest.
fn run(world: &mut World) -> Result<(), Broken> {
    let steps = world.rng.random_range(50..500);
    world.run(steps)?;
    world.come_to_rest()?;
    world.everything_fits()
}

fn given(variable: &str) -> Option<u64> {
    let given = std::env::var(variable).ok()?;
    let number = given.parse();
    Some(number.unwrap_or_else(|error| panic!("{variable}={given}: {error}")))
}

/// Repeats a failed run to print its steps.
fn show(seed: u64, last: usize) -> Result<(), Broken> {
    let mut world = World::new(seed, true);
    let outcome = run(&mut world);
    let trace = world.into_trace();
    for line in &trace[trace.len().saturating_sub(last)..] {
        say(format_args!("{line}"));
    }
    outcome
}

#[test]
fn promises_hold_under_random_schedules() {
    if let Some(seed) = given("LIKEWISE_SIMULATION_SEED") {
        if let Err(Broken(what)) = show(seed, usize::MAX) {
            panic!("seed {seed}: {what}");
        }
        return;
    }
    let seeds = given("LIKEWISE_SIMULATION_SEEDS").unwrap_or(SEEDS);
    let next = AtomicU64::new(0);
    let broken: Mutex<Option<u64>> = Mutex::default();
    let (looked_at, excused) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let found = *broken.lock().unwrap_or_else(PoisonError::into_inner);
                    if seed >= seeds || found.is_some_and(|broken| broken < seed) {
                        break;
                    }
                    let mut world = World::new(seed, false);
                    let outcome = run(&mut world);
                    looked_at.fetch_add(world.looked_at[0], Ordering::Relaxed);
                    excused.fetch_add(world.looked_at[1], Ordering::Relaxed);
                    if outcome.is_err() {
                        let mut broken = broken.lock().unwrap_or_else(PoisonError::into_inner);
                        *broken = Some(broken.map_or(seed, |other| other.min(seed)));
                    }
                }
            });
        }
    });
    if let Some(seed) = broken.into_inner().unwrap_or_else(PoisonError::into_inner) {
        let outcome = show(seed, LAST_STEPS);
        panic!("LIKEWISE_SIMULATION_SEED={seed} repeats it: {outcome:?}");
    } // A world in which every entry is excused proves nothing.
    let (looked_at, excused) = (looked_at.into_inner(), excused.into_inner());
    say(format_args!(
        "answers of the cache: {looked_at} looked at, {excused} excused"
    ));
    assert!(looked_at > 5 * excused, "{looked_at}, {excused}");
}
