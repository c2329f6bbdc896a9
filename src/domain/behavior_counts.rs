//! The counts by behavior of a resource. The store keeps them, and the web shows them.

use serde::Serialize;
use utoipa::ToSchema;

use super::behavior::BehaviorType;

/// How many behaviors of each type a resource has, besides likes. Each recorded behavior counts, also of the same user.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct BehaviorCounts {
    /// The number of views.
    pub view: i64,
    /// The number of shares.
    pub share: i64,
    /// The number of comments.
    pub comment: i64,
}

impl BehaviorCounts {
    /// Sets the count of a type. Likes have a count of their own, so their types change nothing.
    pub const fn set(&mut self, behavior: BehaviorType, count: i64) {
        match behavior {
            BehaviorType::View => self.view = count,
            BehaviorType::Share => self.share = count,
            BehaviorType::Comment => self.comment = count,
            BehaviorType::Like | BehaviorType::Unlike => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_have_each_behavior_but_likes() {
        let mut counts = BehaviorCounts::default();
        for (behavior, count) in BehaviorType::ALL.into_iter().zip(1..) {
            counts.set(behavior, count);
        }
        let json = serde_json::to_value(counts).expect("JSON");
        let counted = BehaviorType::ALL
            .into_iter()
            .filter(|behavior| behavior.action().is_none());
        assert_eq!(json.as_object().expect("counts").len(), counted.count());
        for (behavior, count) in BehaviorType::ALL.into_iter().zip(1..) {
            let expected = behavior.action().is_none().then_some(count);
            assert_eq!(json[behavior.as_str()].as_i64(), expected, "{behavior}");
        }
    }
}
