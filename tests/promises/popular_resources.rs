//! A popular resource costs its readers no more than any other: the cache answers random users without the database.

use crate::support::checks::pipeline_drains;
use crate::support::database::Database;
use crate::support::servers::{Kind, Server};
use crate::support::service::Setup;

const POPULAR: i64 = 7;
const OTHER: i64 = 8;

/// The users who like the popular video. The first design kept 10,000 of them.
const LIKERS: i64 = 12_000;

#[test]
fn popular_resource_is_read_without_the_database() {
    let (redis, server) = (Server::start(Kind::Redis), Server::start(Kind::MariaDb));
    let service = Setup::new()
        .set("LIKEWISE_REDIS_URL", redis.url())
        .on(&Database::first_of(&server))
        .start();
    let (client, database) = (service.client(), service.database());
    let count = format!(
        "INSERT INTO likewise_like_counts (resource_type, resource_id, like_count, revision, updated_at) \
         VALUES ('video', {POPULAR}, {LIKERS}, 1, NOW(6))"
    );
    let likes = format!(
        "INSERT INTO video_likes (user_id, video_id, version, created_at) \
         SELECT seq, {POPULAR}, seq, NOW(6) FROM seq_1_to_{LIKERS}"
    );
    database.execute(&[&count, &likes]);
    // Half of these users like it. Each one's entry is filled once.
    let users: Vec<i64> = (1..=40).map(|n| n * LIKERS / 20).collect();
    for user in &users {
        let read = client.read(*user, POPULAR);
        let expected = (*user <= LIKERS, Some(LIKERS));
        assert_eq!((read.liked, read.like_count), expected, "user {user}");
    }
    client.read(1, OTHER);
    pipeline_drains(&service);

    server.suspend();
    for user in &users {
        let read = client.read(*user, POPULAR);
        let expected = (*user <= LIKERS, Some(LIKERS));
        assert_eq!((read.liked, read.like_count), expected, "user {user}");
        // A pair that nobody has read before.
        let read = client.read(*user, OTHER);
        assert_eq!(
            (read.liked, read.like_count),
            (false, Some(0)),
            "user {user}"
        );
    }
    server.resume();
}
