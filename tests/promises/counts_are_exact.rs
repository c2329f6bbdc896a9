//! A stored count equals the number of liked rows, and the cache equals the database when the pipeline is idle.

use std::collections::{BTreeMap, BTreeSet};

use crate::support::checks::{
    diary_is_kept, everything_holds, reads_equal_database, stored_counts, stored_states,
};
use crate::support::crowd::{Crowd, Diary, Outcome, Pair, Wish};
use crate::support::service::{Service, Setup};
use crate::support::{interactions, say, seed};

matrix!([embedded, mariadb_stack, postgres_stack]: random_likes_add_up);

fn random_likes_add_up(setup: Setup) {
    let mut rng = seed::rng("random_likes");
    let service = setup.start();
    let crowd = Crowd {
        first_user: 1,
        threads: 6,
        users: 8,
        videos: 12,
    };
    let running = crowd.start(&service, &mut rng);
    running.wait_for(3_000);
    let diary = running.stop();
    let refused = diary.not_acknowledged();
    assert!(refused.is_empty(), "{refused:?}");
    answers_follow_the_model(&service, &diary, 6 * 8);

    everything_holds(&service);
    diary_is_kept(service.database(), &diary);
    let (states, counts) = model(&diary);
    assert_eq!(stored_states(service.database()), states);
    assert_eq!(stored_counts(service.database()), counts);
    let client = service.client();
    for ((user, video), liked) in states {
        let read = client.read(user, video);
        let expected = (liked, counts.get(&video).copied());
        assert_eq!((read.liked, read.like_count), expected, "{read:?}");
    }
    // A cache filled from the database agrees.
    reads_equal_database(&service.stop().start());
}

/// Each user has one thread, so the test can predict each answer, except for the likes of others. After a call of the cache
/// that timed out, it cannot: the cache does not know the like before the database does.
fn answers_follow_the_model(service: &Service, diary: &Diary, users: i64) {
    let unpredictable: BTreeSet<i64> = diary
        .pairs()
        .filter(|(_, wishes)| wishes.iter().any(Wish::is_uncached))
        .map(|((user, _), _)| user)
        .collect();
    let durabilities: &[&str] = match service.setup().has_broker() {
        true => &["broker", "database"],
        false => &["database"],
    };
    let mut as_usual = 0;
    let mut cached = 0;
    let mut told = 0;
    let mut total = 0;
    for (pair, wishes) in diary.pairs() {
        let mut liked = false;
        for wish in wishes {
            let Outcome::Acknowledged(accepted) = &wish.outcome else {
                continue;
            };
            total += 1;
            assert_eq!((accepted.user_id, accepted.resource_id), pair);
            assert_eq!(accepted.liked, wish.liked);
            let durability = accepted.durability.as_str();
            assert!(durabilities.contains(&durability), "{accepted:?}");
            as_usual += usize::from(durability == durabilities[0]);
            cached += usize::from(accepted.cached);
            // A count that is unknown when the answer is due is null, never a guess.
            if let Some(changed) = accepted.changed {
                told += 1;
                let is_right = changed == (liked != wish.liked);
                let user = accepted.user_id;
                assert!(
                    is_right || unpredictable.contains(&user),
                    "{pair:?}: {wishes:#?}"
                );
            }
            if let Some(count) = accepted.like_count {
                assert!((0..=users).contains(&count), "{accepted:?}");
            }
            liked = wish.liked;
        }
    }
    // NATS and the cache may hang for a moment on a busy machine. Then likes go to the database, and answers say less.
    let usual = durabilities[0];
    let rare = format!("{as_usual} of {total} likes are durable in the {usual}");
    assert!(as_usual * 2 > total, "{rare}");
    let has_cache_failed = !service.logged("dependency=cache").is_empty();
    let rare = format!("{cached} of {total} likes are cached");
    assert!(cached == total || has_cache_failed, "{rare}");
    let rare = format!("{told} of {cached} answers say whether they changed anything");
    assert!(told * 10 > cached * 9, "{rare}");
}

