//! Tokens that have been verified, so that a signature is checked once and not for each request.

use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};

use lru::LruCache;

use super::service_tokens::Hash;
use crate::domain::UserId;

/// How many tokens are remembered, at about 100 bytes each. Of more, the least used are forgotten.
const TOKENS: NonZeroUsize = match NonZeroUsize::new(32_768) {
    Some(tokens) => tokens,
    None => NonZeroUsize::MIN,
};

/// A token that was found to be good.
#[derive(Debug, Clone, Copy)]
pub(super) struct Verified {
    /// Whose it is.
    pub(super) user_id: UserId,
    /// When it expires, leeway included, in seconds since 1970.
    pub(super) until: u64,
}

/// The verified tokens, by their hashes.
pub(super) struct VerifiedTokens(Mutex<LruCache<Hash, Verified>>);

impl VerifiedTokens {
    pub(super) fn new() -> Self {
        Self(Mutex::new(LruCache::new(TOKENS)))
    }

    /// The token with this hash, if it has been verified; whether it has expired is not looked at.
    pub(super) fn get(&self, hash: &Hash) -> Option<Verified> {
        self.lock().get(hash).copied()
    }

    pub(super) fn put(&self, hash: Hash, verified: Verified) {
        self.lock().put(hash, verified);
    }

    pub(super) fn forget(&self, hash: &Hash) {
        self.lock().pop(hash);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, LruCache<Hash, Verified>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
