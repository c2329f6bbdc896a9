//! Compares the cache with the database. `likewise verify` calls [`compare`].

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;

use super::Failure;
use crate::cache::Cache;
use crate::domain::{LikeCount, Pair, Reading, Resource, Version, VersionedState};
use crate::store::{Check, Difference, Store};

/// The number of pairs compared in one round trip.
const PAGE: usize = 2_000;

/// How long a difference must last to be reported: the cache is settled after the commit.
const PATIENCE: Duration = Duration::from_secs(5);

/// Compares at most `most` pairs of the read models with the cache. An unknown value is no difference, because a read
/// then asks the database. A difference that does not last is not reported.
pub(super) async fn compare(
    cache: &dyn Cache,
    store: &Store,
    most: usize,
    examples: usize,
) -> Result<Check, Failure> {
    let mut check = Check {
        promise: format!("known values on {} equal the database", cache.kind()),
        checked: 0,
        differences: 0,
        examples: Vec::new(),
    };
    for resource_type in store.resource_types().iter() {
        let kinds = store.id_kinds();
        let mut after = (kinds.users.before_all(), kinds.resources.before_all());
        while (check.checked as usize) < most {
            let page = store
                .likes_after(resource_type, (&after.0, &after.1), PAGE)
                .await?;
            let Some((last, _)) = page.last() else {
                break;
            };
            after = (last.user_id.clone(), last.resource.id.clone());
            let states: BTreeMap<Pair, VersionedState> = page.into_iter().collect();
            check.checked += states.len() as i64;
            let lasting = lasting_differences(cache, store, &states).await?;
            check.differences += lasting.len() as i64;
            let room = examples.saturating_sub(check.examples.len());
            check.examples.extend(lasting.into_iter().take(room));
        }
    }
    Ok(check)
}

async fn lasting_differences(
    cache: &dyn Cache,
    store: &Store,
    states: &BTreeMap<Pair, VersionedState>,
) -> Result<Vec<Difference>, Failure> {
    let started = Instant::now();
    let mut pairs: Vec<Pair> = states.keys().cloned().collect();
    loop {
        let wanted: BTreeSet<Pair> = pairs.iter().cloned().collect();
        let found = store.find(&wanted).await?;
        let readings = read(cache, &pairs, Version::at(store.now())).await?;
        let differing: Vec<(Pair, Difference)> = pairs
            .iter()
            .zip(readings)
            .filter_map(|(pair, reading)| {
                let mark = found
                    .states
                    .get(pair)
                    .copied()
                    .unwrap_or(VersionedState::NEVER);
                let difference =
                    difference(pair, mark, count(&found.counts, &pair.resource), reading);
                difference.map(|difference| (pair.clone(), difference))
            })
            .collect();
        if differing.is_empty() || started.elapsed() > PATIENCE {
            return Ok(differing
                .into_iter()
                .map(|(_, difference)| difference)
                .collect());
        }
        pairs = differing.into_iter().map(|(pair, _)| pair).collect();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Reads pairs, which are ordered by user, in one round trip for each user.
async fn read(cache: &dyn Cache, pairs: &[Pair], now: Version) -> Result<Vec<Reading>, Failure> {
    let of_users = pairs.chunk_by(|one, other| one.user_id == other.user_id);
    let reads = of_users.map(|of_user| async move {
        let resources: Vec<Resource> = of_user.iter().map(|pair| pair.resource.clone()).collect();
        let user_id = of_user.first().map(|pair| &pair.user_id);
        cache.read(user_id, &resources, now).await
    });
    Ok(try_join_all(reads).await?.concat())
}

fn count(counts: &BTreeMap<Resource, LikeCount>, resource: &Resource) -> i64 {
    counts.get(resource).map_or(0, |count| count.like_count)
}

fn difference(
    pair: &Pair,
    mark: VersionedState,
    like_count: i64,
    reading: Reading,
) -> Option<Difference> {
    let liked = reading.liked.unwrap_or(mark.liked);
    let shown = reading.like_count.unwrap_or(like_count);
    (liked != mark.liked || shown != like_count).then(|| Difference {
        subject: format!("user {}, {}", pair.user_id, pair.resource),
        expected: format!("liked {}, {like_count} likes", mark.liked),
        found: format!("liked {liked}, {shown} likes"),
    })
}
