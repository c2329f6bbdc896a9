//! Live counts: which state of a count is the newest, what a watcher has not seen, and the event ids from which a watcher
//! resumes. `live/` calls it.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use super::behavior::Resource;
use super::like_count::LikeCount;

/// What a watcher is shown of a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LiveState {
    /// Its like count.
    Counted(LikeCount),
    /// It was erased. No later state follows.
    Erased,
}

impl LiveState {
    /// Returns the revision, which orders the states of a resource within a generation of the data.
    #[must_use]
    pub const fn revision(self) -> i64 {
        match self {
            Self::Counted(count) => count.revision,
            Self::Erased => i64::MAX,
        }
    }
}

/// The place of a state among all states of a resource. The greatest is the newest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LivePosition {
    /// The number of the generation, as this process counts them: a restored database has lower revisions, which are newer.
    pub epoch: u32,
    /// The revision within the generation.
    pub revision: i64,
}

/// The generation of the data that positions refer to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LiveEpoch {
    /// The number of the generation, as this process counts them.
    pub number: u32,
    /// Its name in the database; empty while the database has not answered.
    pub generation: Arc<str>,
}

impl LiveEpoch {
    /// Returns the epoch of the next generation.
    #[must_use]
    pub fn next(&self, generation: &str) -> Self {
        Self {
            number: self.number + 1,
            generation: generation.into(),
        }
    }

    /// Returns the position of a state of this generation.
    #[must_use]
    pub const fn position(&self, state: LiveState) -> LivePosition {
        LivePosition {
            epoch: self.number,
            revision: state.revision(),
        }
    }
}

/// Changed counts that wait to be announced: the newest of each resource.
#[derive(Debug, Default)]
pub struct NewestCounts(BTreeMap<Resource, LikeCount>);

impl NewestCounts {
    /// The most resources. A change of a further one is dropped; whoever watches it reads the database some seconds later.
    pub const MOST: usize = 20_000;

    /// Adds a count, unless a newer one waits.
    pub fn add(&mut self, resource: &Resource, count: LikeCount) {
        if let Some(waiting) = self.0.get_mut(resource) {
            if waiting.revision < count.revision {
                *waiting = count;
            }
        } else if self.0.len() < Self::MOST {
            self.0.insert(resource.clone(), count);
        }
    }

    /// Takes all counts.
    pub fn take(&mut self) -> BTreeMap<Resource, LikeCount> {
        std::mem::take(&mut self.0)
    }

    /// Returns whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// What a watcher has been shown of its resources, in their order. It never goes back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    positions: Vec<Option<LivePosition>>,
    /// Tells these resources from others in the ids of events.
    fingerprint: u32,
}

impl Seen {
    /// Returns a watcher that has seen nothing of these resources.
    #[must_use]
    pub fn nothing(resources: &[Resource]) -> Self {
        let mut hasher = DefaultHasher::new();
        resources.hash(&mut hasher);
        Self {
            positions: vec![None; resources.len()],
            fingerprint: hasher.finish() as u32,
        }
    }

    /// Returns a watcher that resumes after the event of this id, which any process may have sent. After an event of other
    /// resources, of another generation or of another service, the watcher has seen nothing.
    #[must_use]
    pub fn resume(resources: &[Resource], id: Option<&str>, epoch: &LiveEpoch) -> Self {
        let mut seen = Self::nothing(resources);
        if let Some(positions) = id.and_then(|id| seen.read(id, epoch)) {
            seen.positions = positions;
        }
        seen
    }

    fn read(&self, id: &str, epoch: &LiveEpoch) -> Option<Vec<Option<LivePosition>>> {
        let mut parts = id.rsplitn(3, '-');
        let revisions = parts.next()?;
        let fingerprint = u32::from_str_radix(parts.next()?, 16).ok()?;
        let generation = parts.next()?;
        let is_ours = generation == &*epoch.generation && !generation.is_empty();
        if !is_ours || fingerprint != self.fingerprint {
            return None;
        }
        let revisions: Option<Vec<_>> = revisions
            .split('.')
            .map(|revision| match revision {
                "" => Some(None),
                "x" => Some(Some(i64::MAX)),
                revision => revision.parse().ok().map(Some),
            })
            .collect();
        let revisions = revisions.filter(|all| all.len() == self.positions.len())?;
        let position = |revision| LivePosition {
            epoch: epoch.number,
            revision,
        };
        Some(revisions.into_iter().map(|one| one.map(position)).collect())
    }

    /// Takes note that the watcher is shown this state of the resource at this place. Returns whether the state is newer
    /// than what the watcher has seen; otherwise it is not shown.
    pub fn advance(&mut self, place: usize, position: LivePosition) -> bool {
        let Some(seen) = self.positions.get_mut(place) else {
            return false;
        };
        let is_newer = seen.is_none_or(|seen| seen < position);
        if is_newer {
            *seen = Some(position);
        }
        is_newer
    }

