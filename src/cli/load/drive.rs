//! Drives a load: hands requests from one shared source to a fixed number of connections and adds up what
//! becomes of them. `load` calls it with the lines of a file, the benchmarks with requests of their own.

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

use super::client::{Client, Failure, Outcome};
use super::request::{Request, Target};
use super::schedule::Schedule;
use super::summary::Summary;

/// Likes that a connection remembers for its unlikes; beyond that, a new one takes the place of an old one.
const REMEMBERED_LIKES: usize = 1_024;
/// How long a connection waits after a failed attempt to connect: twice as long each time, between these. A
/// server that is down thus costs neither a busy loop nor the whole load within a moment.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);
/// The runtime's timer wakes up to this much late.
const TIMER_STEP: Duration = Duration::from_millis(1);

/// Sees every request with its outcome and the body of its answer, in the order in which they end.
pub trait Observer {
    /// Called before the connection takes its next request, so it must not block.
    fn answered(&self, request: &Request, outcome: &Outcome, body: &[u8]);
}

/// How a load is driven.
#[derive(Clone)]
pub struct Options<'a> {
    /// The server.
    pub target: Target,
    /// Connections, each with one request in flight.
    pub concurrency: u16,
    /// Requests a second, likes and unlikes together, on a fixed schedule; without it, as fast as they are
    /// answered.
    pub rate: Option<NonZeroU32>,
    /// Chance of an unlike after an accepted like, 0 to 1. It takes back a like that the same connection has
    /// seen accepted, and comes on top of the requests given.
    pub unlike_ratio: f64,
    /// Seed of the draws for unlikes.
    pub seed: u64,
    /// Time until a request without a whole answer has failed, connecting included.
    pub timeout: Duration,
    /// Whether the requests of one user and video are sent one after another.
    pub in_order: bool,
    /// Told of every outcome.
    pub observer: Option<&'a dyn Observer>,
    /// No request is sent after this turns true; those in flight are awaited.
    pub stop: Option<watch::Receiver<bool>>,
}

impl Options<'_> {
    /// As fast as it goes, without unlikes, ten seconds for an answer.
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

/// Sends the requests and returns when each has an outcome. No more than `concurrency` are in flight, and none
/// is taken from `requests` before a connection is free for it.
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

/// What the connections of one load share. They run on one task, so a borrow never meets another as long as
/// none is held across an await.
struct Load<'a, R> {
    requests: RefCell<R>,
    schedule: Option<RefCell<Schedule>>,
    summary: RefCell<Summary>,
    /// The users and videos that a request is in flight for, if they are kept in order.
    busy: RefCell<HashSet<(i64, i64)>>,
    freed: Notify,
    options: &'a Options<'a>,
}

impl<R: Iterator<Item = Request>> Load<'_, R> {
    /// One connection's share: takes requests until there are no more.
    async fn work(&self, mut client: Client<'_>, mut random: SmallRng) {
        let unlike_ratio = self.options.unlike_ratio;
        let mut liked = LikedEarlier::default();
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

    /// Sends a request when it is due; `None` if the load was stopped before.
    async fn perform(&self, client: &mut Client<'_>, request: &Request) -> Option<Outcome> {
        let _turn = self.turn(request).await;
        let due = self.wait_until_due().await?;
        let outcome = client.send(request).await;
        self.summary
            .borrow_mut()
            .add(request, &outcome, due.elapsed());
        if let Some(observer) = self.options.observer {
            observer.answered(request, &outcome, client.body());
        }
        Some(outcome)
    }

    /// Waits until no other connection sends for the same user and video, if that is asked for.
    async fn turn(&self, request: &Request) -> Option<Turn<'_>> {
        if !self.options.in_order {
            return None;
        }
        let pair = (request.user_id, request.video_id?);
        while !self.busy.borrow_mut().insert(pair) {
            self.freed.notified().await;
        }
        Some(Turn {
            pair,
            busy: &self.busy,
            freed: &self.freed,
        })
    }

    /// Waits for the request's slot and returns the moment from which its latency counts.
    async fn wait_until_due(&self) -> Option<Instant> {
        let now = Instant::now();
        let Some(schedule) = &self.schedule else {
            return (!self.is_stopped()).then_some(now);
        };
        let due = schedule.borrow_mut().next_due();
        if due <= now {
            return (!self.is_stopped()).then_some(due);
        }
        // The timer rounds up to its step. Aiming one step early keeps that out of the latency; a request that
        // does go out before its slot is measured from when it went.
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
        // Nobody is left who could stop it.
        std::future::pending::<()>().await;
    }
}

/// A user's and video's turn, until it is dropped.
struct Turn<'a> {
    pair: (i64, i64),
    busy: &'a RefCell<HashSet<(i64, i64)>>,
    freed: &'a Notify,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.busy.borrow_mut().remove(&self.pair);
        self.freed.notify_waiters();
    }
}

/// The accepted likes that a connection can take back, a bounded number of them.
#[derive(Default)]
struct LikedEarlier {
    likes: Vec<Request>,
}

impl LikedEarlier {
    fn remember(&mut self, like: Request, random: &mut SmallRng) {
        if self.likes.len() < REMEMBERED_LIKES {
            self.likes.push(like);
        } else {
            self.likes[random.random_range(0..REMEMBERED_LIKES)] = like;
        }
    }

    /// Takes one out, so that no like is taken back twice.
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
    use super::super::interaction::Interaction;
    use super::*;

    fn like(user_id: i64) -> Request {
        let target: Target = "http://localhost".parse().expect("valid");
        let interaction = Interaction {
            user_id,
            video_id: 7,
        };
        Request::like(&target, interaction)
    }

    #[test]
    fn a_like_is_taken_back_at_most_once() {
        let mut random = SmallRng::seed_from_u64(1);
        let mut liked = LikedEarlier::default();
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
    fn the_memory_for_likes_is_bounded_and_keeps_the_latest() {
        let mut random = SmallRng::seed_from_u64(1);
        let mut liked = LikedEarlier::default();
        let last = 5 * REMEMBERED_LIKES as i64;
        for user_id in 1..=last {
            liked.remember(like(user_id), &mut random);
        }
        assert_eq!(liked.likes.len(), REMEMBERED_LIKES);
        assert!(liked.likes.iter().any(|like| like.user_id == last));
    }
}
