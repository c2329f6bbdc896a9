//! The failures in the recorder's answers: why events are not recorded, and which message has them.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::domain::{ErasedKind, FailureKind};
use crate::messages::NotRecorded;
use crate::store::StoreError;

/// The failures of the events at these places, which were not recorded for this reason.
pub(super) fn not_recorded(
    places: Range<usize>,
    error: &StoreError,
) -> impl Iterator<Item = (usize, NotRecorded)> + use<> {
    let reason = error.to_string();
    let failure = match error.kind() {
        FailureKind::Infrastructure => NotRecorded::Unavailable(reason),
        FailureKind::Rejected => NotRecorded::Rejected(reason),
        FailureKind::Invalid => NotRecorded::Refused(reason),
    };
    places.map(move |place| (place, failure.clone()))
}

/// The failures of the events of the erased, in a part of the batch that starts at this place.
pub(super) fn erased(
    start: usize,
    erased: &BTreeMap<usize, ErasedKind>,
) -> impl Iterator<Item = (usize, NotRecorded)> + use<'_> {
    let erased = erased.iter();
    erased.map(move |(place, kind)| (start + place, NotRecorded::Erased(*kind)))
}

/// Splits the failures of a batch, by their positions in it, into those of each message, by their positions in that.
pub(super) fn by_message(
    lengths: impl Iterator<Item = usize>,
    mut failures: Vec<(usize, NotRecorded)>,
) -> Vec<Vec<(usize, NotRecorded)>> {
    failures.sort_by_key(|(place, _)| *place);
    let mut failures = failures.into_iter().peekable();
    let mut first = 0;
    lengths
        .map(|length| {
            let end = first + length;
            let mut of_message = Vec::new();
            while let Some((place, failure)) = failures.next_if(|(place, _)| *place < end) {
                of_message.push((place - first, failure));
            }
            first = end;
            of_message
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_message_gets_the_failures_of_its_events() {
        let refused = || NotRecorded::Refused("too long".into());
        let failures = vec![
            (5, refused()),
            (0, NotRecorded::Conflict),
            (3, NotRecorded::Conflict),
        ];
        let expected = [
            vec![(0, NotRecorded::Conflict)],
            vec![],
            vec![(1, NotRecorded::Conflict), (3, refused())],
        ];
        assert_eq!(by_message([2, 0, 4].into_iter(), failures), expected);
    }
}
