//! From the stream into the database: the work of the subscriber and the recorder.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::TimeDelta;
use likewise::domain::{
    Backoff, BehaviorEvent, Bisection, CommitEffect, FailureKind, HybridClock, LedgerRow, Pair,
    Source, VersionedState,
};
use likewise::messages::NotRecorded;
use likewise::store::StoreError;
use rand::RngExt;
use uuid::Uuid;

use super::Broken;
use super::cache::entries_of;
use super::database::Bane;
use super::process::{Asker, Delivery, Durable, Id, Record, Recording, Stage, ToCache};
use super::stream::Delivered;
use super::world::{ACK_WAIT, Outcome, World};

const REDELIVER: Backoff = Backoff {
    base: Duration::from_secs(1),
    cap: Duration::from_secs(60),
};

impl Delivery {
    pub fn is_answered(&self) -> bool {
        self.stage != Stage::Recording
    }
}

impl World {
    /// Takes some messages. An event dated too far ahead is quarantined.
    pub fn pull(&mut self, p: usize) {
        let wall = self.wall_version(p);
        let mut ready = self.stream.ready(self.now);
        let mut messages = Vec::new();
        let mut undecodable = Vec::new();
        for _ in 0..self.rng.random_range(1..=4) {
            if ready.is_empty() {
                break;
            }
            let sequence = ready.swap_remove(self.rng.random_range(0..ready.len()));
            let delivered = self.stream.deliver(sequence, self.now + ACK_WAIT);
            if let Some(delivered) = delivered {
                let foreign = delivered.event.source != Source::Api;
                if foreign && HybridClock::is_too_far_ahead(delivered.event.version, wall) {
                    undecodable.push(delivered);
                } else {
                    messages.push(delivered);
                }
            }
        }
        if !undecodable.is_empty() {
            let memory = self.memory(p);
            let id = memory.new_id();
            let delivery = Delivery {
                messages: undecodable,
                stage: Stage::Undecodable,
            };
            memory.deliveries.insert(id, delivery);
        }
        if !messages.is_empty() {
            self.ask_to_record(p, messages);
        }
    }

    fn ask_to_record(&mut self, p: usize, messages: Vec<Delivered>) {
        let events: Vec<_> = messages
            .iter()
            .map(|message| message.event.clone())
            .collect();
        let redelivered = messages.iter().any(|message| message.times > 1);
        self.note(|_| {
            let ids: Vec<Uuid> = events.iter().map(|event| event.event_id).collect();
            format!("  to the recorder of {p}: {ids:?}")
        });
        let memory = self.memory(p);
        let id = memory.new_id();
        let delivery = Delivery {
            messages,
            stage: Stage::Recording,
        };
        memory.deliveries.insert(id, delivery);
        memory.to_record.push(Record {
            events,
            redelivered,
            asker: Asker::Delivery(id),
        });
    }

    /// Handles the recorder's answer as the subscriber does.
    pub fn delivery(&mut self, p: usize, id: Id) -> Result<(), Broken> {
        let Some(mut delivery) = self.memory(p).deliveries.remove(&id) else {
            return Ok(());
        };
        match delivery.stage {
            Stage::Recording => {}
            Stage::Recorded => {
                for message in &delivery.messages {
                    // A lost acknowledgement costs a redelivery.
                    if self.stream_call().0 {
                        self.acknowledge(message)?;
                    }
                }
            }
            Stage::Unavailable => {
                for message in &delivery.messages {
                    let draw = self.rng.random_range(0.0..1.0);
                    let wait = REDELIVER.wait(message.times, draw);
                    let wait = wait.max(Duration::from_secs(1));
                    if self.stream_call().0 {
                        self.stream.nak(message.sequence, self.now + wait);
                    }
                }
            }
            Stage::Refused | Stage::Undecodable => {
                let outcome = self.transaction();
                let kept = !matches!(outcome, Outcome::NotCommitted(_));
                for event in delivery.messages.iter().map(|message| &message.event) {
                    if kept {
                        self.database.quarantine.insert(event.event_id);
                    }
                    // Our own events are in the cache, in flight.
                    let is_ours = event.source == Source::Api;
                    let is_refused = delivery.stage == Stage::Refused;
                    if matches!(outcome, Outcome::Committed) && is_refused && is_ours {
                        let pair = Pair {
                            resource: event.resource.clone(),
                            user_id: event.user_id.clone(),
                        };
                        let put_back = ToCache::Forget(pair, event.version);
                        self.memory(p).to_cache.push(put_back);
                    }
                }
                delivery.stage = match outcome {
                    Outcome::Committed => Stage::Recorded,
                    Outcome::AnswerLost(_) | Outcome::NotCommitted(_) => Stage::Unavailable,
                };
                self.memory(p).deliveries.insert(id, delivery);
            }
        }
        Ok(())
    }

