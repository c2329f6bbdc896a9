//! Sends requests from one iterator over a fixed number of connections, and counts their outcomes. `load` calls
//! [`drive`] with the lines of a file, the benchmark with requests of its own. It runs on the caller's task.

use std::cell::RefCell;
use std::collections::HashSet;
use std::num::NonZeroU32;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use hyper::Method;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, sleep_until};

use crate::client::{Client, Failure, Outcome};
use crate::request::{Request, Target};
use crate::schedule::Schedule;
use crate::summary::Summary;

/// The number of likes that a connection keeps for later unlikes. Beyond it, a new one replaces an old one.
const REMEMBERED_LIKES: usize = 1_024;
/// The pause after a failed attempt to connect. It doubles with each attempt, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);
/// The runtime's timer wakes up to this much late.
const TIMER_STEP: Duration = Duration::from_millis(1);

/// Receives every request with its outcome and the body of its answer, in the order of the outcomes.
pub trait Observer {
    /// Called before the connection takes its next request. It must not block.
    fn answered(&self, request: &Request, outcome: &Outcome, body: &[u8]);
}

/// How a load is driven.
#[derive(Clone)]
pub struct Options<'a> {
    /// The server.
    pub target: Target,
    /// Connections, each with one request in flight.
    pub concurrency: u16,
    /// Requests a second on a fixed schedule, likes and unlikes together. `None` sends each request as soon
    /// as a connection is free.
    pub rate: Option<NonZeroU32>,
    /// Probability of an unlike after an accepted like, 0 to 1. It reverts a like that was accepted on the same
    /// connection. Unlikes are sent in addition to the requests given.
    pub unlike_ratio: f64,
    /// Seed of the random draws for unlikes.
    pub seed: u64,
    /// The time limit for each request's whole answer, connecting included.
    pub timeout: Duration,
    /// Whether the requests of one user and video are sent one after another.
    pub in_order: bool,
    /// Receives every outcome.
    pub observer: Option<&'a dyn Observer>,
    /// Once true, no further request is sent. Requests in flight are awaited.
    pub stop: Option<watch::Receiver<bool>>,
}

impl Options<'_> {
    /// No rate, no unlikes, a timeout of ten seconds.
    #[must_use]
    pub fn new(target: Target, concurrency: u16) -> Self {
        Self {
            target,
            concurrency,
            rate: None,
            unlike_ratio: 0.0,
            seed: 0,
            timeout: Duration::from_secs(10),
            in_order: false,
            observer: None,
            stop: None,
        }
    }
}

/// Sends the requests and returns when each has an outcome. At most `concurrency` are in flight. A request is
/// taken from `requests` only when a connection is free.
pub async fn drive(requests: impl IntoIterator<Item = Request>, options: Options<'_>) -> Summary {
    let opening = (0..options.concurrency).map(|_| Client::open(&options.target, options.timeout));
    let clients = join_all(opening).await;

    let start = Instant::now();
    let load = Load {
        requests: RefCell::new(requests.into_iter()),
        schedule: options
            .rate
            .map(|rate| RefCell::new(Schedule::new(start, rate))),
        summary: RefCell::new(Summary::new()),
        busy: RefCell::default(),
        freed: Notify::new(),
        options: &options,
    };
    let mut seeds = SmallRng::seed_from_u64(options.seed);
    let mut connections: FuturesUnordered<_> = clients
        .into_iter()
        .map(|client| load.work(client, SmallRng::from_rng(&mut seeds)))
        .collect();
    while connections.next().await.is_some() {}
    drop(connections);

    let mut summary = load.summary.into_inner();
    summary.elapsed = start.elapsed();
    summary.interrupted = options.stop.is_some_and(|stop| *stop.borrow());
    summary
}

/// State shared by the connections of one load. They run on one task, so that borrows cannot conflict unless one
/// is held across an await.
struct Load<'a, R> {
    requests: RefCell<R>,
    schedule: Option<RefCell<Schedule>>,
    summary: RefCell<Summary>,
    /// The pairs of user and video with a request in flight, if `in_order` is set.
    busy: RefCell<HashSet<(i64, i64)>>,
    freed: Notify,
    options: &'a Options<'a>,
}

