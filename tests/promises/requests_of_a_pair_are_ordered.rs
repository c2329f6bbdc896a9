//! Promise 2, for one pair: requests for one pair have an order, and each is one behavior.

use std::sync::Barrier;

use rand::RngExt;

use crate::support::checks::{everything_holds, pipeline_drains, stored_once};
use crate::support::http::{Accepted, Answer};
use crate::support::seed;
use crate::support::service::Setup;

const THREADS: usize = 8;
const ROUNDS: usize = 60;

matrix!([embedded, mariadb_stack]: concurrent_requests_of_a_pair_are_one_behavior_each);

/// Concurrent likes and unlikes of one pair, round after round, are one behavior each.
fn concurrent_requests_of_a_pair_are_one_behavior_each(setup: Setup) {
    let mut rng = seed::rng("in order");
    let service = setup.start();
    let start = Barrier::new(THREADS);
    let requests: Vec<Vec<bool>> = (0..THREADS)
        .map(|_| (0..ROUNDS).map(|_| rng.random_bool(0.5)).collect())
        .collect();
    let answers: Vec<Result<Answer, String>> = std::thread::scope(|scope| {
        let threads: Vec<_> = requests
            .iter()
            .map(|liked| {
                let (client, start) = (service.client(), &start);
                scope.spawn(move || {
                    // A thread that panics here would leave the others at the barrier.
                    let send = |liked: &bool| {
                        start.wait();
                        let method = if *liked { "PUT" } else { "DELETE" };
                        client.try_like(method, 1, 1)
                    };
                    liked.iter().map(send).collect::<Vec<_>>()
                })
            })
            .collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().expect("a client thread"))
            .collect()
    });
    let event = |answer: &Result<Answer, String>| {
        let answer = answer.as_ref().expect("an answer");
        let accepted: Accepted = answer.has_status(200).read();
        accepted.event_id
    };
    let events: Vec<String> = answers.iter().map(event).collect();
    everything_holds(&service);
    pipeline_drains(&service);
    stored_once(service.database(), events.iter().map(String::as_str));
    let behaviors = service.database().count("user_behaviors");
    assert_eq!(behaviors as usize, THREADS * ROUNDS);
}
