//! Requests, and the publishers of other services: the work of `likes/accept.rs` and the event publisher.

use chrono::TimeDelta;
use likewise::domain::{
    Action, BehaviorEvent, BehaviorType, EntryId, Pair, Source, Version, VersionedState,
};
use likewise::messages::ApplyOutcome;
use likewise::store::Settled;
use rand::RngExt;
use uuid::Uuid;

use super::Broken;
use super::process::{Asker, Durable, Id, Memory, Record, Request, ToCache};
use super::world::World;

/// The number of versions drawn for one request.
const DRAWS: usize = 5;

impl Request {
    pub fn is_to_be_published(&self) -> bool {
        self.durable == Durable::Publishing
    }

    pub fn is_done(&self) -> bool {
        self.applied.is_some() && matches!(self.durable, Durable::Reached | Durable::Nowhere)
    }
}

impl World {
    pub fn begin_request(&mut self, p: usize) {
        let pair = self.draw_pair();
        let action = self.draw_action();
        let stored_before = self.known_of(&pair);
        self.send(p, pair, action, Version::NEVER, 1, stored_before);
    }

    /// The newest version that a request of this pair must observe: the stored one, if the cache was settled.
    fn known_of(&self, pair: &Pair) -> Version {
        let entries = EntryId::of_pair(pair);
        let about = |settled: &Settled| settled.states.contains_key(pair);
        let is_untold = |memory: &Memory| {
            let mut to_cache = memory.to_cache.iter();
            let mut done = memory.syncing.iter().flat_map(|syncing| &syncing.done);
            let recording = memory.recording.as_ref();
            let recorded = recording.and_then(|recording| recording.settled.as_ref());
            to_cache.any(|message| matches!(message, ToCache::Settle(settled, _) if about(settled)))
                || done.any(about)
                || recorded.is_some_and(about)
                || memory.owed_all
                || memory.known_run.is_some_and(|run| run != self.cache.run)
                || entries.iter().any(|entry| memory.owed.contains_key(entry))
        };
        let mut memories = self.processes.iter().flat_map(|process| &process.memory);
        if entries.iter().any(|entry| self.cache.is_excused(entry)) || memories.any(is_untold) {
            return Version::NEVER;
        }
        self.database.mark(pair).version
    }

    fn draw_action(&mut self) -> Action {
        if self.rng.random_bool(0.6) {
            Action::Like
        } else {
            Action::Unlike
        }
    }

    /// Sends the event to the cache and to the broker or database at once, under a version above `newer`.
    fn send(
        &mut self,
        p: usize,
        pair: Pair,
        action: Action,
        newer: Version,
        draws: usize,
        stored_before: Version,
    ) {
        let event_id = self.draw_event_id();
        let wall = self.wall_version(p);
        let memory = self.memory(p);
        let draw = |newest: Version| memory.clock.above_at(newest.max(newer), wall);
        let flight = memory.in_flight.begin(pair.clone(), draw);
        let version = flight.version();
        let behavior = action.behavior_type();
        let event = BehaviorEvent::accepted(
            event_id,
            pair.user_id.clone(),
            pair.resource.clone(),
            behavior,
            version,
        );
        self.note_value(&(&event.event_id, pair.clone(), action));
        self.note_value(&version);
        let (run, loads_missing) = (self.cache.run, !self.embedded);
        let memory = self.memory(p);
        let id = memory.new_id();
        let mark = VersionedState::new(version, action);
        memory.to_cache.push(ToCache::Apply(id, pair.clone(), mark));
        let request = Request {
            pair,
            action,
            event,
            draws,
            flight,
            stored_before,
            run,
            told: false,
            certain: false,
            applied: None,
            loads_missing,
            first: None,
            effect: None,
            is_settled: false,
            durable: Durable::Publishing,
        };
        memory.requests.insert(id, request);
    }

    /// One attempt to publish. An event without acknowledgement is recorded directly.
    pub fn publish(&mut self, p: usize, id: Id) {
        let Some(request) = self.memory(p).requests.get(&id) else {
            return;
        };
        let event = request.event.clone();
        let (stored, acknowledged) = self.stream_call();
        if stored {
            self.stream.publish(event.clone(), self.now);
        }
        if acknowledged {
            self.acknowledged.insert(event.event_id);
        }
        let memory = self.memory(p);
        if let Some(request) = memory.requests.get_mut(&id) {
            if acknowledged {
                request.durable = Durable::Reached;
            } else {
                request.durable = Durable::Recording;
                memory.to_record.push(Record {
                    events: vec![event],
                    redelivered: false,
                    asker: Asker::Request(id),
                });
            }
        }
        self.note_value(&(stored, acknowledged));
    }

    /// Whether the stream did the work, and whether its answer arrived.
    pub fn stream_call(&mut self) -> (bool, bool) {
        if !self.stream_up {
            return (false, false);
        }
        match self.rng.random_range(0..100) {
            0..5 if self.faults => (true, false),
            5..8 if self.faults => (false, false),
            _ => (true, true),
        }
    }

