//! Settlements and look-ups: the work of the cache writer.

use std::collections::{BTreeMap, BTreeSet};

use likewise::domain::{Applied, Coverage, EntryId, Pair, Status, Version, VersionedState};
use likewise::messages::ApplyOutcome;
use likewise::store::Settled;

use super::cache::{entries_of, overdue_before};
use super::process::{Comparison, Id, Look, Memory, Owed, Seen, ToCache};
use super::world::{Call, World};

/// The number of database reads for one answer.
const LOOKS: usize = 4;

impl Memory {
    pub fn is_to_heal(&self, run: u64) -> bool {
        self.owed_all || !self.owed.is_empty() || self.known_run != Some(run)
    }
}

impl World {
    /// Delivers one of the messages on their way to the cache.
    pub fn tell_cache(&mut self, p: usize, n: usize) {
        let message = self.memory(p).to_cache.swap_remove(n);
        let call = self.cache_call();
        self.note_value(&(&message, call));
        let reached = call != Call::Failed;
        let now = Version::at(self.now);
        match message {
            ToCache::Apply(id, pair, mark) => {
                let applied = reached.then(|| self.cache.apply(&pair, mark, now));
                let told = applied.filter(|_| call == Call::Done);
                let in_full = told.is_some_and(|applied| !applied.needs_fill());
                let request = self.memory(p).requests.get(&id);
                let loads_missing = request.is_none_or(|request| request.loads_missing);
                if !in_full && loads_missing {
                    self.load_missing(p, pair.clone(), Some((id, mark, told)));
                }
                // An unanswered command may still run later, also after the revert. Nothing is sent to a cache that is
                // known to be down.
                if call != Call::Done && self.cache_up {
                    self.owe_pair(p, &pair);
                }
                let request = self.memory(p).requests.get_mut(&id);
                if let Some(request) = request {
                    request.told = true;
                    request.certain = in_full;
                    request.applied = (in_full || !loads_missing).then_some(ApplyOutcome {
                        applied: told,
                        stored: None,
                    });
                }
                if reached {
                    self.haunt_if_over(p, id, &pair);
                }
            }
            ToCache::Settle(settled, effects) => {
                if reached {
                    self.cache.settle(&settled, now);
                }
                if call != Call::Done {
                    for entry in entries_of(&settled) {
                        self.memory(p).owe(entry, Owed::Settlement);
                    }
                }
                for (id, effect) in effects {
                    self.is_recorded(p, id, Some(effect), true);
                }
            }
            ToCache::Forget(pair, version) => {
                if reached {
                    self.cache.forget(&pair, version, now);
                }
                if call != Call::Done {
                    self.owe_pair(p, &pair);
                }
            }
        }
    }

    /// A reader reads. A look-up loads what the cache lacks.
    pub fn read(&mut self, p: usize) {
        let pair = self.draw_pair();
        let now = Version::at(self.now);
        let reading = self.cache.read(&pair, now);
        if self.cache_up && reading.is_overdue {
            self.reconcile(p, &pair, overdue_before(now));
        }
        if !self.cache_up || reading.liked.is_none() || reading.like_count.is_none() {
            self.load_missing(p, pair, None);
        }
    }

    pub fn load_missing(
        &mut self,
        p: usize,
        pair: Pair,
        asker: Option<(Id, VersionedState, Option<Applied>)>,
    ) {
        self.memory(p).looks.push(Look {
            pair,
            asker,
            rounds: 0,
            seen: Seen::Nothing,
        });
    }

    /// An event that is dead or refused before it is applied is in flight until it is compared with the database.
    fn haunt_if_over(&mut self, p: usize, id: Id, pair: &Pair) {
        let request = self.memory(p).requests.get(&id);
        let event = request.map(|request| request.event.event_id);
        let row = event.and_then(|event| self.database.ledger.get(&event));
        let is_dead = row.is_some_and(|row| row.status == Status::Dead);
        let is_refused = event.is_some_and(|event| self.database.quarantine.contains(&event));
        if is_dead || is_refused {
            let why = "an event was dead or refused before it was applied";
            self.cache.haunt(pair, why);
        }
    }

    fn owe_pair(&mut self, p: usize, pair: &Pair) {
        for entry in EntryId::of_pair(pair) {
            self.memory(p).owe(entry, Owed::PutBack);
        }
    }

