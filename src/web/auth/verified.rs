//! Remembers verified tokens, so that each signature is checked once and not with every request.

use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};

use lru::LruCache;

use super::service_tokens::Hash;
use crate::domain::UserId;

/// The most tokens remembered, of about 100 bytes each. The least recently used are forgotten first.
const TOKENS: NonZeroUsize = match NonZeroUsize::new(32_768) {
    Some(tokens) => tokens,
    None => NonZeroUsize::MIN,
};

/// A verified token.
#[derive(Debug, Clone)]
pub(super) struct Verified {
    /// The user.
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

    /// The token with this hash, whether or not it has expired since.
    pub(super) fn get(&self, hash: &Hash) -> Option<Verified> {
        self.lock().get(hash).cloned()
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
