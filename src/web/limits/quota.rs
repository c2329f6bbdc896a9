//! How many requests in how much time.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

/// So many requests in so many seconds: `100/60`. They may come at once; after that, one more is let
/// through each time that its share of the seconds has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    count: NonZeroU32,
    seconds: NonZeroU32,
}

impl Quota {
    /// How many requests.
    #[must_use]
    pub const fn count(self) -> NonZeroU32 {
        self.count
    }

    /// In how many seconds.
    #[must_use]
    pub const fn seconds(self) -> NonZeroU32 {
        self.seconds
    }

    /// How long it takes until one more is let through. At the least a microsecond.
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
