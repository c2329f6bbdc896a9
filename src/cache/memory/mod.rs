//! The in-memory cache: runs the rules of `domain/user_entry.rs` and `domain/count_entry.rs` under locks, with a bound on
//! its entries.

mod shards;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{
    Cache, CacheFuture, CountFilling, Filled, Filling, Incarnation, Opened, OpenedPair, Scanned,
    Settlement, UserFilling,
};
use crate::domain::{
    Applied, CachedPair, CountEntry, CountFill, Counting, DataSubject, EntryId, EntryView, Pair,
    Reading, Resource, UserEntry, UserId, Version, VersionedState, overdue_before,
};
use shards::Shards;

/// The entries of this process, with eviction of the least recently used.
///
/// An operation that changes both entries of a pair locks the user's first.
pub struct MemoryCache {
    users: Shards<UserId, UserEntry>,
    counts: Shards<Resource, CountEntry>,
    incarnations: AtomicU64,
    pairs_per_user: usize,
}

impl MemoryCache {
    /// Creates a cache of at most `pairs` pairs and about as many counts. One user takes at most a tenth of a shard, so that
    /// one does not evict all others.
    #[must_use]
    pub fn new(pairs: usize) -> Self {
        Self::with(pairs, UserEntry::MOST_PAIRS.min(pairs / 160))
    }

    /// Creates a cache of at most `pairs` pairs, with at most `pairs_per_user` in one entry.
    #[must_use]
    pub fn with(pairs: usize, pairs_per_user: usize) -> Self {
        Self {
            users: Shards::new(pairs),
            counts: Shards::new(pairs),
            incarnations: AtomicU64::new(1),
            pairs_per_user: pairs_per_user.max(1),
        }
    }

    /// Returns the number of pairs and entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.users.weight() + self.counts.weight()
    }

    /// Returns whether it is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn new_life(&self) -> Incarnation {
        self.incarnations.fetch_add(1, Ordering::Relaxed)
    }

    /// Trims an entry that has become too large, to half of its limit, so that the next pair does not trim again.
    fn trim(&self, entry: &mut UserEntry) {
        if entry.len() > self.pairs_per_user {
            entry.trim(self.pairs_per_user / 2, self.new_life());
        }
    }

    fn apply_one(
        &self,
        (pair, state): &(Pair, VersionedState),
        now: Version,
    ) -> (Applied, Option<OpenedPair>) {
        let Pair { user_id, resource } = pair;
        // Held until the event has joined: a settlement in between would find nothing in flight.
        let mut users = self.users.lock(user_id.spread());
        let (applied, user) = users.with(
            user_id,
            || UserEntry::new(self.new_life()),
            |entry| {
                let applied = entry.apply(resource, *state);
                self.trim(entry);
                (applied, (entry.incarnation(), entry.coverage()))
            },
        );
        let mut counts = self.counts.lock(resource.id.spread());
        let like_count = counts.with_any(resource, |entry| {
            if let Counting::Join(event) = applied.counting {
                entry.join(user_id, event, now);
            }
            entry.like_count()
        });
        let like_count = match applied.counting {
            Counting::Unknown => None,
            Counting::Join(_) | Counting::Nothing => like_count.flatten(),
        };
        let applied = Applied {
            changed: applied.changed,
            newer: applied.newer,
            like_count,
        };
        let open = || OpenedPair {
            user,
            count: counts.with(
                resource,
                || CountEntry::new(self.new_life()),
                |entry| entry.incarnation(),
            ),
        };
        let opened = applied.needs_fill().then(open);
        (applied, opened)
    }

    fn fill_user(&self, filling: &UserFilling) -> bool {
        let mut users = self.users.lock(filling.user_id.spread());
        let filled = users.with_any(&filling.user_id, |entry| {
            let rows = filling.rows.iter().cloned();
            let filled = entry.fill(filling.incarnation, filling.coverage, rows);
            self.trim(entry);
            filled
        });
        filled.unwrap_or(false)
    }

    fn fill_count(&self, filling: &CountFilling) -> CountFill {
        let mut counts = self.counts.lock(filling.resource.id.spread());
        let filled = counts.with_any(&filling.resource, |entry| {
            entry.fill(filling.incarnation, filling.count)
        });
        filled.unwrap_or(CountFill::Refused)
    }

    fn read_count(&self, resource: &Resource, before: Version) -> Reading {
        let mut counts = self.counts.lock(resource.id.spread());
        let reading = counts.get(resource).map(|entry| Reading {
            liked: None,
            like_count: entry.like_count(),
            is_overdue: entry.is_overdue(before),
        });
        reading.unwrap_or_default()
    }

    fn view(&self, entry: &EntryId) -> Option<EntryView> {
        match entry {
            EntryId::User(user_id) => {
                let users = self.users.lock(user_id.spread());
                users
                    .peek(user_id)
                    .map(|entry| EntryView::User(entry.view()))
            }
            EntryId::Count(resource) => {
                let counts = self.counts.lock(resource.id.spread());
                let entry = counts.peek(resource);
                entry.map(|entry| EntryView::Count(entry.view()))
            }
        }
    }

    fn names(&self, entry: &EntryId, subject: &DataSubject) -> bool {
        match (entry, subject) {
            (EntryId::User(user_id), DataSubject::User(wanted)) => user_id == wanted,
            (EntryId::Count(resource), DataSubject::Resource(wanted)) => resource == wanted,
            (EntryId::User(user_id), DataSubject::Resource(wanted)) => {
                let users = self.users.lock(user_id.spread());
                let entry = users.peek(user_id);
                entry.is_some_and(|entry| entry.view().pairs.contains_key(wanted))
            }
            (EntryId::Count(resource), DataSubject::User(wanted)) => {
                let counts = self.counts.lock(resource.id.spread());
                let entry = counts.peek(resource);
                entry.is_some_and(|entry| entry.holds(wanted))
            }
        }
    }
}