    /// Ends a request, or sends it again.
    pub fn finish(&mut self, p: usize, id: Id) -> Result<(), Broken> {
        let Some(mut request) = self.memory(p).requests.remove(&id) else {
            return Ok(());
        };
        if request.durable == Durable::Nowhere {
            let put_back = ToCache::Forget(request.pair, request.event.version);
            self.memory(p).to_cache.push(put_back);
            return Ok(());
        }
        let state = VersionedState::new(request.event.version, request.action);
        let incomplete = request.applied.filter(ApplyOutcome::is_incomplete);
        let incomplete = incomplete.filter(|_| !request.loads_missing);
        if incomplete.is_some() && !request.is_settled {
            // The commit has not settled the cache: the event is applied again.
            request.first = request.applied.take();
            request.loads_missing = true;
            let memory = self.memory(p);
            let again = ToCache::Apply(id, request.pair.clone(), state);
            memory.to_cache.push(again);
            memory.requests.insert(id, request);
            return Ok(());
        }
        let again = request.first.zip(request.applied);
        let again = again.map(|(first, again)| first.completed_again(again));
        if let Some(outcome) = again.or(incomplete) {
            let effect = request.effect;
            request.certain |= effect.is_some();
            request.applied =
                Some(effect.map_or(outcome, |effect| outcome.completed_by(&effect, state)));
        }
        self.cache_has(&request, state)?;
        let newer = request.applied.and_then(|outcome| outcome.newer());
        let Some(newer) = newer.filter(|newer| !request.flight.is_followed_by(*newer)) else {
            return self.request_wins(&request, newer);
        };
        let wall = self.wall_version(p);
        self.memory(p).clock.observe_at(newer, wall);
        if request.draws < DRAWS {
            let Request {
                pair,
                action,
                draws,
                stored_before,
                ..
            } = request;
            self.send(p, pair, action, newer, draws + 1, stored_before);
        }
        Ok(())
    }

    /// An answered request is newer than the stored version of its pair, or a later request of its process is, unless
    /// neither database nor cache could answer, or the cache lost the settlement.
    fn request_wins(&self, request: &Request, newer: Option<Version>) -> Result<(), Broken> {
        let entries = EntryId::of_pair(&request.pair);
        let is_known = request.certain
            && request.run == self.cache.run
            && !entries.iter().any(|entry| self.cache.is_excused(entry));
        if !is_known || newer.is_some() || request.event.version >= request.stored_before {
            return Ok(());
        }
        Err(Broken::new(format!(
            "{:?}, {:?} was answered, and has no effect: version {:?} was stored before",
            request.pair, request.event, request.stored_before
        )))
    }

    /// Once the commit of a request has settled the cache, the cache shows no state and no count from before it.
    fn cache_has(&self, request: &Request, state: VersionedState) -> Result<(), Broken> {
        let Some(effect) = request.effect.filter(|_| request.is_settled) else {
            return Ok(());
        };
        let (held, count) = self.cache.known(&request.pair);
        let is_older = held.is_some_and(|held| held < state)
            || count.is_some_and(|count| count.revision < effect.count.revision);
        if !is_older {
            return Ok(());
        }
        Err(Broken::new(format!(
            "{:?} was answered at {:?}, but the cache shows {held:?}, {count:?}",
            request.event, effect.count
        )))
    }

    /// Another service publishes a new, old or future event, a duplicate, or other content under a used id.
    pub fn publish_foreign(&mut self) {
        let event = if let Some(event_id) = self.draw_used_id() {
            BehaviorEvent {
                event_id,
                ..self.draw_foreign()
            }
        } else if !self.published.is_empty() && self.rng.random_bool(0.3) {
            let n = self.rng.random_range(0..self.published.len());
            let published = self.published[n].clone();
            if self.rng.random_bool(0.5) {
                published
            } else {
                BehaviorEvent {
                    event_id: published.event_id,
                    ..self.draw_foreign()
                }
            }
        } else {
            self.draw_foreign()
        };
        self.note_value(&event);
        let seen = self.stream.has_seen(event.event_id) && self.rng.random_bool(0.5);
        let (stored, acknowledged) = self.stream_call();
        if stored && !seen {
            self.stream.publish(event.clone(), self.now);
        }
        if acknowledged {
            self.acknowledged.insert(event.event_id);
        }
        self.published.push(event);
    }

    /// Sometimes takes the id of a recorded event, perhaps one of our own.
    fn draw_used_id(&mut self) -> Option<Uuid> {
        let used = self.database.behaviors.len();
        if used == 0 || self.rng.random_bool(0.9) {
            return None;
        }
        let place = self.rng.random_range(0..used);
        self.database.behaviors.keys().nth(place).copied()
    }

    fn draw_foreign(&mut self) -> BehaviorEvent {
        let pair = self.draw_pair();
        let event_id = self.draw_event_id();
        let off = match self.rng.random_range(0..10) {
            0..6 => self.rng.random_range(-1_000_000..1_000_000),
            6..9 => self.rng.random_range(-3_600_000_000_i64..0),
            _ => self.rng.random_range(0..900_000_000),
        };
        let moment = self.now + TimeDelta::microseconds(off);
        let behavior = match self.rng.random_range(0..10) {
            0..5 => BehaviorType::Like,
            5..9 => BehaviorType::Unlike,
            _ => BehaviorType::View,
        };
        // Sometimes takes the version of another service's event.
        let same = self.published.last().map(|event| event.version);
        let version = same
            .filter(|_| self.rng.random_bool(0.2))
            .unwrap_or(Version::at(moment));
        BehaviorEvent {
            event_id,
            user_id: pair.user_id,
            resource: pair.resource,
            behavior,
            version,
            occurred_at: moment,
            source: Source::Foreign("player".into()),
            stream_sequence: None,
            trace: None,
        }
    }
}
