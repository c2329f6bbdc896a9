//! Lists of likes and of the most liked resources: in order, page after page, also among equal versions and counts.

use std::collections::BTreeSet;

use likewise::domain::{Action, Id, IdKind, Resource, ResourceType, Version};
use likewise::store::Cursor;

use super::fixture::{Bench, comment, own};

matrix!(&[sqlite, mariadb, postgres]:
    likers_and_likes_are_paged_newest_first,
    top_list_is_paged_by_like_count,
);

/// Reads every page of a list, until one is empty.
fn pages<T: Clone>(mut page: impl FnMut(Option<&T>) -> Vec<T>) -> Vec<T> {
    let mut all: Vec<T> = Vec::new();
    loop {
        let next = page(all.last());
        if next.is_empty() {
            return all;
        }
        assert!(next.len() <= 2);
        all.extend(next);
    }
}

fn likers_and_likes_are_paged_newest_first(bench: &Bench) {
    let mut events = Vec::new();
    for user in 1..=4 {
        for video in [1, 2, i64::MAX] {
            // Several likes of one version, which other users and videos share.
            events.push(own(
                user.into(),
                Resource::video(video),
                Action::Like,
                17 + user % 2,
            ));
        }
    }
    events.push(own(3.into(), Resource::video(1), Action::Unlike, 30));
    events.push(own(1.into(), Resource::video(2), Action::Unlike, 30));
    events.push(own(1.into(), Resource::video(2), Action::Like, 31));
    events.push(own(1.into(), comment(9), Action::Like, 17));
    let rows = bench.record(&events);
    bench.sync(&rows);

    let likers = |id| {
        let resource = Resource::video(id);
        pages(|last| {
            let below = last.map_or_else(start, |(user_id, since)| Cursor {
                since: Version(*since),
                id: Id::Number(*user_id),
            });
            let page = bench.ask(|store| store.likers(&resource, &below, 2));
            let one = |(pair, since): &(likewise::domain::Pair, Version)| {
                assert_eq!(pair.resource, Resource::video(id));
                (number(&pair.user_id), since.0)
            };
            page.iter().map(one).collect()
        })
    };
    assert_eq!(likers(1), [(1, 18), (4, 17), (2, 17)]);
    assert_eq!(likers(2), [(1, 31), (3, 18), (4, 17), (2, 17)]);
    assert_eq!(likers(i64::MAX), [(3, 18), (1, 18), (4, 17), (2, 17)]);
    assert_eq!(likers(3), []);

    let liked_by = |user: i64, resource_type| {
        let user = Id::Number(user);
        pages(|last| {
            let below = last.map_or_else(start, |(id, since)| Cursor {
                since: Version(*since),
                id: Id::Number(*id),
            });
            let page = bench.ask(|store| store.liked_by(&user, resource_type, &below, 2));
            let one = |(pair, since): &(likewise::domain::Pair, Version)| {
                assert_eq!(pair.user_id, user);
                assert_eq!(pair.resource.resource_type, resource_type);
                (number(&pair.resource.id), since.0)
            };
            page.iter().map(one).collect()
        })
    };
    let video = ResourceType::VIDEO;
    assert_eq!(liked_by(1, video), [(2, 31), (i64::MAX, 18), (1, 18)]);
    assert_eq!(liked_by(3, video), [(i64::MAX, 18), (2, 18)]);
    assert_eq!(liked_by(1, ResourceType::COMMENT), [(9, 17)]);

    let (one, nine) = (Id::Number(1), Id::Number(9));
    let from = |offset| {
        let page = bench.ask(|store| store.liked_by_from(&one, video, offset, 2));
        page.iter()
            .map(|(pair, _)| number(&pair.resource.id))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        (from(0), from(2), from(3)),
        (vec![2, i64::MAX], vec![1], vec![])
    );
    assert_eq!(bench.ask(|store| store.liked_total(&one, video)), 3);
    assert_eq!(bench.ask(|store| store.liked_total(&nine, video)), 0);
}

fn number(id: &Id) -> i64 {
    id.number().expect("a number")
}

fn start() -> Cursor {
    Cursor::start(IdKind::Number)
}

fn top_list_is_paged_by_like_count(bench: &Bench) {
    let likes = [(1, 2), (2, 3), (3, 2), (i64::MAX, 1)];
    let mut events = Vec::new();
    for (video, count) in likes {
        for user in 1..=count {
            events.push(own(user.into(), Resource::video(video), Action::Like, 17));
        }
    }
    for user in 1..=9 {
        events.push(own(user.into(), comment(8), Action::Like, 17));
    }
    // A resource without likes is not listed.
    events.push(own(1.into(), Resource::video(4), Action::Like, 17));
    events.push(own(1.into(), Resource::video(4), Action::Unlike, 18));
    let rows = bench.record(&events);
    bench.sync(&rows);
    let top = pages(|last| {
        let (like_count, id) = last.copied().unwrap_or((i64::MAX, i64::MAX));
        let id = Id::Number(id);
        let page = bench.ask(|store| store.most_liked(ResourceType::VIDEO, (like_count, &id), 2));
        page.iter()
            .map(|(resource, count)| (count.like_count, number(&resource.id)))
            .collect()
    });
    assert_eq!(top, [(3, 2), (2, 3), (2, 1), (1, i64::MAX)]);
    let last = Id::Number(i64::MAX);
    let comments = bench.ask(|store| store.most_liked(ResourceType::COMMENT, (i64::MAX, &last), 9));
    let ids: BTreeSet<_> = comments
        .iter()
        .map(|(resource, _)| number(&resource.id))
        .collect();
    assert_eq!(ids, BTreeSet::from([8]));
}
