//! Settlements and look-ups: the work of the cache writer.

use std::collections::{BTreeMap, BTreeSet};

use likewise::domain::{Applied, Pair, Resource, Status, VersionedState};
use likewise::messages::ApplyOutcome;
use likewise::store::Settled;

use super::cache::resources_of;
use super::process::{Id, Look, Memory, Owed, Seen, ToCache};
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
        match message {
            ToCache::Apply(id, pair, mark) => {
                let applied = reached.then(|| self.cache.apply(pair.clone(), mark));
                let told = applied.filter(|_| call == Call::Done);
                let in_full = told.is_some_and(|applied| !applied.needs_fill());
                if !in_full {
                    self.load_missing(p, pair.clone(), Some((id, mark, told)));
                }
                // An unanswered command may still run later, also after the revert. Nothing is sent to a cache that is
                // known to be down.
                if call != Call::Done && self.cache_up {
                    self.memory(p).owe(pair.resource.clone(), Owed::PutBack);
                }
                let request = self.memory(p).requests.get_mut(&id);
                let event = request.map(|request| {
                    request.told = true;
                    request.certain = in_full;
                    request.applied = in_full.then_some(ApplyOutcome {
                        applied: told,
                        stored: None,
                    });
                    request.event.event_id
                });
                let row = event.and_then(|event| self.database.ledger.get(&event));
                let is_dead = row.is_some_and(|row| row.status == Status::Dead);
                let is_refused =
                    event.is_some_and(|event| self.database.quarantine.contains(&event));
                if reached && (is_dead || is_refused) {
                    let why = "an event was dead or refused before it was applied";
                    self.cache.haunt(pair.resource, why);
                }
            }
            ToCache::Settle(settled) => {
                if reached {
                    self.cache.settle(&settled);
                }
                if call != Call::Done {
                    for resource in resources_of(&settled) {
                        self.memory(p).owe(resource, Owed::Settlement);
                    }
                }
            }
            ToCache::Forget(pair, version) => {
                if reached {
                    self.cache.forget(&pair, version);
                }
                if call != Call::Done {
                    self.memory(p).owe(pair.resource, Owed::PutBack);
                }
            }
        }
    }

    /// A reader reads. A look-up loads what the cache lacks.
    pub fn read(&mut self, p: usize) {
        let pair = self.draw_pair();
        let reading = self.cache.read(&pair);
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

    /// The next step of a look-up: the incarnation, the count, the state, and then the fill.
    pub fn look(&mut self, p: usize, n: usize) {
        let mut look = self.memory(p).looks.swap_remove(n);
        let pair = look.pair.clone();
        let reached = match look.seen {
            Seen::Nothing | Seen::All(..) => self.cache_call() == Call::Done,
            Seen::Life(_) | Seen::Count(..) => self.database_up,
        };
        self.note_value(&(look.clone(), reached));
        look.seen = match look.seen {
            // Without the cache there is no incarnation to fill, but there is an answer.
            Seen::Nothing if reached => Seen::Life(self.cache.open(pair.resource)),
            Seen::Nothing => Seen::Life(0),
            Seen::Life(_) | Seen::Count(..) if !reached => {
                return self.answer_apply(p, &look, None);
            }
            Seen::Life(life) => Seen::Count(life, self.database.count(&pair.resource)),
            Seen::Count(life, count) => Seen::All(life, count, self.database.mark(&pair)),
            Seen::All(life, count, mark) => {
                look.rounds += 1;
                let is_over =
                    !reached || self.cache.fill(pair, life, mark, count) || look.rounds == LOOKS;
                if is_over {
                    return self.answer_apply(p, &look, Some(mark));
                }
                Seen::Nothing
            }
        };
        self.memory(p).looks.push(look);
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
        self.memory(p).to_cache.push(ToCache::Settle(settled));
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
                for resource in owed.keys() {
                    self.cache.drop_entry(&resource.clone());
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
            self.haunt_all("the cache came back, and nobody had seen it before");
        }
    }

    pub fn haunt_all(&mut self, why: &'static str) {
        let resources: Vec<Resource> = self.cache.entries.keys().cloned().collect();
        for resource in resources {
            self.cache.haunt(resource, why);
        }
    }

    /// Records the work on the cache that a dying process leaves undone.
    pub fn leave_to_the_cache(&mut self, memory: &Memory) {
        for request in memory.requests.values() {
            let id = request.event.event_id;
            let durable = self.stream.owes(id) || self.database.ledger.contains_key(&id);
            if request.told && !durable {
                let why = "an event was applied, and its process died before it was durable";
                self.cache.haunt(request.pair.resource.clone(), why);
            }
        }
        for message in &memory.to_cache {
            match message {
                ToCache::Apply(..) => {}
                ToCache::Settle(settled) => self.cache.leave_untold(resources_of(settled)),
                ToCache::Forget(pair, _) => {
                    let why = "the process died before it put an event back";
                    self.cache.haunt(pair.resource.clone(), why);
                }
            }
        }
        if let Some(syncing) = &memory.syncing {
            for settled in &syncing.done {
                self.cache.leave_untold(resources_of(settled));
            }
        }
        let recording = memory.recording.as_ref();
        if let Some(settled) = recording.and_then(|recording| recording.settled.as_ref()) {
            self.cache.leave_untold(resources_of(settled));
        }
        for (resource, owed) in &memory.owed {
            match owed {
                Owed::Settlement => self.cache.leave_untold([resource.clone()]),
                Owed::PutBack => self
                    .cache
                    .haunt(resource.clone(), "an owed event died with its process"),
            }
        }
    }
}
