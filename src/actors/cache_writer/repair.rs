//! Repairs the cache: remembers the entries that may be wrong, and drops them once the cache answers.

use std::collections::BTreeSet;
use std::sync::{MutexGuard, PoisonError};

use super::CacheWriter;
use crate::cache::CacheError;
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

    /// Drops the dirty entries, and those that a restarted cache may hold in an older state.
    pub(super) async fn repair(&self) {
        let Ok(restarted) = self.cache.restarted().await else {
            // The cache is unreachable; the entries stay dirty.
            return;
        };
        let dirty = std::mem::take(&mut *self.dirty());
        if dirty.all {
            let dropped = self.cache.clear().await.map(|()| None);
            self.report("the cache missed too many settlements", dropped);
        } else {
            if restarted {
                let dropped = self.cache.drop_stale().await;
                self.report("the cache restarted or failed over", dropped);
            }
            self.drop_dirty(dirty.entries).await;
        }
    }

    /// Reports that so many entries were dropped, or all, or remembers that any may be wrong.
    fn report(&self, reason: &'static str, dropped: Result<Option<usize>, CacheError>) {
        match dropped {
            Ok(entries) => CacheHealed { reason, entries }.emit(),
            Err(error) => {
                self.dirty().all = true;
                self.cache_failed("dropping every entry of the cache", &error);
            }
        }
    }

    async fn drop_dirty(&self, entries: BTreeSet<EntryId>) {
        if entries.is_empty() {
            return;
        }
        let entries: Vec<_> = entries.into_iter().collect();
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