impl<R: Iterator<Item = Request>> Load<'_, R> {
    /// Sends requests on one connection until there are none left.
    async fn work(&self, mut client: Client<'_>, mut random: SmallRng) {
        let unlike_ratio = self.options.unlike_ratio;
        let mut liked = AcceptedLikes::default();
        let mut pause = FIRST_PAUSE;
        while let Some(request) = self.take() {
            let Some(outcome) = self.perform(&mut client, &request).await else {
                return;
            };
            match outcome {
                Ok(_) if unlike_ratio > 0.0 && request.method == Method::PUT => {
                    liked.remember(request, &mut random);
                    if random.random_bool(unlike_ratio)
                        && let Some(like) = liked.draw(&mut random)
                        && self
                            .perform(&mut client, &like.into_unlike())
                            .await
                            .is_none()
                    {
                        return;
                    }
                }
                Err(Failure::Connect(_)) => {
                    tokio::select! {
                        () = sleep(pause) => pause = LONGEST_PAUSE.min(pause * 2),
                        () = self.stopped() => return,
                    }
                    continue;
                }
                _ => {}
            }
            pause = FIRST_PAUSE;
        }
    }

    fn take(&self) -> Option<Request> {
        if self.is_stopped() {
            return None;
        }
        self.requests.borrow_mut().next()
    }

    /// Sends a request when it is due; `None` if the load was stopped first.
    async fn perform(&self, client: &mut Client<'_>, request: &Request) -> Option<Outcome> {
        let _lock = self.lock_pair(request).await;
        let due = self.wait_until_due().await?;
        let outcome = client.send(request).await;
        self.summary
            .borrow_mut()
            .add(request, &outcome, client.body(), due.elapsed());
        if let Some(observer) = self.options.observer {
            observer.answered(request, &outcome, client.body());
        }
        Some(outcome)
    }

    /// Waits until no other connection has a request of the same pair in flight, if `in_order` is set.
    async fn lock_pair(&self, request: &Request) -> Option<PairLock<'_>> {
        if !self.options.in_order {
            return None;
        }
        let pair = (request.user_id, request.video_id?);
        while !self.busy.borrow_mut().insert(pair) {
            self.freed.notified().await;
        }
        Some(PairLock {
            pair,
            busy: &self.busy,
            freed: &self.freed,
        })
    }

    /// Waits for the request's slot and returns the time from which its latency is measured.
    async fn wait_until_due(&self) -> Option<Instant> {
        let now = Instant::now();
        let Some(schedule) = &self.schedule else {
            return (!self.is_stopped()).then_some(now);
        };
        let due = schedule.borrow_mut().next_due();
        if due <= now {
            return (!self.is_stopped()).then_some(due);
        }
        // The timer rounds up to its step. Waking one step early excludes that from the latency. A request sent
        // before its slot is measured from when it was sent.
        tokio::select! {
            () = sleep_until(due - TIMER_STEP) => Some(due.min(Instant::now())),
            () = self.stopped() => None,
        }
    }

    fn is_stopped(&self) -> bool {
        self.options
            .stop
            .as_ref()
            .is_some_and(|stop| *stop.borrow())
    }

    async fn stopped(&self) {
        if let Some(mut stop) = self.options.stop.clone()
            && stop.wait_for(|stopped| *stopped).await.is_ok()
        {
            return;
        }
        // The sender is dropped, so nothing can stop the load.
        std::future::pending::<()>().await;
    }
}

/// Exclusive use of a pair of user and video, until it is dropped.
struct PairLock<'a> {
    pair: (i64, i64),
    busy: &'a RefCell<HashSet<(i64, i64)>>,
    freed: &'a Notify,
}

impl Drop for PairLock<'_> {
    fn drop(&mut self) {
        self.busy.borrow_mut().remove(&self.pair);
        self.freed.notify_waiters();
    }
}

/// A bounded number of accepted likes that a connection can revert.
#[derive(Default)]
struct AcceptedLikes {
    likes: Vec<Request>,
}

impl AcceptedLikes {
    fn remember(&mut self, like: Request, random: &mut SmallRng) {
        if self.likes.len() < REMEMBERED_LIKES {
            self.likes.push(like);
        } else {
            self.likes[random.random_range(0..REMEMBERED_LIKES)] = like;
        }
    }

    /// Removes one at random, so that no like is reverted twice.
    fn draw(&mut self, random: &mut SmallRng) -> Option<Request> {
        if self.likes.is_empty() {
            return None;
        }
        Some(
            self.likes
                .swap_remove(random.random_range(0..self.likes.len())),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interaction::Interaction;

    fn like(user_id: i64) -> Request {
        let target: Target = "http://localhost".parse().expect("valid");
        let interaction = Interaction {
            user_id,
            video_id: 7,
        };
        Request::like(&target, interaction)
    }

    #[test]
    fn each_like_is_reverted_at_most_once() {
        let mut random = SmallRng::seed_from_u64(1);
        let mut liked = AcceptedLikes::default();
        for user_id in 1..=100 {
            liked.remember(like(user_id), &mut random);
        }
        let mut drawn: Vec<_> = std::iter::from_fn(|| liked.draw(&mut random))
            .map(|like| like.user_id)
            .collect();
        drawn.sort_unstable();
        assert_eq!(drawn, (1..=100).collect::<Vec<_>>());
    }

    #[test]
    fn accepted_likes_are_bounded_and_keep_the_latest() {
        let mut random = SmallRng::seed_from_u64(1);
        let mut liked = AcceptedLikes::default();
        let last = 5 * REMEMBERED_LIKES as i64;
        for user_id in 1..=last {
            liked.remember(like(user_id), &mut random);
        }
        assert_eq!(liked.likes.len(), REMEMBERED_LIKES);
        assert!(liked.likes.iter().any(|like| like.user_id == last));
    }
}
