//! Halving a batch until what is refused stands alone.

use std::ops::Range;

/// The parts of a batch that are still to be tried, in the order of the batch.
#[derive(Debug, Clone)]
pub struct Bisection {
    /// The next part is the last: the later half goes below the earlier.
    parts: Vec<Range<usize>>,
}

impl Bisection {
    /// The whole of a batch of this length, to be tried at once.
    #[must_use]
    pub fn of(length: usize) -> Self {
        Self {
            parts: std::iter::once(0..length).collect(),
        }
    }

    /// The next part to try, and it is tried no more.
    pub fn next_part(&mut self) -> Option<Range<usize>> {
        self.parts.pop()
    }

    /// Whether every part has been tried.
    #[must_use]
    pub const fn is_done(&self) -> bool {
        self.parts.is_empty()
    }

    /// Puts the halves of a part that was refused in its place. Answers false for a single item, which
    /// is what was refused.
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
}