fn model(diary: &Diary) -> (BTreeMap<Pair, bool>, BTreeMap<i64, i64>) {
    let mut states = BTreeMap::new();
    let mut counts = BTreeMap::new();
    for (pair, wishes) in diary.pairs() {
        let liked = wishes.last().is_some_and(|wish| wish.liked);
        states.insert(pair, liked);
        *counts.entry(pair.1).or_default() += i64::from(liked);
    }
    (states, counts)
}

#[test]
fn undersized_cache_gives_the_same_answers() {
    let mut rng = seed::rng("small_cache");
    let service = Setup::new().set("LIKEWISE_CACHE_PAIRS", 1_000).start();
    let crowd = Crowd {
        first_user: 1,
        threads: 4,
        users: 12,
        videos: 80,
    };
    let running = crowd.start(&service, &mut rng);
    running.wait_for(4_000);
    let diary = running.stop();
    let refused = diary.not_acknowledged();
    assert!(refused.is_empty(), "{refused:?}");
    everything_holds(&service);
    diary_is_kept(service.database(), &diary);
    // The second round starts from the data of the first.
    reads_equal_database(&service);
}

#[test]
fn unstored_like_is_reverted() {
    const TIMES: usize = 4;
    let mut rng = seed::rng("put_back");
    let service = Setup::new().start();
    let crowd = Crowd {
        first_user: 1,
        threads: 3,
        users: 4,
        videos: 3,
    };
    // Two crowds of the same users: each request may meet one of the same pair in flight.
    let running = [(); 2].map(|()| crowd.start(&service, &mut rng));
    let alone = Crowd {
        first_user: 1_001,
        ..crowd
    }
    .start(&service, &mut rng);
    for _ in 0..TIMES {
        alone.wait_for(100);
        let database = service.database();
        database.execute(&["ALTER TABLE user_behaviors RENAME TO away"]);
        alone.wait_for(100);
        database.execute(&["ALTER TABLE away RENAME TO user_behaviors"]);
    }
    alone.wait_for(100);
    let diary = alone.stop();
    let refused = diary.not_acknowledged();
    for outcome in &refused {
        let is_refused = matches!(outcome, Outcome::Refused(code) if code == "unavailable");
        assert!(is_refused, "{outcome:?}");
    }
    assert!(refused.len() >= TIMES);
    for running in running {
        running.stop();
    }
    everything_holds(&service);
    diary_is_kept(service.database(), &diary);
}

matrix!([embedded, mariadb_stack]: recorded_likes_add_up);

fn recorded_likes_add_up(setup: Setup) {
    let mut rng = seed::rng("recorded_likes");
    let pairs = interactions::recorded(&mut rng);
    let liked: BTreeSet<Pair> = pairs.iter().copied().collect();
    say(format_args!(
        "{} likes of {} pairs",
        pairs.len(),
        liked.len()
    ));
    let states: BTreeMap<Pair, bool> = liked.iter().map(|pair| (*pair, true)).collect();
    let mut counts = BTreeMap::new();
    for (_, video) in &liked {
        *counts.entry(*video).or_default() += 1;
    }

    let service = setup.start();
    for times in 1..=2 {
        load(&service, &pairs);
        let verified = service.setup().verify(60);
        let stored = &verified.holds().report["liked"]["video"];
        assert_eq!(*stored, liked.len(), "{verified:?}");
        let database = service.database();
        assert!(stored_states(database) == states, "after load {times}");
        assert_eq!(stored_counts(database), counts, "after load {times}");
        for table in ["user_behaviors", "sync_events"] {
            let rows = database.count(table);
            assert_eq!(rows as usize, times * pairs.len(), "{table}");
        }
    }
    reads_equal_database(&service);
}

fn load(service: &Service, pairs: &[Pair]) {
    let file = service.setup().folder().join("interactions.csv.gz");
    interactions::write(&file, pairs);
    let url = service.url();
    let arguments = ["load", "--from", "interactions.csv.gz", "--url", &url];
    service.setup().run(&arguments).exits(0);
}
