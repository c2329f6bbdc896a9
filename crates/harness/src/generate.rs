//! Generates likes whose popularity is as skewed as that of recorded ones. The benchmark sends them when it is
//! given no file.

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::interaction::Interaction;

const USERS: f64 = 30_000.0;
const VIDEOS: f64 = 40_000.0;
/// The most popular `n` of all get `(n / all) ^ (1 / skew)` of the likes; likewise the most active users. The
/// values approximate a recorded week of a video site: 0.1 % of the videos received 6 % of the likes, 1 % received 16 %
/// and 10 % received 42 %; 10 % of the users gave 37 %.
const USER_SKEW: f64 = 2.0;
const VIDEO_SKEW: f64 = 2.5;

/// Returns an endless sequence of likes, the same for the same seed.
pub fn likes(seed: u64) -> impl Iterator<Item = Interaction> {
    let mut random = SmallRng::seed_from_u64(seed);
    let mut draw = move |all: f64, skew: f64| 1 + (all * random.random::<f64>().powf(skew)) as i64;
    std::iter::repeat_with(move || Interaction {
        user_id: draw(USERS, USER_SKEW),
        video_id: draw(VIDEOS, VIDEO_SKEW),
    })
}
