//! Requests and other services' publishers: what `likes/accept.rs` and the event publisher do.

use chrono::TimeDelta;
use likewise::domain::{Action, BehaviorEvent, BehaviorType, Mark, Source, Version};
use rand::RngExt;

use super::process::{Asker, Durable, Id, Record, Request, ToCache};
use super::world::World;

/// How often a request is sent again under a newer version.
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
        let event = self.draw_event(p, pair.user_id, pair.resource, action);
        let request = Request {
            pair,
            action,
            event,
            draws: 1,
            applied: None,
            durable: Durable::Publishing,
        };
        self.send(p, request);
    }

    fn draw_action(&mut self) -> Action {
        if self.rng.random_bool(0.6) {
            Action::Like
        } else {
            Action::Unlike
        }
    }

    fn draw_event(
        &mut self,
        p: usize,
        user_id: i64,
        resource: likewise::domain::Resource,
        action: Action,
    ) -> BehaviorEvent {
        let event_id = self.draw_event_id();
        let wall = self.wall_version(p);
        let version = self.memory(p).clock.next_at(wall);
        let behavior = action.behavior_type();
        BehaviorEvent::accepted(event_id, user_id, resource, behavior, version)
            .expect("ids that can be")
    }

    /// To the cache and to where it becomes durable, side by side.
    fn send(&mut self, p: usize, request: Request) {
        self.note_value(&(&request.event.event_id, request.pair, request.action));
        self.note_value(&request.event.version);
        let mark = Mark::new(request.event.version, request.action);
        let pair = request.pair;
        let memory = self.memory(p);
        let id = memory.new_id();
        memory.to_cache.push(ToCache::Apply(id, pair, mark));
        memory.requests.insert(id, request);
    }

    /// One attempt to publish; what is not acknowledged is recorded directly.
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
                    asker: Asker::Request(id),
                });
            }
        }
        self.note_value(&(stored, acknowledged));
    }

    /// Whether the stream has done what it was asked, and whether it could say so.
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

    /// The end of a request, or its next beginning.
    pub fn finish(&mut self, p: usize, id: Id) {
        let Some(request) = self.memory(p).requests.remove(&id) else {
            return;
        };
        if request.durable == Durable::Nowhere {
            let put_back = ToCache::Forget(request.pair, request.event.version);
            self.memory(p).to_cache.push(put_back);
            return;
        }
        let newer = request.applied.flatten().and_then(|applied| applied.newer);
        if let Some(newer) = newer.filter(|_| request.draws < DRAWS) {
            let wall = self.wall_version(p);
            self.memory(p).clock.observe_at(newer, wall);
            let event = self.draw_event(
                p,
                request.pair.user_id,
                request.pair.resource,
                request.action,
            );
            let again = Request {
                event,
                draws: request.draws + 1,
                applied: None,
                durable: Durable::Publishing,
                ..request
            };
            self.send(p, again);
        }
    }

    /// Another service publishes: something new, new or old or ahead of its time; the same again; or
    /// something else under an id that it has used before.
    pub fn publish_foreign(&mut self) {
        let event = if !self.published.is_empty() && self.rng.random_bool(0.3) {
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
        // Now and then of the very version of somebody else's event.
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
        }
    }
}
