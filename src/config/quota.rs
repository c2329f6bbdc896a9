//! A rate limit: a number of requests in a period of time.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

/// A number of requests in a number of seconds, such as `100/60`. They may arrive at once; after that, one more is
/// allowed each time that its share of the seconds passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    count: NonZeroU32,
    seconds: NonZeroU32,
}

impl Quota {
    /// The number of requests.
    #[must_use]
    pub const fn count(self) -> NonZeroU32 {
        self.count
    }

    /// The period, in seconds.
    #[must_use]
    pub const fn seconds(self) -> NonZeroU32 {
        self.seconds
    }

    /// How long until one more request is allowed: a microsecond or more.
    #[must_use]
    pub fn share(self) -> Duration {
        Duration::from_secs(self.seconds.get().into()) / self.count.get()
    }
}

impl FromStr for Quota {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        const MOST: u32 = 1_000_000;
        let number = |text: &str| {
            let number: NonZeroU32 = text.trim().parse().map_err(|_| ())?;
            (number.get() <= MOST).then_some(number).ok_or(())
        };
        let (count, seconds) = text.split_once('/').ok_or(())?;
        Ok(Self {
            count: number(count)?,
            seconds: number(seconds)?,
        })
    }
}

impl fmt::Display for Quota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.count, self.seconds)
    }
}
