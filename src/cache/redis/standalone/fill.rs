//! Packs fillings, and the events that wait for them, into calls of the script.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use crate::cache::redis::call::{Call, PAIRS_PER_CALL};
use crate::cache::redis::keys::Keys;
use crate::cache::{CountFilling, Filling, UserFilling};
use crate::domain::{Pair, Resource, UserId, VersionedState};

/// What an answer of the script is about, by its place in a [`Filling`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Item {
    User(usize),
    Count(usize),
    Event(usize),
}

/// One call, and what its answers are about.
pub(super) struct FillCall {
    pub(super) call: Call,
    pub(super) items: Vec<Item>,
}

/// Returns the calls of a filling. An event is in the call that fills its entries, or in a later one.
pub(super) fn fill_calls(keys: &Keys, filling: &Filling) -> Vec<FillCall> {
    let mut packing = Packing::new(keys, filling);
    let users = places(filling.users.iter().map(|filling| &filling.user_id));
    let counts = places(filling.counts.iter().map(|filling| &filling.resource));
    for (place, (pair, _)) in filling.events.iter().enumerate() {
        if let Some(user) = users.get(&pair.user_id) {
            packing.add_user(*user);
        }
        if let Some(count) = counts.get(&pair.resource) {
            packing.add_count(*count);
        }
        packing.part.events.push(place);
        packing.weigh(1);
    }
    for place in 0..filling.users.len() {
        packing.add_user(place);
        packing.weigh(0);
    }
    for place in 0..filling.counts.len() {
        packing.add_count(place);
        packing.weigh(0);
    }
    packing.close();
    packing.calls
}

fn places<T: std::hash::Hash + Eq>(
    items: impl Iterator<Item = T>,
) -> HashMap<T, usize, RandomState> {
    items
        .enumerate()
        .map(|(place, item)| (item, place))
        .collect()
}

/// What goes into the next call.
#[derive(Default)]
struct Part {
    users: Vec<usize>,
    counts: Vec<usize>,
    events: Vec<usize>,
    weight: usize,
}

struct Packing<'a> {
    keys: &'a Keys,
    filling: &'a Filling,
    packed_users: Vec<bool>,
    packed_counts: Vec<bool>,
    part: Part,
    calls: Vec<FillCall>,
}

impl<'a> Packing<'a> {
    fn new(keys: &'a Keys, filling: &'a Filling) -> Self {
        Self {
            keys,
            filling,
            packed_users: vec![false; filling.users.len()],
            packed_counts: vec![false; filling.counts.len()],
            part: Part::default(),
            calls: Vec::new(),
        }
    }

    fn add_user(&mut self, place: usize) {
        if !std::mem::replace(&mut self.packed_users[place], true) {
            self.part.users.push(place);
            self.part.weight += 1 + self.filling.users[place].rows.len();
        }
    }

    fn add_count(&mut self, place: usize) {
        if !std::mem::replace(&mut self.packed_counts[place], true) {
            self.part.counts.push(place);
            self.part.weight += 1;
        }
    }

    /// Adds to the weight of the part, and closes it once it is full: Redis runs nothing else during a call.
    fn weigh(&mut self, more: usize) {
        self.part.weight += more;
        if self.part.weight >= 2 * PAIRS_PER_CALL {
            self.close();
        }
    }

    fn close(&mut self) {
        let part = std::mem::take(&mut self.part);
        let items = part.users.iter().map(|place| Item::User(*place));
        let items = items.chain(part.counts.iter().map(|place| Item::Count(*place)));
        let items = items.chain(part.events.iter().map(|place| Item::Event(*place)));
        let items: Vec<Item> = items.collect();
        if items.is_empty() {
            return;
        }
        let users = part.users.iter().map(|place| &self.filling.users[*place]);
        let counts = part.counts.iter().map(|place| &self.filling.counts[*place]);
        let events = part.events.iter().map(|place| &self.filling.events[*place]);
        let call = render(self.keys, users, counts, events);
        self.calls.push(FillCall { call, items });
    }
}

fn render<'a>(
    keys: &Keys,
    users: impl ExactSizeIterator<Item = &'a UserFilling>,
    counts: impl ExactSizeIterator<Item = &'a CountFilling>,
    events: impl ExactSizeIterator<Item = &'a (Pair, VersionedState)>,
) -> Call {
    let mut call = Call::new(users.len() + counts.len() + events.len());
    let mut user_places: HashMap<&UserId, usize, RandomState> = HashMap::default();
    let mut count_places: HashMap<&Resource, usize, RandomState> = HashMap::default();
    call.size(users.len());
    call.size(counts.len());
    for filling in users {
        call.user_filling(keys, filling);
        user_places.insert(&filling.user_id, call.keys());
    }
    for filling in counts {
        call.count_filling(keys, filling);
        count_places.insert(&filling.resource, call.keys());
    }
    for (pair, state) in events {
        // An earlier call may have filled the entry.
        let user = *user_places.entry(&pair.user_id).or_insert_with(|| {
            call.user(keys, &pair.user_id);
            call.keys()
        });
        let count = *count_places.entry(&pair.resource).or_insert_with(|| {
            call.count(keys, &pair.resource);
            call.keys()
        });
        call.size(user);
        call.size(count);
        call.state(*state);
    }
    call
}
