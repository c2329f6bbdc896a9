//! Repairs the cache: remembers the entries that may be wrong, and drops them once the cache answers.

use std::collections::BTreeSet;
use std::sync::{MutexGuard, PoisonError};

use super::CacheWriter;
use crate::domain::EntryId;
use crate::telemetry::CacheHealed;

/// The entries that may be wrong because they could not be written.
#[derive(Debug, Default)]
pub(super) struct DirtyEntries {
    entries: BTreeSet<EntryId>,
    /// Too many entries are dirty to remember them, so every entry may be wrong.
    all: bool,
}

impl DirtyEntries {
    /// The number of remembered entries. Beyond it, all entries count as dirty.
    const MOST: usize = 100_000;

    fn add(&mut self, entries: impl IntoIterator<Item = EntryId>) {
        if !self.all {
            self.entries.extend(entries);
        }
        if self.entries.len() > Self::MOST {
            self.entries.clear();
            self.all = true;
        }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }
}

impl CacheWriter {
    /// Remembers that these entries may be wrong.
    pub(super) fn mark_dirty(&self, entries: impl IntoIterator<Item = EntryId>) {
        self.dirty().add(entries);
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
        } else if !dirty.entries.is_empty() {
            let entries: Vec<_> = dirty.entries.into_iter().collect();
            match self.cache.drop_entries(&entries).await {
                Ok(()) => CacheHealed {
                    reason: "the cache missed some settlements",
                    entries: Some(entries.len()),
                }
                .emit(),
                Err(error) => {
                    self.mark_dirty(entries);
                    self.cache_failed("dropping entries of the cache", &error);
                }
            }
        }
    }
}