    /// The next step of a look-up: the incarnations, the count, the rows, the fill, and the event that waits again.
    pub fn look(&mut self, p: usize, n: usize) {
        let mut look = self.memory(p).looks.swap_remove(n);
        let pair = look.pair.clone();
        let call = match look.seen {
            Seen::Nothing | Seen::All(..) | Seen::Filled(_) => self.cache_call(),
            Seen::Lives(..) | Seen::Count(..) if self.database_up => Call::Done,
            Seen::Lives(..) | Seen::Count(..) => Call::Failed,
        };
        let reached = call == Call::Done;
        self.note_value(&(look.clone(), reached));
        look.seen = match look.seen.clone() {
            Seen::Nothing if reached => {
                let lives = self.cache.open(&pair);
                Seen::Lives(lives, self.cache.coverage(&pair.user_id))
            }
            // Without the cache there are no incarnations to fill, but there is an answer.
            Seen::Nothing => Seen::Lives((0, 0), Coverage::Partial),
            Seen::Lives(..) | Seen::Count(..) if !reached => {
                return self.answer_apply(p, &look, None);
            }
            Seen::Lives(lives, coverage) => {
                Seen::Count(lives, coverage, self.database.count(&pair.resource))
            }
            Seen::Count(lives, Coverage::Unfilled, count) => {
                let rows = self.database.rows(&pair.user_id);
                Seen::All(lives, Coverage::Complete, count, rows)
            }
            Seen::Count(lives, _, count) => {
                let row = (pair.resource.clone(), self.database.mark(&pair));
                Seen::All(lives, Coverage::Partial, count, vec![row])
            }
            Seen::All(lives, coverage, count, rows) => {
                look.rounds += 1;
                let own = rows.iter().find(|(resource, _)| *resource == pair.resource);
                let mark = own.map_or(VersionedState::NEVER, |(_, mark)| *mark);
                let is_over = !reached
                    || self.cache.fill(&pair, lives, coverage, &rows, count)
                    || look.rounds == LOOKS;
                match (is_over, look.asker) {
                    (false, _) => Seen::Nothing,
                    (true, Some((_, _, Some(_)))) => Seen::Filled(mark),
                    (true, _) => return self.answer_apply(p, &look, Some(mark)),
                }
            }
            Seen::Filled(mark) => {
                if let Some((id, event, before)) = look.asker
                    && call != Call::Failed
                    && event > mark
                {
                    if self.database.mark(&pair) >= event {
                        // Its settlement may have come and gone with the entry.
                        let why = "an event was applied again after it was settled";
                        self.cache.haunt(&pair, why);
                    }
                    let again = self.cache.apply(&pair, event, Version::at(self.now));
                    let before = before.filter(|_| reached);
                    look.asker = Some((
                        id,
                        event,
                        before.map(|before| Applied {
                            changed: before.changed,
                            ..again
                        }),
                    ));
                    self.haunt_if_over(p, id, &pair);
                }
                if !reached && self.cache_up {
                    self.owe_pair(p, &pair);
                }
                return self.answer_apply(p, &look, Some(mark));
            }
        };
        self.memory(p).looks.push(look);
    }

    /// Compares what has been in flight in the entries of a pair since before a version with the database.
    pub fn reconcile(&mut self, p: usize, pair: &Pair, before: Version) {
        if self.cache_call() != Call::Done {
            return;
        }
        let overdue = self.cache.overdue(pair, before, Version::at(self.now));
        if !overdue.is_empty() {
            self.memory(p).comparisons.push(Comparison::Listed(overdue));
        }
    }

    /// The next step of a comparison.
    pub fn compare(&mut self, p: usize, n: usize) {
        let comparison = self.memory(p).comparisons.swap_remove(n);
        self.note_value(&comparison);
        match comparison {
            Comparison::Listed(overdue) => {
                if !self.database_up {
                    return;
                }
                let mut settled = Settled::default();
                let mut missing = Vec::new();
                for (pair, version) in overdue {
                    let mark = self.database.mark(&pair);
                    // One of the stored version is settled, unless it is another event of that version.
                    if mark.version <= version {
                        missing.push((pair.clone(), version));
                    }
                    if mark != VersionedState::NEVER {
                        settled.states.insert(pair.clone(), mark);
                    }
                    let count = self.database.counts.get(&pair.resource);
                    if let Some(count) = count.copied() {
                        settled.counts.insert(pair.resource, count);
                    }
                }
                // What the stream or the ledger still holds may arrive.
                let waits = self.stream.owes_any();
                missing.retain(|(pair, _)| !waits && !self.database.is_open(pair));
                let compared = Comparison::Compared(settled, missing);
                self.memory(p).comparisons.push(compared);
            }
            Comparison::Compared(settled, lost) => {
                if self.cache_call() == Call::Failed {
                    return;
                }
                let now = Version::at(self.now);
                self.cache.settle(&settled, now);
                for (pair, version) in lost {
                    self.cache.forget(&pair, version, now);
                }
            }
        }
    }

