//! Randomness that can be repeated: every draw of a test run follows from one number.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::LazyLock;

use rand::SeedableRng;
use rand::rngs::SmallRng;

use super::say;

const VARIABLE: &str = "LIKEWISE_TEST_SEED";

static SEED: LazyLock<u32> = LazyLock::new(|| match std::env::var(VARIABLE) {
    Ok(given) => given
        .parse()
        .unwrap_or_else(|error| panic!("{VARIABLE}={given}: {error}")),
    Err(_) => rand::random(),
});

/// A generator of a test's own, so that it draws the same whichever tests run beside it.
pub fn rng(test: &str) -> SmallRng {
    say(format_args!("{test}: {VARIABLE}={}", *SEED));
    let mut hasher = DefaultHasher::new();
    (*SEED, test).hash(&mut hasher);
    SmallRng::seed_from_u64(hasher.finish())
}
