//! How entries are encoded on Redis, which decides what they cost.

use likewise::cache::Cache;
use likewise::domain::{Coverage, LikeCount, Pair, Resource, VersionedState};
use redis::Commands;

use super::{NOW, OnRedis, One, VIDEO, count, mark, run};

fn text<T: redis::FromRedisValue>(on_redis: &OnRedis, command: &str, key: &str) -> T {
    let mut words = command.split(' ');
    let mut command = redis::cmd(words.next().expect("a command"));
    words.for_each(|word| {
        command.arg(word);
    });
    command.arg(key);
    command
        .query(&mut on_redis.connection())
        .expect("an answer")
}

#[test]
fn entries_have_compact_encodings() {
    let on_redis = OnRedis::start();
    run(async {
        let one = One(&on_redis.cache);
        let (life, _) = one.open(VIDEO, 1.into()).await;
        let row = |video: i64| {
            (
                Resource::video(1_000_000 + video),
                mark(1_763_000_000_000_000, true),
            )
        };
        let rows: Vec<_> = (0..200).map(row).collect();
        let filled = one.fill_user(life, 1.into(), Coverage::Complete, &rows);
        assert!(filled.await);
        one.learn(
            VIDEO,
            2.into(),
            VersionedState::NEVER,
            count(123_456, 1_234),
        )
        .await;
    });
    let encoding = |key| text::<String>(&on_redis, "OBJECT ENCODING", key);
    assert_eq!(encoding("likewise:a:c:{video:7}"), "embstr");
    assert_eq!(encoding("likewise:a:u:{2}"), "embstr");
    assert_eq!(encoding("likewise:a:u:{1}"), "raw");
    let length: usize = on_redis
        .connection()
        .strlen("likewise:a:u:{1}")
        .expect("a string");
    assert!(length <= 36 * 200 + 22, "{length} bytes for 200 pairs");
    run(async {
        let one = One(&on_redis.cache);
        one.apply(VIDEO, 2.into(), mark(10, true)).await;
        assert_eq!(one.count(VIDEO).await, Some(123_457));
    });
    // The few events in flight are in the count entry.
    let exists = || text::<u64>(&on_redis, "EXISTS", "likewise:a:f:{video:7}");
    assert_eq!(exists(), 0);
    run(async {
        let one = One(&on_redis.cache);
        for user in 3..=40 {
            one.learn(VIDEO, user.into(), VersionedState::NEVER, LikeCount::NEVER)
                .await;
            one.apply(VIDEO, user.into(), mark(10, true)).await;
        }
    });
    assert_eq!(encoding("likewise:a:f:{video:7}"), "listpack");
    assert_eq!(encoding("likewise:a:c:{video:7}"), "embstr");
    run(async {
        let settled: Vec<_> = (2..=40).map(|user| (user.into(), mark(10, true))).collect();
        let one = One(&on_redis.cache);
        one.settle(VIDEO, &settled, Some(count(123_457, 1_235)))
            .await;
    });
    assert_eq!(exists(), 0);
    let settled: String = text(&on_redis, "GET", "likewise:a:c:{video:7}");
    assert_eq!(settled, "123457:1235");
}

#[test]
fn page_of_a_hundred_is_one_command() {
    let on_redis = OnRedis::start();
    let resources: Vec<_> = (1..=100).map(Resource::video).collect();
    let pair = Pair {
        resource: VIDEO,
        user_id: 1.into(),
    };
    run(async {
        let one = One(&on_redis.cache);
        for resource in &resources {
            let (_, life) = one.open(resource.clone(), 1.into()).await;
            assert!(one.fill_count(life, resource.clone(), count(1, 1)).await);
        }
        one.learn(VIDEO, 1.into(), VersionedState::NEVER, LikeCount::NEVER)
            .await;
        let before = stat(&on_redis, "cmdstat_mget:");
        let page = on_redis.cache.read(Some(&1.into()), &resources, NOW).await;
        let page = page.expect("an answer");
        let known = page
            .iter()
            .filter(|one| one.liked == Some(false) && one.like_count.is_some());
        assert_eq!(known.count(), 100);
        let commands = stat(&on_redis, "cmdstat_mget:") - before;
        assert_eq!(commands, 1, "commands of a page");
        // A batch of events is one call of the script.
        let before = stat(&on_redis, "cmdstat_evalsha:");
        let events: Vec<_> = (1..=60)
            .map(|version| (pair.clone(), mark(version, true)))
            .collect();
        let applied = on_redis.cache.apply(&events, NOW).await;
        assert_eq!(applied.expect("answers").len(), 60);
        let calls = stat(&on_redis, "cmdstat_evalsha:") - before;
        assert_eq!(calls, 1, "calls for sixty events");
    });
}

fn stats(on_redis: &OnRedis) -> String {
    redis::cmd("INFO")
        .arg("commandstats")
        .query(&mut on_redis.connection())
        .expect("statistics")
}

fn stat(on_redis: &OnRedis, name: &str) -> u64 {
    let info = stats(on_redis);
    info.lines()
        .filter(|line| line.starts_with(name))
        .map(number)
        .sum()
}

fn number(line: &str) -> u64 {
    let calls = line
        .split_once("calls=")
        .and_then(|(_, rest)| rest.split_once(','));
    calls
        .and_then(|(calls, _)| calls.parse().ok())
        .unwrap_or_default()
}
