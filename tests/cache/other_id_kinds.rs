//! A cache whose users are UUIDs and whose resources have text ids, behind the numbers that the tests use. So the suite
//! and the twins run on other kinds of ids as well.

use std::collections::BTreeMap;

use likewise::cache::{Cache, CacheFuture, Filling, Incarnation, Scanned, Settlement};
use likewise::domain::{
    Applied, EntryView, Id, Pair, Reading, Resource, UserId, Version, VersionedState,
};

/// The cache, with other ids than its callers have.
pub struct OtherIds<C>(pub C);

/// Characters that a key could misread surround the number.
const BEFORE: &str = "}{:a/ü";

fn user(id: &UserId) -> UserId {
    let number = id.number().expect("the tests have numbers");
    Id::from(&*format!("00000000-0000-4000-8000-{number:012x}"))
}

fn user_back(id: &UserId) -> UserId {
    let text = id.text();
    let (_, digits) = text.rsplit_once('-').expect("a UUID");
    Id::Number(i64::from_str_radix(digits, 16).expect("a number"))
}

fn resource(of: &Resource) -> Resource {
    let number = of.id.number().expect("the tests have numbers");
    Resource {
        resource_type: of.resource_type,
        id: Id::from(&*format!("{BEFORE}{number}")),
    }
}

fn resource_back(of: &Resource) -> Resource {
    let text = of.id.text();
    let digits = text.strip_prefix(BEFORE).expect("an id of this cache");
    Resource {
        resource_type: of.resource_type,
        id: Id::Number(digits.parse().expect("a number")),
    }
}

fn pair(of: &Pair) -> Pair {
    Pair {
        resource: resource(&of.resource),
        user_id: user(&of.user_id),
    }
}

fn resources(of: &[Resource]) -> Vec<Resource> {
    of.iter().map(resource).collect()
}

impl<C: Cache> Cache for OtherIds<C> {
    fn ping(&self) -> CacheFuture<'_, ()> {
        self.0.ping()
    }

    fn read<'a>(&'a self, pairs: &'a [Pair]) -> CacheFuture<'a, Vec<Reading>> {
        let pairs: Vec<_> = pairs.iter().map(pair).collect();
        Box::pin(async move { self.0.read(&pairs).await })
    }

    fn counts<'a>(&'a self, of: &'a [Resource]) -> CacheFuture<'a, Vec<Option<i64>>> {
        let of = resources(of);
        Box::pin(async move { self.0.counts(&of).await })
    }

    fn apply<'a>(&'a self, events: &'a [(Pair, VersionedState)]) -> CacheFuture<'a, Vec<Applied>> {
        let events: Vec<_> = events
            .iter()
            .map(|(of, state)| (pair(of), *state))
            .collect();
        Box::pin(async move { self.0.apply(&events).await })
    }

    fn settle<'a>(
        &'a self,
        settlements: &'a BTreeMap<Resource, Settlement>,
    ) -> CacheFuture<'a, ()> {
        let renamed = settlements.iter().map(|(of, settlement)| {
            let states = settlement.states.iter();
            let settlement = Settlement {
                states: states.map(|(id, state)| (user(id), *state)).collect(),
                count: settlement.count,
            };
            (resource(of), settlement)
        });
        let settlements: BTreeMap<_, _> = renamed.collect();
        Box::pin(async move { self.0.settle(&settlements).await })
    }

    fn forget<'a>(&'a self, events: &'a [(Pair, Version)]) -> CacheFuture<'a, ()> {
        let events: Vec<_> = events
            .iter()
            .map(|(of, version)| (pair(of), *version))
            .collect();
        Box::pin(async move { self.0.forget(&events).await })
    }

    fn open<'a>(&'a self, of: &'a [Resource]) -> CacheFuture<'a, Vec<Incarnation>> {
        let of = resources(of);
        Box::pin(async move { self.0.open(&of).await })
    }

    fn fill<'a>(&'a self, fillings: &'a [Filling]) -> CacheFuture<'a, Vec<Option<Reading>>> {
        let renamed = fillings.iter().map(|filling| Filling {
            resource: resource(&filling.resource),
            state: filling.state.as_ref().map(|(id, state)| (user(id), *state)),
            ..filling.clone()
        });
        let fillings: Vec<_> = renamed.collect();
        Box::pin(async move { self.0.fill(&fillings).await })
    }

    fn drop_entries<'a>(&'a self, of: &'a [Resource]) -> CacheFuture<'a, ()> {
        let of = resources(of);
        Box::pin(async move { self.0.drop_entries(&of).await })
    }

    fn scan(&self, cursor: u64, count: usize) -> CacheFuture<'_, Scanned> {
        Box::pin(async move {
            let found = self.0.scan(cursor, count).await?;
            Ok(Scanned {
                resources: found.resources.iter().map(resource_back).collect(),
                cursor: found.cursor,
            })
        })
    }

    fn inspect<'a>(&'a self, of: &'a [Resource]) -> CacheFuture<'a, Vec<Option<EntryView>>> {
        let of = resources(of);
        Box::pin(async move {
            let views = self.0.inspect(&of).await?;
            let back = |view: EntryView| EntryView {
                pairs: view
                    .pairs
                    .iter()
                    .map(|(id, pair)| (user_back(id), *pair))
                    .collect(),
                ..view
            };
            Ok(views.into_iter().map(|view| view.map(back)).collect())
        })
    }

    fn clear(&self) -> CacheFuture<'_, ()> {
        self.0.clear()
    }

    fn restarted(&self) -> CacheFuture<'_, bool> {
        self.0.restarted()
    }

    fn kind(&self) -> &'static str {
        self.0.kind()
    }
}
