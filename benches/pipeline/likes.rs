//! The likes that are sent: recorded ones, or generated ones as skewed as those are.

use std::path::PathBuf;

use likewise::cli::load::{Interaction, Interactions, Request, Target};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::failure::Failure;

const GENERATED: u64 = 200_000;
const SEED: u64 = 7;
const WARM_UP_SEED: u64 = 8;

const USERS: f64 = 30_000.0;
const VIDEOS: f64 = 40_000.0;
/// How much is liked by how few: the most liked `n` of all get `(n / all) ^ (1 / skew)` of the likes, and so
/// with users. Close to a recorded week of a video site, where a thousandth of the videos got a tenth of them.
const USER_SKEW: f64 = 2.0;
const VIDEO_SKEW: f64 = 2.5;

pub(crate) struct Likes {
    file: Option<PathBuf>,
    count: u64,
}

impl Likes {
    /// The likes of a file, or generated ones; at most `limit` of them.
    pub(crate) fn new(file: Option<PathBuf>, limit: Option<u64>) -> Result<Self, Failure> {
        let count = match &file {
            // A bad line is found here, and not in the middle of a measurement.
            Some(path) => Interactions::count(path)?.min(limit.unwrap_or(u64::MAX)),
            None => limit.unwrap_or(GENERATED),
        };
        Ok(Self { file, count })
    }

    pub(crate) const fn count(&self) -> u64 {
        self.count
    }

    pub(crate) fn source(&self) -> String {
        self.file
            .as_ref()
            .map_or_else(|| "generated".to_owned(), |path| path.display().to_string())
    }

    /// The requests that are measured: the same ones each time.
    pub(crate) fn requests<'a>(
        &self,
        target: &'a Target,
    ) -> Result<Box<dyn Iterator<Item = Request> + 'a>, Failure> {
        let likes = self.all()?;
        // No file has more lines than fit in memory.
        let count = usize::try_from(self.count).unwrap_or(usize::MAX);
        Ok(Box::new(
            likes.take(count).map(|like| Request::like(target, like)),
        ))
    }

    fn all(&self) -> Result<Box<dyn Iterator<Item = Interaction>>, Failure> {
        Ok(match &self.file {
            Some(path) => Box::new(Interactions::open(path)?.map_while(Result::ok)),
            None => Box::new(generated(SEED)),
        })
    }

    /// The first of the likes.
    pub(crate) fn first(&self, count: u64) -> Result<Vec<Interaction>, Failure> {
        let count = usize::try_from(self.count.min(count)).unwrap_or(usize::MAX);
        Ok(self.all()?.take(count).collect())
    }

    /// Others like them, sent before.
    pub(crate) fn warm_up(&self, target: &Target, count: u64) -> impl Iterator<Item = Request> {
        (0..count)
            .zip(generated(WARM_UP_SEED))
            .map(|(_, like)| Request::like(target, like))
    }
}

fn generated(seed: u64) -> impl Iterator<Item = Interaction> {
    let mut random = SmallRng::seed_from_u64(seed);
    let mut draw = move |all: f64, skew: f64| 1 + (all * random.random::<f64>().powf(skew)) as i64;
    std::iter::repeat_with(move || Interaction {
        user_id: draw(USERS, USER_SKEW),
        video_id: draw(VIDEOS, VIDEO_SKEW),
    })
}
