//! During concurrent likes and unlikes, a user's reads show its own requests at once. When the pipeline is idle, all
//! reads are exact. Pages neither skip nor repeat unchanged entries.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rand::RngExt;
use rand::rngs::SmallRng;
use rand::seq::{IndexedRandom, SliceRandom};
use serde_json::{Value, json};

use crate::support::checks::pipeline_drains;
use crate::support::http::Client;
use crate::support::matrix::Backends;
use crate::support::service::{Service, Setup};
use crate::support::{seed, until_equal};

/// A resource: its type in the path without the s, and its id.
type Resource = (&'static str, i64);

/// The likes of each user: when the like that is in effect was sent, in the order of that user's requests. A repeated
/// like keeps its place.
type Model = BTreeMap<(i64, Resource), Option<usize>>;

/// The resources that every user likes and unlikes.
const RESOURCES: [Resource; 9] = [
    ("video", 1),
    ("video", 2),
    ("video", 3),
    ("video", 4),
    ("video", i64::MAX),
    ("comment", 1),
    ("comment", 2),
    ("comment", 3),
    ("comment", 4),
];

/// The resources that stay unchanged: video 100 + n has n likes.
const STILL: std::ops::RangeInclusive<i64> = 101..=112;

const WRITERS: i64 = 4;
const USERS_EACH: i64 = 6;
const WRITES_EACH: usize = 150;

/// Users who change nothing after the beginning.
fn still_users() -> Vec<i64> {
    (1_001..=1_025).collect()
}

fn send(client: &Client, method: &str, user: i64, (resource_type, id): Resource) {
    let path = format!("/v1/{resource_type}s/{id}/like");
    client.as_user(user).send(method, &path, &[]).ok();
}

/// The likes of a page, in the order of the resources.
fn status(client: &Client, user: i64, page: &[Resource]) -> Vec<(bool, Option<i64>)> {
    let items: Vec<Value> = page
        .iter()
        .map(|(resource_type, id)| json!({"resource_type": resource_type, "resource_id": id}))
        .collect();
    let client = client.as_user(user);
    let answer = client
        .post("/v1/likes/status", json!({ "items": items }))
        .ok();
    assert_eq!(answer["user_id"], user);
    let found = answer["items"].as_array().expect("items");
    assert_eq!(found.len(), page.len());
    let one = |((resource_type, id), item): (&Resource, &Value)| {
        assert_eq!(item["resource_type"], *resource_type);
        assert_eq!(item["resource_id"], *id);
        let liked = item["liked"].as_bool().expect("liked or not");
        (liked, item["like_count"].as_i64())
    };
    page.iter().zip(found).map(one).collect()
}

/// Every page of a list, with this many entries each.
fn walk(client: &Client, path: &str, field: &str, limit: usize, user: i64) -> Vec<Value> {
    let client = client.as_user(user);
    let mut all = Vec::new();
    let mut cursor = String::new();
    loop {
        let mark = if path.contains('?') { '&' } else { '?' };
        let page = format!("{path}{mark}limit={limit}{cursor}");
        let answer = client.get(&page).ok();
        let entries = answer[field].as_array().expect("entries").clone();
        let next = answer["next_cursor"].as_str();
        assert!(entries.len() <= limit);
        assert!(next.is_none() || entries.len() == limit, "{answer}");
        all.extend(entries);
        match next {
            None => return all,
            Some(next) => cursor = format!("&cursor={next}"),
        }
    }
}

fn number(value: &Value, field: &str) -> i64 {
    value[field].as_i64().expect("a number")
}

fn numbers(values: &[Value], field: &str) -> Vec<i64> {
    values.iter().map(|value| number(value, field)).collect()
}

/// Checks that entries are newest first, without duplicates.
#[track_caller]
fn is_in_order(likes: &[Value], key: impl Fn(&Value) -> (String, i64)) {
    let moments = likes.iter().map(|like| like["liked_at"].to_string());
    assert!(moments.is_sorted_by(|one, next| one >= next), "{likes:?}");
    let keys: BTreeSet<_> = likes.iter().map(&key).collect();
    assert_eq!(keys.len(), likes.len(), "something comes twice: {likes:?}");
}

fn resource_key(like: &Value) -> (String, i64) {
    let resource_type = like["resource_type"].to_string();
    (resource_type, number(like, "resource_id"))
}

/// The likes that never change, between those of users who will change theirs.
fn begin(client: &Client, model: &mut Model, rng: &mut SmallRng) {
    let mut likes: Vec<(i64, Resource)> = Vec::new();
    let still = still_users();
    for resource in RESOURCES {
        likes.extend(still.iter().map(|user| (*user, resource)));
        likes.extend((1..=WRITERS * USERS_EACH).map(|user| (user, resource)));
    }
    for video in STILL {
        let users = still.iter().take(video as usize - 100);
        likes.extend(users.map(|user| (*user, ("video", video))));
    }
    likes.shuffle(rng);
    let behaviors = likes.iter().map(|(user, (resource_type, id))| {
        json!({
            "user_id": user, "resource_type": resource_type, "resource_id": id, "behavior": "like"
        })
    });
    let body = json!({ "behaviors": behaviors.collect::<Vec<_>>() });
    let answer = client.post("/v1/likes", body).json();
    assert_eq!(answer["accepted"], likes.len(), "{answer}");
    let ordered = likes.iter().enumerate();
    model.extend(ordered.map(|(sent, like)| (*like, Some(sent))));
}

/// Sends likes and unlikes for its own users, who see their effect at once. What a cache that failed has not taken,
/// they see after its commit.
fn write(service: &Service, users: &[i64], mut rng: SmallRng, model: &mut Model) {
    let client = &service.client();
    let before = model.values().flatten().max().copied().unwrap_or(0);
    for sent in (before + 1..).take(WRITES_EACH) {
        let user = *users.choose(&mut rng).expect("a user");
        let resource = *RESOURCES.choose(&mut rng).expect("a resource");
        let like = rng.random_bool(0.5);
        send(client, if like { "PUT" } else { "DELETE" }, user, resource);
        let liked = model.entry((user, resource)).or_default();
        *liked = like.then(|| liked.unwrap_or(sent));
        // A page with every resource, some of them twice, and one without likes.
        let mut page: Vec<Resource> = RESOURCES.to_vec();
        page.extend(RESOURCES.sample(&mut rng, 3));
        page.push(("video", rng.random_range(1_000_000..2_000_000)));
        page.shuffle(&mut rng);
        let is_liked = |resource: &Resource| model.get(&(user, *resource)).copied().flatten();
        let expected: Vec<bool> = page.iter().map(|one| is_liked(one).is_some()).collect();
        let read = || -> Vec<bool> {
            let items = status(client, user, &page).into_iter();
            items.map(|(liked, _)| liked).collect()
        };
        let shown = read();
        if shown != expected && !service.logged("dependency=cache").is_empty() {
            until_equal("the likes to be read after their commit", expected, read);
        } else {
            assert_eq!(shown, expected, "user {user}, {page:?}");
        }
    }
}

/// Reads lists while other threads write. Each unchanged entry appears once and in its place.
fn read(client: &Client, mut rng: SmallRng, expected: &BTreeMap<Resource, Vec<i64>>) {
    let still = still_users();
    let (resource_type, id) = *RESOURCES.choose(&mut rng).expect("a resource");
    let limit = rng.random_range(1..=9);
    let path = format!("/v1/{resource_type}s/{id}/likes");
    let likers = walk(client, &path, "likes", limit, 1);
    is_in_order(&likers, |like| (String::new(), number(like, "user_id")));
    let mut found = numbers(&likers, "user_id");
    found.retain(|user| still.contains(user));
    assert_eq!(
        found,
        expected[&(resource_type, id)],
        "{path}, limit {limit}"
    );

    let user = rng.random_range(1..=WRITERS * USERS_EACH);
    let likes = walk(client, "/v1/users/me/likes", "likes", limit, user);
    is_in_order(&likes, resource_key);

    let top = walk(client, "/v1/videos/top", "resources", limit, 1);
    let counts = numbers(&top, "like_count");
    assert!(counts.is_sorted_by(|one, next| one >= next), "{top:?}");
    let ids = numbers(&top, "resource_id");
    let found: Vec<_> = ids.into_iter().filter(|id| STILL.contains(id)).collect();
    assert_eq!(found, STILL.rev().collect::<Vec<_>>());
}

/// The likes of the unchanged users in the database, newest first.
fn still_likers(service: &Service) -> BTreeMap<Resource, Vec<i64>> {
    let still = still_users();
    let likers = |(resource_type, id): Resource| {
        let sql = format!(
            "SELECT user_id FROM {resource_type}_likes WHERE {resource_type}_id = {id} \
             AND deleted_at IS NULL ORDER BY created_at DESC, user_id DESC"
        );
        let rows = service.database().rows(&sql);
        let users = rows.iter().map(|row| row[0].number());
        users.filter(|user| still.contains(user)).collect()
    };
    RESOURCES
        .map(|resource| (resource, likers(resource)))
        .into()
}

/// When the pipeline is idle, every answer equals the model's.
fn equals(service: &Service, model: &Model) {
    let client = service.client();
    pipeline_drains(service);
    let counted = |resource: Resource| {
        let of_it = model
            .iter()
            .filter(|((_, of), liked)| *of == resource && liked.is_some());
        of_it.map(|((user, _), _)| *user).collect::<BTreeSet<_>>()
    };
    let mut page: Vec<Resource> = RESOURCES.to_vec();
    page.extend(STILL.map(|video| ("video", video)));
    let users: BTreeSet<i64> = model.keys().map(|(user, _)| *user).collect();
    for user in &users {
        let expected: Vec<_> = page
            .iter()
            .map(|resource| {
                let liked = model.get(&(*user, *resource)).copied().flatten();
                (liked.is_some(), Some(counted(*resource).len() as i64))
            })
            .collect();
        // The cache is settled after the commit that closes the ledger.
        until_equal(
            "the likes of a page to be those of the model",
            expected,
            || status(&client, *user, &page),
        );
        // The likes of the user, the newest first.
        let liked: BTreeMap<_, _> = model
            .iter()
            .filter(|((of, _), _)| of == user)
            .filter_map(|((_, (resource_type, id)), liked)| {
                Some((liked.as_ref()?, (json!(resource_type).to_string(), *id)))
            })
            .collect();
        let liked: Vec<_> = liked.into_values().rev().collect();
        for (filter, word) in [
            ("", ""),
            ("?resource_type=video", "video"),
            ("?resource_type=comment", "comment"),
        ] {
            let path = format!("/v1/users/{user}/likes{filter}");
            let likes = walk(&client, &path, "likes", 1 + (*user as usize) % 7, *user);
            is_in_order(&likes, resource_key);
            let found: Vec<_> = likes.iter().map(resource_key).collect();
            let of_type = liked
                .iter()
                .filter(|(of, _)| word.is_empty() || of.contains(word));
            assert_eq!(found, of_type.cloned().collect::<Vec<_>>(), "{path}");
        }
    }
    for (resource_type, id) in &page {
        for limit in [1, 7, 200] {
            let path = format!("/v1/{resource_type}s/{id}/likes");
            let likers = walk(&client, &path, "likes", limit, 1);
            is_in_order(&likers, |like| (String::new(), number(like, "user_id")));
            let found: BTreeSet<_> = numbers(&likers, "user_id").into_iter().collect();
            assert_eq!(found, counted((resource_type, *id)), "{path}");
        }
    }
    for (path, word) in [("/v1/videos/top", "video"), ("/v1/comments/top", "comment")] {
        let of_type = page.iter().filter(|(of, _)| *of == word);
        let mut expected: Vec<_> = of_type
            .map(|(of, id)| (counted((of, *id)).len() as i64, *id))
            .filter(|(count, _)| *count > 0)
            .collect();
        expected.sort_unstable_by(|one, other| other.cmp(one));
        for limit in [1, 3, 200] {
            let top = walk(&client, path, "resources", limit, 1);
            let found: Vec<_> = top
                .iter()
                .map(|item| (number(item, "like_count"), number(item, "resource_id")))
                .collect();
            assert_eq!(found, expected, "{path}, limit {limit}");
        }
    }
    service.setup().verify(30).holds();
}

/// Empties the cache of a service, so that it must look up everything.
fn empty_the_cache(service: Service) -> Service {
    if !service.setup().has_broker() {
        return service.stop().start();
    }
    let redis = service.setup().setting("LIKEWISE_REDIS_URL");
    let client = redis::Client::open(redis).expect("an address");
    let mut connection = client.get_connection().expect("a connection");
    let flushed = redis::cmd("FLUSHALL").query(&mut connection);
    let () = flushed.expect("an answer");
    service
}

matrix!([embedded, mariadb_stack]: concurrent_reads_are_consistent);

fn concurrent_reads_are_consistent(backends: Backends) {
    let test = backends.name;
    let mut rng = seed::rng(test);
    let mut service = Setup::from(backends).start();
    let mut model = Model::new();
    begin(&service.client(), &mut model, &mut rng);
    pipeline_drains(&service);
    for round in 0..2 {
        let expected = still_likers(&service);
        let writing = AtomicUsize::new(WRITERS as usize);
        let reading = AtomicBool::new(false);
        let written: Vec<Model> = std::thread::scope(|scope| {
            let writers: Vec<_> = (0..WRITERS)
                .map(|writer| {
                    let users: Vec<_> = (1..=USERS_EACH).map(|n| writer * USERS_EACH + n).collect();
                    let rng = seed::rng(&format!("{test}, writer {writer}, round {round}"));
                    let of_it = model.iter().filter(|((user, _), _)| users.contains(user));
                    let mut model: Model = of_it.map(|(pair, liked)| (*pair, *liked)).collect();
                    let (service, writing) = (&service, &writing);
                    scope.spawn(move || {
                        write(service, &users, rng, &mut model);
                        writing.fetch_sub(1, Ordering::Relaxed);
                        model
                    })
                })
                .collect();
            for reader in 0..2 {
                let (client, writing, reading) = (service.client(), &writing, &reading);
                let expected = &expected;
                scope.spawn(move || {
                    let mut walks = 0;
                    while writing.load(Ordering::Relaxed) > 0 || walks == 0 {
                        let name = format!("{test}, reader {reader}, round {round}, {walks}");
                        read(&client, seed::rng(&name), expected);
                        walks += 1;
                        reading.store(true, Ordering::Relaxed);
                    }
                });
            }
            let join = |writer: std::thread::ScopedJoinHandle<'_, Model>| {
                let model = writer.join();
                model.unwrap_or_else(|panic| {
                    writing.store(0, Ordering::Relaxed);
                    std::panic::resume_unwind(panic)
                })
            };
            writers.into_iter().map(join).collect()
        });
        assert!(reading.into_inner());
        for writer in written {
            model.extend(writer);
        }
        equals(&service, &model);
        // The cache is empty, so the service must look up everything.
        service = empty_the_cache(service);
        equals(&service, &model);
    }
}

/// The users are not in the cache, and the count is, which the commits of their likes change.
#[test]
fn answered_like_is_counted_while_its_settlement_waits() {
    const VIDEO: i64 = 7;
    const READER: i64 = 1_000;
    let service = Setup::new().set("LIKEWISE_FAULT_INJECTION", true).start();
    let client = service.client();
    assert_eq!(client.read(READER, VIDEO).like_count, Some(0));
    for user in 1..=12 {
        // It waits longer before each restart, and the settlement waits with it.
        client.provoke("sync_publisher");
        let accepted = client.like(user, VIDEO);
        let answer = (accepted.changed, accepted.like_count, accepted.cached);
        assert_eq!(answer, (Some(true), Some(user), true));
        assert_eq!(client.read(READER, VIDEO).like_count, Some(user));
        assert!(client.read(user, VIDEO).liked);
    }
    pipeline_drains(&service);
    service.setup().verify(30).holds();
}