    /// Answers the request that waits for a look-up, with the state in the database.
    fn answer_apply(&mut self, p: usize, look: &Look, found: Option<VersionedState>) {
        let Some((id, mark, applied)) = look.asker else {
            return;
        };
        if let Some(request) = self.memory(p).requests.get_mut(&id) {
            let newer = found.filter(|found| *found > mark);
            request.certain = found.is_some();
            request.applied = Some(ApplyOutcome {
                applied,
                stored: newer.map(|found| found.version),
            });
        }
    }

    /// A starting worker settles the events recorded last.
    pub fn recent(&mut self, p: usize) {
        let Some(step) = self.memory(p).recent.take() else {
            return;
        };
        if !self.database_up {
            return;
        }
        let Some(counts) = step else {
            let counts = self.database.counts.clone();
            self.memory(p).recent = Some(Some(counts));
            return;
        };
        let behaviors = self.database.behaviors.values();
        let pairs: BTreeSet<Pair> = behaviors
            .filter(|event| event.action().is_some())
            .map(|event| Pair {
                resource: event.resource.clone(),
                user_id: event.user_id.clone(),
            })
            .collect();
        let found = |pair: &Pair| {
            let state = self.database.states.get(pair)?;
            Some((pair.clone(), state.newest))
        };
        let states: BTreeMap<_, _> = pairs.iter().filter_map(found).collect();
        let settled = Settled {
            states,
            counts,
            changed: Vec::new(),
        };
        let settle = ToCache::Settle(settled, Vec::new());
        self.memory(p).to_cache.push(settle);
    }

    /// Drops entries that may be wrong: those that could not be written, and all of them after a restart of the cache.
    pub fn heal(&mut self, p: usize) {
        let run = self.cache.run;
        if self.cache_call() != Call::Done {
            // The content of the cache is unknown, so its return counts as a restart.
            self.memory(p).known_run.get_or_insert(0);
            return;
        }
        let known = self.memory(p).known_run.replace(run);
        let restarted = known.is_some_and(|known| known != run);
        let all = std::mem::take(&mut self.memory(p).owed_all);
        let owed = std::mem::take(&mut self.memory(p).owed);
        let call = self.cache_call();
        self.note_value(&(restarted, all, &owed, call));
        if restarted || all {
            if call != Call::Failed {
                self.cache.clear();
            }
            self.memory(p).owed_all = call != Call::Done;
        } else {
            if call != Call::Failed {
                for entry in owed.keys() {
                    self.cache.drop_entry(entry);
                }
            }
            if call != Call::Done {
                self.memory(p).owed = owed;
            }
        }
    }

    /// The cache restarts with its last saved data. Each process that saw the previous run drops all entries.
    pub fn cache_starts_again(&mut self) {
        let before = self.cache.run;
        self.cache.start_again();
        self.haunt_all_unless_noticed(before + 1);
    }

    /// If no process is left that saw an earlier run, no process drops the old data.
    pub fn haunt_all_unless_noticed(&mut self, run: u64) {
        let mut memories = self
            .processes
            .iter()
            .filter_map(|process| process.memory.as_ref());
        let noticed = memories
            .any(|memory| memory.owed_all || memory.known_run.is_some_and(|known| known != run));
        if !noticed {
            self.cache.leave_outdated();
        }
    }

    /// Records the work on the cache that a dying process leaves undone.
    pub fn leave_to_the_cache(&mut self, memory: &Memory) {
        for request in memory.requests.values() {
            let id = request.event.event_id;
            let durable = self.stream.owes(id) || self.database.ledger.contains_key(&id);
            if request.told && !durable {
                let why = "an event was applied, and its process died before it was durable";
                self.cache.haunt(&request.pair, why);
            }
        }
        for message in &memory.to_cache {
            match message {
                ToCache::Apply(..) => {}
                ToCache::Settle(settled, _) => self.cache.leave_untold(entries_of(settled)),
                ToCache::Forget(pair, _) => {
                    let why = "the process died before it put an event back";
                    self.cache.haunt(pair, why);
                }
            }
        }
        if let Some(syncing) = &memory.syncing {
            for settled in &syncing.done {
                self.cache.leave_untold(entries_of(settled));
            }
        }
        let recording = memory.recording.as_ref();
        if let Some(settled) = recording.and_then(|recording| recording.settled.as_ref()) {
            self.cache.leave_untold(entries_of(settled));
        }
        // What was to be dropped stays. It may have missed a settlement or a revert.
        for entry in memory.owed.keys() {
            self.cache.leave_untold([entry.clone()]);
            self.cache
                .haunt_entry(entry, "an owed event died with its process");
        }
    }
}