    /// Checks that an event that leaves the stream is stored elsewhere.
    fn acknowledge(&mut self, message: &Delivered) -> Result<(), Broken> {
        let id = message.event.event_id;
        self.stream.acknowledge(message.sequence);
        if self.database.behaviors.contains_key(&id) || self.database.quarantine.contains(&id) {
            return Ok(());
        }
        Err(Broken::new(format!(
            "{id} left the stream, but is neither recorded nor in quarantine"
        )))
    }

    pub fn take_to_record(&mut self, p: usize) {
        let most = self.rng.random_range(1..=6);
        // Otherwise the sync publisher has no room, or the infrastructure failed before.
        let nothing_is_behind = self.rng.random_bool(0.7);
        let memory = self.memory(p);
        let most = most.min(memory.to_record.len());
        let batch: Vec<_> = memory.to_record.drain(..most).collect();
        let redelivered = batch.iter().any(|message| message.redelivered);
        let events = batch.iter().map(|message| message.events.len()).sum();
        memory.recording = Some(Recording {
            parts: Bisection::of(events),
            failures: Vec::new(),
            rows: Vec::new(),
            one_transaction: nothing_is_behind && !redelivered,
            settled: None,
            effects: Vec::new(),
            commit_unknown: false,
            answered: false,
            batch,
        });
    }

    /// The recorder's next step: one of its transactions, its answers, or the hand-over of rows or of the settlement.
    pub fn record(&mut self, p: usize) -> Result<(), Broken> {
        let Some(mut recording) = self.memory(p).recording.take() else {
            return Ok(());
        };
        if recording.one_transaction {
            recording.one_transaction = false;
            return self.record_and_sync(p, recording);
        }
        if let Some(part) = recording.parts.next_part() {
            let events = recording.batch.iter().flat_map(|message| &message.events);
            let events: Vec<&BehaviorEvent> = events.collect();
            let events = &events[part.clone()];
            let lease = self.lease();
            let outcome = self.transaction();
            let recorded = match outcome {
                Outcome::NotCommitted(error) => Err(error),
                Outcome::Committed => self.database.record(events, lease),
                Outcome::AnswerLost(error) => self.database.record(events, lease).and(Err(error)),
            };
            match recorded {
                Ok(recorded) => {
                    recording.rows.extend(recorded.rows);
                    for place in recorded.conflicts {
                        let conflict = (part.start + place, NotRecorded::Conflict);
                        recording.failures.push(conflict);
                    }
                }
                Err(error) if error.may_be_of_one_row() && recording.parts.halve(&part) => {}
                Err(error) => {
                    self.note_value(&error);
                    let failed = part.map(|place| (place, not_recorded(&error)));
                    recording.failures.extend(failed);
                }
            }
            self.memory(p).recording = Some(recording);
        } else if !recording.answered {
            recording.answered = true;
            if recording.effects.is_empty() {
                self.answer_all(p, &recording);
            } else if self.faults && self.rng.random_bool(0.1) {
                // The settlement takes too long.
                for (id, effect) in std::mem::take(&mut recording.effects) {
                    self.is_recorded(p, id, Some(effect), false);
                }
            }
            self.memory(p).recording = Some(recording);
        } else if let Some(settled) = recording.settled {
            let settle = ToCache::Settle(settled, recording.effects);
            self.memory(p).to_cache.push(settle);
        } else {
            if !self.faults || self.rng.random_bool(0.95) {
                self.memory(p).to_sync.extend(recording.rows);
            }
            // Otherwise the sync publisher has no room, and the rows stay in the ledger.
            if recording.commit_unknown {
                let events = recording.batch.iter().flat_map(|message| &message.events);
                let events: Vec<&BehaviorEvent> = events.collect();
                let unavailable = recording
                    .failures
                    .iter()
                    .filter(|(_, failure)| matches!(failure, NotRecorded::Unavailable(_)));
                let lost: Vec<_> = unavailable
                    .filter_map(|(place, _)| LedgerRow::born(events[*place], self.max_retries))
                    .collect();
                self.memory(p).to_sync.extend(lost);
            }
        }
        Ok(())
    }

    /// One transaction for both steps. Unless it commits, or the database cannot be reached, two steps follow.
    fn record_and_sync(&mut self, p: usize, mut recording: Recording) -> Result<(), Broken> {
        let events = recording.batch.iter().flat_map(|message| &message.events);
        let events: Vec<&BehaviorEvent> = events.collect();
        let banes = &self.database.banes;
        let kills = |event: &&BehaviorEvent| banes.get(&event.event_id) == Some(&Bane::Worker);
        if events.iter().any(kills) {
            self.memory(p).recording = Some(recording);
            self.crash(p);
            return Ok(());
        }
        let lease = self.lease();
        let asked = self.asked(&recording);
        let done = match self.transaction() {
            Outcome::NotCommitted(error) => Err(error),
            Outcome::Committed => self.database.record_and_sync(&events, lease)?,
            Outcome::AnswerLost(error) => {
                let done = self.database.record_and_sync(&events, lease)?;
                if let Ok(settled) = &done {
                    self.cache.leave_untold(entries_of(settled));
                }
                done.and(Err(error))
            }
        };
        let all = 0..events.len();
        match done {
            Ok(settled) => {
                let effect = |(id, pair, before): (Id, Pair, VersionedState)| {
                    let count = *settled.counts.get(&pair.resource)?;
                    Some((id, CommitEffect { before, count }))
                };
                recording.effects = asked.into_iter().filter_map(effect).collect();
                recording.settled = Some(settled);
                recording.parts = Bisection::of(0);
            }
            Err(error) => {
                self.note_value(&error);
                recording.commit_unknown = true;
                if matches!(error, StoreError::Unavailable(_)) {
                    let failed = all.map(|place| (place, not_recorded(&error)));
                    recording.failures.extend(failed);
                    recording.parts = Bisection::of(0);
                }
            }
        }
        self.memory(p).recording = Some(recording);
        Ok(())
    }

