//! The like count of a resource, with its revision. The read models store it, the cache copies it, and NATS
//! announces it.

/// A like count as the database holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LikeCount {
    /// The number of users who like the resource.
    pub like_count: i64,
    /// The number of changes of the count: a higher revision is the newer count. Zero if the database has no
    /// row for the resource, because no user ever liked it.
    pub revision: i64,
}

impl LikeCount {
    /// The count of a resource without a row.
    pub const NEVER: Self = Self {
        like_count: 0,
        revision: 0,
    };

    /// Applies a delta; `None` if nothing changes. A resource's first events make its first revision, even if
    /// their delta is zero.
    #[must_use]
    pub const fn after(self, change: i64) -> Option<Self> {
        if change == 0 && self.revision > 0 {
            return None;
        }
        Some(Self {
            like_count: self.like_count + change,
            revision: self.revision + 1,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn count_is_written_at_first_and_on_change() {
        let count = |like_count, revision| LikeCount {
            like_count,
            revision,
        };
        assert_eq!(LikeCount::NEVER.after(0), Some(count(0, 1)));
        assert_eq!(count(3, 7).after(0), None);
        assert_eq!(count(3, 7).after(-2), Some(count(1, 8)));
    }
}
