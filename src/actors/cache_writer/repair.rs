//! Repairs the cache: remembers the entries that may be wrong, and drops them once the cache answers.

use std::collections::BTreeSet;
use std::sync::{MutexGuard, PoisonError};

use super::CacheWriter;
use crate::domain::Resource;
use crate::telemetry::CacheHealed;

/// The entries that may be wrong because they could not be written.
#[derive(Debug, Default)]
pub(super) struct DirtyEntries {
    resources: BTreeSet<Resource>,
    /// Too many entries are dirty to remember them, so every entry may be wrong.
    all: bool,
}

impl DirtyEntries {
    /// The number of remembered entries. Beyond it, all entries count as dirty.
    const MOST: usize = 100_000;

    fn add(&mut self, resources: impl IntoIterator<Item = Resource>) {
        if !self.all {
            self.resources.extend(resources);
        }
        if self.resources.len() > Self::MOST {
            self.resources.clear();
            self.all = true;
        }
    }

    pub(super) fn len(&self) -> usize {
        self.resources.len()
    }
}

impl CacheWriter {
    /// Remembers that the entries of these resources may be wrong.
    pub(super) fn mark_dirty(&self, resources: impl IntoIterator<Item = Resource>) {
        self.dirty().add(resources);
    }

    pub(super) fn dirty(&self) -> MutexGuard<'_, DirtyEntries> {
        self.dirty.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Drops the dirty entries, or all entries if the cache restarted, because it may hold older data.
    pub(super) async fn repair(&self) {
        let Ok(restarted) = self.cache.restarted().await else {
            // The cache is unreachable; the entries stay dirty.
            return;
        };
        let dirty = std::mem::take(&mut *self.dirty());
        if restarted || dirty.all {
            match self.cache.clear().await {
                Ok(()) => CacheHealed {
                    reason: "the cache restarted, or missed too many settlements",
                    entries: None,
                }
                .emit(),
                Err(error) => {
                    self.dirty().all = true;
                    self.cache_failed("dropping every entry of the cache", &error);
                }
            }
        } else if !dirty.resources.is_empty() {
            let resources: Vec<_> = dirty.resources.into_iter().collect();
            match self.cache.drop_entries(&resources).await {
                Ok(()) => CacheHealed {
                    reason: "the cache missed some settlements",
                    entries: Some(resources.len()),
                }
                .emit(),
                Err(error) => {
                    self.mark_dirty(resources);
                    self.cache_failed("dropping entries of the cache", &error);
                }
            }
        }
    }
}