    /// Returns the requests of a batch that ask what the commit did to their pair, with the state before it.
    fn asked(&self, recording: &Recording) -> Vec<(Id, Pair, VersionedState)> {
        if !self.embedded {
            return Vec::new();
        }
        let asked = |record: &Record| {
            let (Asker::Request(id), [event]) = (record.asker, &*record.events) else {
                return None;
            };
            let pair = Pair::of(event);
            let before = self.database.mark(&pair);
            Some((id, pair, before))
        };
        recording.batch.iter().filter_map(asked).collect()
    }

    fn answer_all(&mut self, p: usize, recording: &Recording) {
        let mut first = 0;
        for message in &recording.batch {
            let places = first..first + message.events.len();
            let failures = recording.failures.iter();
            let failures = failures.filter(|(place, _)| places.contains(place));
            let failures = failures.map(|(place, failure)| (place - first, failure));
            self.answer(p, message.asker, &failures.collect());
            first = places.end;
        }
    }

    /// Answers a request that its event is recorded, with the effect of the commit, and whether that has settled the cache.
    pub fn is_recorded(
        &mut self,
        p: usize,
        id: Id,
        effect: Option<CommitEffect>,
        is_settled: bool,
    ) {
        let memory = self.memory(p);
        if let Some(request) = memory.requests.get_mut(&id) {
            request.durable = Durable::Reached;
            request.effect = effect;
            request.is_settled = is_settled;
            let event_id = request.event.event_id;
            self.acknowledged.insert(event_id);
        }
    }

    fn answer(&mut self, p: usize, asker: Asker, failures: &BTreeMap<usize, &NotRecorded>) {
        let memory = self.memory(p);
        match asker {
            Asker::Request(id) if failures.is_empty() => self.is_recorded(p, id, None, false),
            Asker::Request(id) => {
                if let Some(request) = memory.requests.get_mut(&id) {
                    request.durable = Durable::Nowhere;
                }
            }
            Asker::Delivery(id) => {
                let Some(delivery) = memory.deliveries.remove(&id) else {
                    return;
                };
                let mut stages = BTreeMap::<Stage, Vec<Delivered>>::new();
                for (place, message) in delivery.messages.into_iter().enumerate() {
                    let stage = match failures.get(&place) {
                        None => Stage::Recorded,
                        // The simulation rejects nothing temporarily.
                        Some(NotRecorded::Unavailable(_) | NotRecorded::Rejected(_)) => {
                            Stage::Unavailable
                        }
                        // It erases nobody.
                        Some(
                            NotRecorded::Refused(_)
                            | NotRecorded::Conflict
                            | NotRecorded::Erased(_),
                        ) => Stage::Refused,
                    };
                    stages.entry(stage).or_default().push(message);
                }
                for (stage, messages) in stages {
                    let id = memory.new_id();
                    memory.deliveries.insert(id, Delivery { messages, stage });
                }
            }
        }
    }

    /// Checks that every acknowledged event has completed or is dead.
    pub fn every_acknowledged_event_has_arrived(&self) -> Result<(), Broken> {
        let arrived: BTreeSet<&Uuid> = self.database.behaviors.keys().collect();
        for id in &self.acknowledged {
            if self.stream.owes(*id) {
                return Err(Broken::new(format!("{id} is still in the stream")));
            }
            if !arrived.contains(id) && !self.database.quarantine.contains(id) {
                return Err(Broken::new(format!("{id} was acknowledged, and is gone")));
            }
        }
        Ok(())
    }

    /// Advances the clock until something is due.
    pub fn wait_for_what_is_due(&mut self) -> bool {
        let rows = self.database.ledger.values();
        let due = rows.filter_map(|row| row.next_attempt_at).min();
        let Some(next) = due.into_iter().chain(self.stream.next_delivery()).min() else {
            return false;
        };
        self.now = self.now.max(next) + TimeDelta::milliseconds(1);
        true
    }
}

fn not_recorded(error: &StoreError) -> NotRecorded {
    match error.kind() {
        FailureKind::Infrastructure => NotRecorded::Unavailable(error.to_string()),
        FailureKind::Rejected => NotRecorded::Rejected(error.to_string()),
        FailureKind::Invalid => NotRecorded::Refused(error.to_string()),
    }
}
