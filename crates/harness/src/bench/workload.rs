//! The likes that a benchmark sends: uniform keys, the skew of recorded likes, or one video with all traffic. The same
//! likes in the same order in each round and for each contestant.

use std::fmt::Write;
use std::path::PathBuf;

use clap::ValueEnum;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::failure::BenchError;
use crate::generate;
use crate::interaction::Interaction;
use crate::interactions::Interactions;
use crate::request::{Request, Target};

const SEED: u64 = 7;
const WARM_UP_SEED: u64 = 8;
const UNIFORM_USERS: i64 = 1_000_000;
const UNIFORM_VIDEOS: i64 = 100_000;
/// The uniform users and videos that only likes beside a backlog have.
const BESIDE: i64 = 100_000_000;
const BESIDE_SEED: u64 = 9;
/// The users of a hot video: their numbers are spread over this prime.
const HOT_USERS: i64 = 9_999_991;

/// How likes are spread over users and videos.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Keys {
    /// A million users and 100,000 videos, each as likely
    Uniform,
    /// The likes of --from; without it, generated ones with the skew of a recorded week of a video site
    Skew,
    /// One video with all traffic, each like by another user
    Hot,
}

impl Keys {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Skew => "skew",
            Self::Hot => "hot",
        }
    }
}

/// Whether likes are measured, or precede those that are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    WarmUp,
    Measured,
}

pub(super) struct Workload {
    file: Option<PathBuf>,
    recorded: u64,
    likes: Option<u64>,
}

impl Workload {
    /// The default number of likes of a measurement.
    const LIKES: u64 = 100_000;

    /// Checks the file, if there is one: an invalid line is found before any measurement.
    pub(super) fn new(file: Option<PathBuf>, likes: Option<u64>) -> Result<Self, BenchError> {
        let recorded = file.as_deref().map(Interactions::count).transpose()?;
        Ok(Self {
            file,
            recorded: recorded.unwrap_or_default(),
            likes,
        })
    }

    pub(super) fn source(&self) -> String {
        self.file.as_ref().map_or_else(
            || "generated".to_owned(),
            |path| {
                path.file_name()
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into_owned()
            },
        )
    }

    /// The likes of a measurement: as many as were asked for; without that, the whole file.
    pub(super) fn count(&self, keys: Keys) -> u64 {
        match (keys, &self.file) {
            (Keys::Skew, Some(_)) => self.likes.unwrap_or(u64::MAX).min(self.recorded),
            _ => self.likes.unwrap_or(Self::LIKES),
        }
    }

    /// Returns likes, as many as wanted; a file ends earlier.
    pub(super) fn likes(
        &self,
        keys: Keys,
        phase: Phase,
    ) -> Result<Box<dyn Iterator<Item = Interaction>>, BenchError> {
        let seed = match phase {
            Phase::WarmUp => WARM_UP_SEED,
            Phase::Measured => SEED,
        };
        Ok(match (keys, &self.file, phase) {
            (Keys::Uniform, ..) => Box::new(uniform(seed, 0)),
            (Keys::Hot, ..) => Box::new(hot(phase)),
            (Keys::Skew, Some(path), Phase::Measured) => {
                Box::new(Interactions::open(path)?.map_while(Result::ok))
            }
            (Keys::Skew, ..) => Box::new(generate::likes(seed)),
        })
    }

    /// Returns the measured likes, or this number of likes that precede them.
    pub(super) fn counted(
        &self,
        keys: Keys,
        warm_up: Option<u64>,
    ) -> Result<impl Iterator<Item = Interaction> + use<>, BenchError> {
        let (phase, count) = match warm_up {
            Some(count) => (Phase::WarmUp, count),
            None => (Phase::Measured, self.count(keys)),
        };
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        Ok(self.likes(keys, phase)?.take(count))
    }

    /// The requests of [`counted`](Self::counted).
    pub(super) fn requests<'a>(
        &self,
        target: &'a Target,
        keys: Keys,
        warm_up: Option<u64>,
    ) -> Result<impl Iterator<Item = Request> + use<'a>, BenchError> {
        let likes = self.counted(keys, warm_up)?;
        Ok(likes.map(|like| Request::like(target, like)))
    }

    /// The likes of a measurement and those before it, a line each.
    pub(super) fn sent(&self, keys: Keys, warm_up: u64) -> Result<String, BenchError> {
        let warm_up = self.counted(keys, Some(warm_up))?;
        Ok(lines(warm_up.chain(self.counted(keys, None)?)))
    }
}

/// Likes of one video that are to wait for a worker.
pub(super) fn backlog(count: u64) -> impl Iterator<Item = Interaction> {
    hot(Phase::Measured).take(usize::try_from(count).unwrap_or(usize::MAX))
}

/// Uniform likes beside a backlog, of users and videos that no other likes have, so that no cache knows them.
pub(super) fn beside(count: u64) -> impl Iterator<Item = Interaction> {
    uniform(BESIDE_SEED, BESIDE).take(usize::try_from(count).unwrap_or(usize::MAX))
}

/// Likes as a text, a line each.
pub(super) fn lines(likes: impl Iterator<Item = Interaction>) -> String {
    let mut text = String::new();
    for like in likes {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{},{}", like.user_id, like.video_id);
    }
    text
}

/// Likes of users and videos with ids above `first`.
fn uniform(seed: u64, first: i64) -> impl Iterator<Item = Interaction> {
    let mut random = SmallRng::seed_from_u64(seed);
    std::iter::repeat_with(move || Interaction {
        user_id: first + random.random_range(1..=UNIFORM_USERS),
        video_id: first + random.random_range(1..=UNIFORM_VIDEOS),
    })
}

/// Each like is by another user. Those before the measured ones begin at the other half.
fn hot(phase: Phase) -> impl Iterator<Item = Interaction> {
    let first = match phase {
        Phase::WarmUp => HOT_USERS / 2,
        Phase::Measured => 1,
    };
    (first..HOT_USERS).map(|number| Interaction {
        user_id: 1 + number * 7_919 % HOT_USERS,
        video_id: 1,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn likes_are_the_same_each_time() {
        let workload = Workload::new(None, Some(1_000)).expect("no file");
        for keys in [Keys::Uniform, Keys::Skew, Keys::Hot] {
            let sent = workload.sent(keys, 100).expect("no file");
            assert_eq!(sent.lines().count(), 1_100);
            assert_eq!(sent, workload.sent(keys, 100).expect("no file"));
        }
    }

    #[test]
    fn likes_beside_a_backlog_have_no_known_user_or_video() {
        let workload = Workload::new(None, Some(5_000)).expect("no file");
        let known = workload.counted(Keys::Uniform, None).expect("no file");
        let known: Vec<_> = known.chain(backlog(5_000)).collect();
        let users: BTreeSet<_> = known.iter().map(|like| like.user_id).collect();
        let videos: BTreeSet<_> = known.iter().map(|like| like.video_id).collect();
        let mut likes = beside(5_000);
        assert!(
            likes.all(|like| !users.contains(&like.user_id) && !videos.contains(&like.video_id))
        );
    }

    #[test]
    fn hot_video_has_each_user_once() {
        let workload = Workload::new(None, Some(5_000)).expect("no file");
        let sent = workload.sent(Keys::Hot, 1_000).expect("no file");
        let distinct: BTreeSet<_> = sent.lines().collect();
        assert_eq!(distinct.len(), 6_000);
        assert!(distinct.iter().all(|line| line.ends_with(",1")));
    }
}