    /// Returns the id of an event after which the watcher has seen all this: the generation, a fingerprint of the resources,
    /// and the revision of each.
    #[must_use]
    pub fn id(&self, epoch: &LiveEpoch) -> String {
        let mut id = format!("{}-{:x}-", epoch.generation, self.fingerprint);
        for (place, position) in self.positions.iter().enumerate() {
            if place > 0 {
                id.push('.');
            }
            match position {
                Some(seen) if seen.epoch == epoch.number && seen.revision == i64::MAX => {
                    id.push('x');
                }
                Some(seen) if seen.epoch == epoch.number => id += &seen.revision.to_string(),
                _ => {}
            }
        }
        id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epoch(number: u32, generation: &str) -> LiveEpoch {
        LiveEpoch {
            number,
            generation: generation.into(),
        }
    }

    const fn count(like_count: i64, revision: i64) -> LikeCount {
        LikeCount {
            like_count,
            revision,
        }
    }

    fn videos(ids: &[i64]) -> Vec<Resource> {
        ids.iter().copied().map(Resource::video).collect()
    }

    #[test]
    fn newest_count_of_each_resource_waits() {
        let mut waiting = NewestCounts::default();
        let [one, two] = [1, 2].map(Resource::video);
        waiting.add(&one, count(5, 9));
        waiting.add(&one, count(4, 8));
        waiting.add(&two, count(1, 1));
        waiting.add(&one, count(6, 10));
        waiting.add(&one, count(4, 8));
        assert_eq!(
            waiting.take(),
            [(one, count(6, 10)), (two, count(1, 1))].into()
        );
        assert!(waiting.is_empty());
    }

    #[test]
    fn waiting_counts_are_bounded() {
        let mut waiting = NewestCounts::default();
        let most = NewestCounts::MOST as i64;
        for video in 0..most + 10 {
            waiting.add(&Resource::video(video), count(1, 1));
        }
        waiting.add(&Resource::video(0), count(2, 2));
        let waiting = waiting.take();
        assert_eq!(waiting.len(), NewestCounts::MOST);
        assert_eq!(waiting[&Resource::video(0)], count(2, 2));
    }

    #[test]
    fn shown_counts_never_go_back() {
        let mut seen = Seen::nothing(&videos(&[1, 2]));
        let now = epoch(1, "a");
        let at =
            |epoch: &LiveEpoch, revision| epoch.position(LiveState::Counted(count(0, revision)));
        assert!(
            seen.advance(0, at(&now, 0)),
            "a first state, even of revision 0"
        );
        assert!(seen.advance(0, at(&now, 7)));
        assert!(!seen.advance(0, at(&now, 7)));
        assert!(!seen.advance(0, at(&now, 6)));
        assert!(seen.advance(1, at(&now, 6)));
        // A restored database begins at lower revisions.
        assert!(seen.advance(0, at(&now.next("b"), 3)));
        assert!(!seen.advance(0, at(&now, 8)));
        assert!(seen.advance(0, now.next("b").position(LiveState::Erased)));
        assert!(!seen.advance(0, at(&now.next("b"), 9)));
        assert!(!seen.advance(2, at(&now, 9)), "no such place");
    }

    #[test]
    fn watcher_resumes_in_another_process() {
        let resources = videos(&[1, 2, 3]);
        let (here, there) = (epoch(4, "5f0c"), epoch(1, "5f0c"));
        let mut seen = Seen::nothing(&resources);
        seen.advance(0, here.position(LiveState::Counted(count(3, 12))));
        seen.advance(1, here.position(LiveState::Erased));
        let id = seen.id(&here);
        assert!(id.ends_with("-12.x."), "{id}");
        let mut resumed = Seen::resume(&resources, Some(&id), &there);
        let counted = |revision| there.position(LiveState::Counted(count(0, revision)));
        assert!(!resumed.advance(0, counted(12)));
        assert!(resumed.advance(0, counted(13)));
        assert!(!resumed.advance(1, there.position(LiveState::Erased)));
        assert!(resumed.advance(2, counted(0)));
    }

    #[test]
    fn unusable_id_shows_everything_again() {
        let resources = videos(&[1, 2]);
        let now = epoch(1, "5f0c");
        let mut seen = Seen::nothing(&resources);
        seen.advance(0, now.position(LiveState::Counted(count(3, 12))));
        seen.advance(1, now.position(LiveState::Counted(count(3, 4))));
        let id = seen.id(&now);
        let nothing = Seen::nothing(&resources);
        for other in [
            "",
            "5f0c",
            "5f0c-",
            "5f0c-0-12.4",
            "12",
            &id[..id.len() - 2],
            "\u{1F600}",
        ] {
            assert_eq!(
                Seen::resume(&resources, Some(other), &now),
                nothing,
                "{other}"
            );
        }
        assert_eq!(Seen::resume(&resources, None, &now), nothing);
        assert_eq!(
            Seen::resume(&resources, Some(&id), &epoch(1, "other")),
            nothing
        );
        let others = videos(&[1, 3]);
        assert_eq!(
            Seen::resume(&others, Some(&id), &now),
            Seen::nothing(&others)
        );
        let unnamed = epoch(0, "");
        assert_eq!(
            Seen::resume(&resources, Some(&nothing.id(&unnamed)), &unnamed),
            nothing
        );
        assert_eq!(Seen::resume(&resources, Some(&id), &now), seen);
    }
}
