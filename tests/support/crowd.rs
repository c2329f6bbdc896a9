//! Users who like and unlike the same videos at random, each from one thread. A diary records the answers, from which
//! the test derives the expected state.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::http::{Accepted, Client};
use super::service::Service;
use super::until_seen;

/// A user and a video.
pub type Pair = (i64, i64);

/// The size of a crowd.
#[derive(Debug, Clone, Copy)]
pub struct Crowd {
    /// The first user's id.
    pub first_user: i64,
    /// Threads, each with a connection.
    pub threads: usize,
    /// Users of each thread.
    pub users: i64,
    /// The number of videos that all of them like and unlike.
    pub videos: i64,
}

/// A crowd at work.
pub struct Running {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<Diary>>,
}

impl Crowd {
    /// The size for most tests.
    pub const USUAL: Self = Self {
        first_user: 1,
        threads: 4,
        users: 10,
        videos: 8,
    };

    /// Starts the crowd. A thread whose request is not answered stops.
    pub fn start(self, service: &Service, seeds: &mut SmallRng) -> Running {
        let stop = Arc::new(AtomicBool::new(false));
        let answered = Arc::new(AtomicUsize::new(0));
        let threads = (0..self.threads)
            .map(|thread| {
                let (stop, answered) = (Arc::clone(&stop), Arc::clone(&answered));
                let client = service.client();
                let rng = SmallRng::from_rng(seeds);
                let first = self.first_user + thread as i64 * self.users;
                std::thread::spawn(move || self.play(first, &client, rng, &stop, &answered))
            })
            .collect();
        Running {
            stop,
            answered,
            threads,
        }
    }

    fn play(
        self,
        first_user: i64,
        client: &Client,
        mut rng: SmallRng,
        stop: &AtomicBool,
        answered: &AtomicUsize,
    ) -> Diary {
        let mut diary = Diary::default();
        while !stop.load(Ordering::Relaxed) {
            let user = first_user + rng.random_range(0..self.users);
            let video = rng.random_range(1..=self.videos);
            let liked = rng.random_bool(0.6);
            let method = if liked { "PUT" } else { "DELETE" };
            let outcome = match client.try_like(method, user, video) {
                Ok(answer) if answer.status == 200 => Outcome::Acknowledged(answer.read()),
                Ok(answer) => Outcome::Refused(answer.problem()),
                Err(error) => Outcome::Unanswered(error),
            };
            let gone = matches!(outcome, Outcome::Unanswered(_));
            diary.write((user, video), liked, outcome);
            answered.fetch_add(1, Ordering::Relaxed);
            if gone {
                break;
            }
        }
        diary
    }
}

impl Running {
    /// Waits until this many more requests have an outcome.
    #[track_caller]
    pub fn wait_for(&self, requests: usize) {
        let from = self.answered.load(Ordering::Relaxed);
        let answered = || self.answered.load(Ordering::Relaxed);
        until_seen("the crowd to go on", answered, |answered| {
            *answered >= from + requests
        });
    }

    /// Waits for the crowd to finish, and returns its diary.
    #[track_caller]
    pub fn stop(self) -> Diary {
        self.stop.store(true, Ordering::Relaxed);
        let mut diary = Diary::default();
        for thread in self.threads {
            diary.extend(thread.join().expect("a client thread"));
        }
        diary
    }
}

/// The outcome of a request.
#[derive(Debug)]
pub enum Outcome {
    /// Answered with 200.
    Acknowledged(Accepted),
    /// Answered with a problem of this code.
    Refused(String),
    /// Not answered, so the outcome is unknown.
    Unanswered(#[expect(dead_code, reason = "shown when a test fails")] String),
}

/// A request for a pair, and its outcome.
#[derive(Debug)]
pub struct Wish {
    /// Whether it was a like.
    pub liked: bool,
    /// The outcome.
    pub outcome: Outcome,
}

impl Wish {
    /// The event's id, if it was acknowledged.
    pub fn event_id(&self) -> Option<&str> {
        match &self.outcome {
            Outcome::Acknowledged(accepted) => Some(&accepted.event_id),
            _ => None,
        }
    }

    /// Whether it was acknowledged, and the cache could not take it.
    pub const fn is_uncached(&self) -> bool {
        matches!(&self.outcome, Outcome::Acknowledged(accepted) if !accepted.cached)
    }
}

/// The requests of every user, in order, with their outcomes.
#[derive(Debug, Default)]
pub struct Diary(BTreeMap<Pair, Vec<Wish>>);

impl Diary {
    /// Adds a request.
    pub fn write(&mut self, pair: Pair, liked: bool, outcome: Outcome) {
        let wishes = self.0.entry(pair).or_default();
        wishes.push(Wish { liked, outcome });
    }

    /// Adds a later diary.
    pub fn extend(&mut self, later: Self) {
        for (pair, wishes) in later.0 {
            self.0.entry(pair).or_default().extend(wishes);
        }
    }

    /// Returns every pair and its requests.
    pub fn pairs(&self) -> impl Iterator<Item = (Pair, &[Wish])> {
        self.0.iter().map(|(pair, wishes)| (*pair, &wishes[..]))
    }

    /// Returns the ids of acknowledged events, in the order of requests of each pair.
    pub fn acknowledged(&self) -> Vec<&str> {
        let wishes = self.0.values().flatten();
        wishes.filter_map(Wish::event_id).collect()
    }

    /// Returns the requests without acknowledgement.
    pub fn not_acknowledged(&self) -> Vec<&Outcome> {
        let wishes = self.0.values().flatten();
        wishes
            .map(|wish| &wish.outcome)
            .filter(|outcome| !matches!(outcome, Outcome::Acknowledged(_)))
            .collect()
    }

    /// Returns the videos of unanswered requests.
    pub fn unanswered_videos(&self) -> BTreeSet<String> {
        let is_unanswered = |wish: &Wish| matches!(wish.outcome, Outcome::Unanswered(_));
        let pairs = self.0.iter();
        pairs
            .filter(|(_, wishes)| wishes.iter().any(is_unanswered))
            .map(|((_, video), _)| format!("video {video}"))
            .collect()
    }

    /// Returns the states that a pair may have: the last acknowledged one, and those of later requests with an unknown
    /// outcome.
    pub fn allowed(wishes: &[Wish]) -> BTreeSet<bool> {
        let mut allowed = BTreeSet::from([false]);
        for wish in wishes {
            match &wish.outcome {
                Outcome::Acknowledged(_) => allowed = BTreeSet::from([wish.liked]),
                Outcome::Unanswered(_) => {
                    allowed.insert(wish.liked);
                }
                // The event may be durable although its answer came too late.
                Outcome::Refused(code) if code == "unavailable" || code == "timed_out" => {
                    allowed.insert(wish.liked);
                }
                Outcome::Refused(_) => {}
            }
        }
        allowed
    }
}
