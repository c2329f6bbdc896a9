//! Reproducible randomness: every draw of a test run follows from one seed.

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

/// Returns a generator for one test, so that its draws do not depend on other tests.
pub fn rng(test: &str) -> SmallRng {
    say(format_args!("{test}: {VARIABLE}={}", *SEED));
    let mut hasher = DefaultHasher::new();
    (*SEED, test).hash(&mut hasher);
    SmallRng::seed_from_u64(hasher.finish())
}
