//! Bisection of a rejected batch, until the rejected item is isolated.

use std::ops::Range;

/// The untried parts of a batch, in the order of the batch.
#[derive(Debug, Clone)]
pub struct Bisection {
    /// A stack: the last element is the next part, so the later half is pushed first.
    parts: Vec<Range<usize>>,
}

impl Bisection {
    /// Creates a bisection whose only part is the whole batch of this length.
    #[must_use]
    pub fn of(length: usize) -> Self {
        Self {
            parts: std::iter::once(0..length).collect(),
        }
    }

    /// Removes and returns the next part to try.
    pub fn next_part(&mut self) -> Option<Range<usize>> {
        self.parts.pop()
    }

    /// Returns whether every part has been tried.
    #[must_use]
    pub const fn is_done(&self) -> bool {
        self.parts.is_empty()
    }

    /// Adds the groups of a failed part, which have these lengths in the order of the batch. Returns false for a part of one
    /// group, which fails as a whole.
    pub fn divide(&mut self, part: &Range<usize>, groups: &[usize]) -> bool {
        if groups.len() < 2 {
            return false;
        }
        let mut end = part.end;
        for length in groups.iter().rev() {
            self.parts.push(end - length..end);
            end -= length;
        }
        true
    }

    /// Adds the halves of a rejected part. Returns false for a part of one item, which is the rejected item.
    pub fn halve(&mut self, part: &Range<usize>) -> bool {
        if part.len() < 2 {
            return false;
        }
        let middle = part.start + part.len() / 2;
        self.parts.push(middle..part.end);
        self.parts.push(part.start..middle);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_batch_is_halved_down_to_single_items() {
        let mut bisection = Bisection::of(5);
        let mut tried = Vec::new();
        while let Some(part) = bisection.next_part() {
            if part.contains(&3) {
                bisection.halve(&part);
            }
            tried.push(part);
        }
        assert_eq!(tried, [0..5, 0..2, 2..5, 2..3, 3..5, 3..4, 4..5]);
        assert!(bisection.is_done());
    }

    #[test]
    fn groups_of_a_failed_part_are_tried_in_their_order() {
        let mut bisection = Bisection::of(6);
        let all = bisection.next_part().expect("the batch");
        assert!(bisection.divide(&all, &[1, 3, 2]));
        let tried: Vec<_> = std::iter::from_fn(|| bisection.next_part()).collect();
        assert_eq!(tried, [0..1, 1..4, 4..6]);
        assert!(!bisection.divide(&(1..4), &[3]));
        assert!(bisection.is_done());
    }
}
