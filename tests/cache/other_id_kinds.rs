//! A cache whose users are UUIDs and whose resources have text ids, behind the numbers that the tests use. So the suite
//! and the twins run on other kinds of ids as well.

use std::collections::BTreeMap;

use likewise::cache::{
    Cache, CacheFuture, CountFilling, Filled, Filling, Opened, OpenedPair, Scanned, Settlement,
    UserFilling,
};
use likewise::domain::{
    Applied, CountView, DataSubject, EntryId, EntryView, Id, Pair, Reading, Resource, UserId,
    UserView, Version, VersionedState,
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

fn renamed(events: &[(Pair, VersionedState)]) -> Vec<(Pair, VersionedState)> {
    let events = events.iter();
    events.map(|(of, state)| (pair(of), *state)).collect()
}

fn resources(of: &[Resource]) -> Vec<Resource> {
    of.iter().map(resource).collect()
}

fn entry(of: &EntryId) -> EntryId {
    match of {
        EntryId::User(id) => EntryId::User(user(id)),
        EntryId::Count(of) => EntryId::Count(resource(of)),
    }
}

fn entry_back(of: &EntryId) -> EntryId {
    match of {
        EntryId::User(id) => EntryId::User(user_back(id)),
        EntryId::Count(of) => EntryId::Count(resource_back(of)),
    }
}

fn entries(of: &[EntryId]) -> Vec<EntryId> {
    of.iter().map(entry).collect()
}

fn view_back(view: EntryView) -> EntryView {
    match view {
        EntryView::User(view) => EntryView::User(UserView {
            pairs: view
                .pairs
                .iter()
                .map(|(of, pair)| (resource_back(of), *pair))
                .collect(),
            ..view
        }),
        EntryView::Count(view) => EntryView::Count(CountView {
            in_flight: view
                .in_flight
                .iter()
                .map(|(id, event)| (user_back(id), *event))
                .collect(),
            ..view
        }),
    }
}

impl<C: Cache> Cache for OtherIds<C> {
    fn ping(&self) -> CacheFuture<'_, ()> {
        self.0.ping()
    }

    fn read<'a>(
        &'a self,
        user_id: Option<&'a UserId>,
        of: &'a [Resource],
        now: Version,
    ) -> CacheFuture<'a, Vec<Reading>> {
        let (user_id, of) = (user_id.map(user), resources(of));
        Box::pin(async move { self.0.read(user_id.as_ref(), &of, now).await })
    }

    fn apply_and_open<'a>(
        &'a self,
        events: &'a [(Pair, VersionedState)],
        now: Version,
    ) -> CacheFuture<'a, Vec<(Applied, Option<OpenedPair>)>> {
        let events = renamed(events);
        Box::pin(async move { self.0.apply_and_open(&events, now).await })
    }

    fn settle<'a>(
        &'a self,
        settlements: &'a BTreeMap<Resource, Settlement>,
        now: Version,
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
        Box::pin(async move { self.0.settle(&settlements, now).await })
    }

    fn forget<'a>(&'a self, events: &'a [(Pair, Version)], now: Version) -> CacheFuture<'a, ()> {
        let events: Vec<_> = events
            .iter()
            .map(|(of, version)| (pair(of), *version))
            .collect();
        Box::pin(async move { self.0.forget(&events, now).await })
    }

    fn open<'a>(&'a self, users: &'a [UserId], of: &'a [Resource]) -> CacheFuture<'a, Opened> {
        let users: Vec<UserId> = users.iter().map(user).collect();
        let of = resources(of);
        Box::pin(async move { self.0.open(&users, &of).await })
    }

    fn fill_and_apply<'a>(&'a self, filling: &'a Filling, now: Version) -> CacheFuture<'a, Filled> {
        let users = filling.users.iter().map(|filling| UserFilling {
            user_id: user(&filling.user_id),
            rows: filling
                .rows
                .iter()
                .map(|(of, state)| (resource(of), *state))
                .collect(),
            ..filling.clone()
        });
        let counts = filling.counts.iter().map(|filling| CountFilling {
            resource: resource(&filling.resource),
            ..filling.clone()
        });
        let filling = Filling {
            users: users.collect(),
            counts: counts.collect(),
            events: renamed(&filling.events),
        };
        Box::pin(async move { self.0.fill_and_apply(&filling, now).await })
    }

    fn overdue<'a>(
        &'a self,
        of: &'a Resource,
        before: Version,
        limit: usize,
        now: Version,
    ) -> CacheFuture<'a, Vec<(UserId, Version)>> {
        let of = resource(of);
        Box::pin(async move {
            let found = self.0.overdue(&of, before, limit, now).await?;
            let back = found.iter().map(|(id, version)| (user_back(id), *version));
            Ok(back.collect())
        })
    }

    fn drop_entries<'a>(&'a self, of: &'a [EntryId]) -> CacheFuture<'a, ()> {
        let of = entries(of);
        Box::pin(async move { self.0.drop_entries(&of).await })
    }

    fn scan(&self, cursor: u64, count: usize) -> CacheFuture<'_, Scanned> {
        Box::pin(async move {
            let found = self.0.scan(cursor, count).await?;
            Ok(Scanned {
                entries: found.entries.iter().map(entry_back).collect(),
                cursor: found.cursor,
            })
        })
    }

    fn inspect<'a>(&'a self, of: &'a [EntryId]) -> CacheFuture<'a, Vec<Option<EntryView>>> {
        let of = entries(of);
        Box::pin(async move {
            let views = self.0.inspect(&of).await?;
            Ok(views.into_iter().map(|view| view.map(view_back)).collect())
        })
    }

    fn name<'a>(
        &'a self,
        of: &'a [EntryId],
        subject: &'a DataSubject,
    ) -> CacheFuture<'a, Vec<bool>> {
        let of = entries(of);
        let subject = match subject {
            DataSubject::User(id) => DataSubject::User(user(id)),
            DataSubject::Resource(of) => DataSubject::Resource(resource(of)),
        };
        Box::pin(async move { self.0.name(&of, &subject).await })
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
