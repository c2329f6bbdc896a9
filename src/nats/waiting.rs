//! Whether the stream may still hold an event. The time of a message is of the server's clock, which may differ from the
//! database's and may step, so this compares sequences and no times of messages.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The end of the stream at a moment: a message that was published before has this sequence or a smaller one.
#[derive(Debug, Clone, Copy)]
pub(super) struct End {
    pub(super) sequence: u64,
    pub(super) at: Instant,
}

/// The end of the stream that acknowledgements are to reach next.
#[derive(Default)]
pub(super) struct AwaitedEnd(Mutex<Option<End>>);

impl AwaitedEnd {
    /// Returns whether a message that was published this long ago, or earlier, may wait for its acknowledgement: see
    /// [`may_wait`].
    pub(super) fn may_wait(&self, end: End, oldest: u64, published_ago: Duration) -> bool {
        let mut awaited = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        may_wait(&mut awaited, end, oldest, published_ago)
    }
}

/// Returns whether a message that was published this long before `end`, or earlier, may wait for its acknowledgement, where
/// `oldest` is the first sequence that waits. Notes `end` if it is the next one to await.
fn may_wait(awaited: &mut Option<End>, end: End, oldest: u64, published_ago: Duration) -> bool {
    let is_reached = awaited.is_none_or(|awaited| awaited.sequence < oldest);
    if let Some(reached) = *awaited
        && is_reached
        && end.at.duration_since(reached.at) <= published_ago
    {
        return false;
    }
    // The acknowledgements reach an earlier end first. A stream that was created anew counts from one again.
    let is_of_another_stream = awaited.is_some_and(|awaited| awaited.sequence > end.sequence);
    if is_reached || is_of_another_stream {
        *awaited = Some(end);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The ends of a stream, at these seconds.
    fn ends<const N: usize>(ends: [(u64, u64); N]) -> [End; N] {
        let start = Instant::now();
        ends.map(|(seconds, sequence)| End {
            sequence,
            at: start + Duration::from_secs(seconds),
        })
    }

    /// It was published before the first end. Its sequence may be any up to 7.
    #[test]
    fn message_waits_until_acknowledgements_reach_its_end() {
        let mut awaited = None;
        let [first, second, third] = ends([(0, 7), (5, 9), (10, 12)]);
        let ago = |seconds: u64| Duration::from_secs(seconds + 1);
        assert!(may_wait(&mut awaited, first, 3, ago(0)));
        assert!(may_wait(&mut awaited, second, 7, ago(5)));
        // Newer messages wait.
        assert!(!may_wait(&mut awaited, third, 8, ago(10)));
    }

    #[test]
    fn reached_end_says_nothing_about_later_messages() {
        let mut awaited = None;
        let [first, second, third] = ends([(0, 7), (10, 12), (15, 14)]);
        let ago = Duration::from_secs;
        assert!(may_wait(&mut awaited, first, 3, ago(1)));
        // It was published four seconds after the first end.
        assert!(may_wait(&mut awaited, second, 8, ago(6)));
        assert!(!may_wait(&mut awaited, third, 13, ago(11)));
    }

    #[test]
    fn new_stream_of_the_same_name_has_its_own_end() {
        let mut awaited = None;
        let [old, new, later] = ends([(0, 900), (5, 3), (10, 5)]);
        let ago = Duration::from_secs;
        assert!(may_wait(&mut awaited, old, 800, ago(1)));
        assert!(may_wait(&mut awaited, new, 1, ago(1)));
        assert!(!may_wait(&mut awaited, later, 4, ago(6)));
    }
}