/// Returns what a pair tells a reader.
pub(super) fn reading_of(pair: CachedPair, count: Reading, before: Version) -> Reading {
    Reading {
        liked: pair.liked(),
        is_overdue: count.is_overdue || pair.is_in_flight() && pair.state.version < before,
        ..count
    }
}

impl Cache for MemoryCache {
    fn ping(&self) -> CacheFuture<'_, ()> {
        Box::pin(async move { Ok(()) })
    }

    fn read<'a>(
        &'a self,
        user_id: Option<&'a UserId>,
        resources: &'a [Resource],
        now: Version,
    ) -> CacheFuture<'a, Vec<Reading>> {
        Box::pin(async move {
            let before = overdue_before(now);
            let mut readings: Vec<Reading> = resources
                .iter()
                .map(|resource| self.read_count(resource, before))
                .collect();
            if let Some(user_id) = user_id {
                let mut users = self.users.lock(user_id.spread());
                if let Some(entry) = users.get(user_id) {
                    for (reading, resource) in readings.iter_mut().zip(resources) {
                        *reading = reading_of(entry.read(resource), *reading, before);
                    }
                }
            }
            Ok(readings)
        })
    }

    fn apply_and_open<'a>(
        &'a self,
        events: &'a [(Pair, VersionedState)],
        now: Version,
    ) -> CacheFuture<'a, Vec<(Applied, Option<OpenedPair>)>> {
        Box::pin(async move {
            let applied = events.iter().map(|event| self.apply_one(event, now));
            Ok(applied.collect())
        })
    }

    fn settle<'a>(
        &'a self,
        settlements: &'a BTreeMap<Resource, Settlement>,
        now: Version,
    ) -> CacheFuture<'a, ()> {
        Box::pin(async move {
            for (resource, settlement) in settlements {
                for (user_id, state) in &settlement.states {
                    let mut users = self.users.lock(user_id.spread());
                    users.with_any(user_id, |entry| {
                        entry.settle(resource, *state, self.new_life());
                        self.trim(entry);
                    });
                }
            }
            for (resource, settlement) in settlements {
                let mut counts = self.counts.lock(resource.id.spread());
                counts.with_any(resource, |entry| {
                    let states = settlement.states.iter();
                    let states = states.map(|(user_id, state)| (user_id, *state));
                    entry.settle(states, settlement.count, self.new_life(), now);
                });
            }
            Ok(())
        })
    }

    fn forget<'a>(&'a self, events: &'a [(Pair, Version)], now: Version) -> CacheFuture<'a, ()> {
        Box::pin(async move {
            for (Pair { user_id, resource }, version) in events {
                let mut users = self.users.lock(user_id.spread());
                users.with_any(user_id, |entry| {
                    entry.forget(resource, *version);
                    self.trim(entry);
                });
                let mut counts = self.counts.lock(resource.id.spread());
                counts.with_any(resource, |entry| entry.forget(user_id, *version, now));
            }
            Ok(())
        })
    }

    fn open<'a>(
        &'a self,
        users: &'a [UserId],
        resources: &'a [Resource],
    ) -> CacheFuture<'a, Opened> {
        Box::pin(async move {
            let open_user = |user_id: &UserId| {
                let mut users = self.users.lock(user_id.spread());
                let new = || UserEntry::new(self.new_life());
                users.with(user_id, new, |entry| {
                    (entry.incarnation(), entry.coverage())
                })
            };
            let open_count = |resource: &Resource| {
                let mut counts = self.counts.lock(resource.id.spread());
                let new = || CountEntry::new(self.new_life());
                counts.with(resource, new, |entry| entry.incarnation())
            };
            Ok(Opened {
                users: users.iter().map(open_user).collect(),
                counts: resources.iter().map(open_count).collect(),
            })
        })
    }

    fn fill_and_apply<'a>(&'a self, filling: &'a Filling, now: Version) -> CacheFuture<'a, Filled> {
        Box::pin(async move {
            let users = filling.users.iter().map(|filling| self.fill_user(filling));
            let counts = filling
                .counts
                .iter()
                .map(|filling| self.fill_count(filling));
            let mut filled = Filled {
                users: users.collect(),
                counts: counts.collect(),
                applied: Vec::with_capacity(filling.events.len()),
            };
            let refused = filling.refused_by(&filled);
            for event in &filling.events {
                let applied = (!refused.has(&event.0)).then(|| self.apply_one(event, now).0);
                filled.applied.push(applied);
            }
            Ok(filled)
        })
    }

    fn overdue<'a>(
        &'a self,
        resource: &'a Resource,
        before: Version,
        limit: usize,
        now: Version,
    ) -> CacheFuture<'a, Vec<(UserId, Version)>> {
        Box::pin(async move {
            let mut counts = self.counts.lock(resource.id.spread());
            let overdue = counts.with_any(resource, |entry| entry.overdue(before, limit, now));
            Ok(overdue.unwrap_or_default())
        })
    }

    fn drop_entries<'a>(&'a self, entries: &'a [EntryId]) -> CacheFuture<'a, ()> {
        Box::pin(async move {
            for entry in entries {
                match entry {
                    EntryId::User(user_id) => self.users.lock(user_id.spread()).remove(user_id),
                    EntryId::Count(resource) => {
                        self.counts.lock(resource.id.spread()).remove(resource);
                    }
                }
            }
            Ok(())
        })
    }

    // One shard of users and one of counts at a time, whatever the count.
    fn scan(&self, cursor: u64, _: usize) -> CacheFuture<'_, Scanned> {
        Box::pin(async move {
            let mut entries = Vec::new();
            if let Some(users) = self.users.nth(cursor as usize) {
                entries.extend(users.keys().cloned().map(EntryId::User));
            }
            let Some(counts) = self.counts.nth(cursor as usize) else {
                return Ok(Scanned::default());
            };
            entries.extend(counts.keys().cloned().map(EntryId::Count));
            Ok(Scanned {
                entries,
                cursor: Some(cursor + 1),
            })
        })
    }

    fn inspect<'a>(&'a self, entries: &'a [EntryId]) -> CacheFuture<'a, Vec<Option<EntryView>>> {
        Box::pin(async move { Ok(entries.iter().map(|entry| self.view(entry)).collect()) })
    }

    fn name<'a>(
        &'a self,
        entries: &'a [EntryId],
        subject: &'a DataSubject,
    ) -> CacheFuture<'a, Vec<bool>> {
        Box::pin(async move {
            let names = |entry: &EntryId| self.names(entry, subject);
            Ok(entries.iter().map(names).collect())
        })
    }

    fn clear(&self) -> CacheFuture<'_, ()> {
        Box::pin(async move {
            self.users.clear();
            self.counts.clear();
            Ok(())
        })
    }

    // The cache ends with its process.
    fn restarted(&self) -> CacheFuture<'_, bool> {
        Box::pin(async { Ok(false) })
    }

    fn kind(&self) -> &'static str {
        "in-process"
    }
}
