//! The encoding of an entry in the fields of a Redis hash, as `rule.lua` writes it.

use crate::domain::{EntryView, LikeCount, PairView, Version, VersionedState};

/// Parses a count from the field `n`.
pub(super) fn count_text(count: LikeCount) -> String {
    format!("{}:{}", count.like_count, count.revision)
}

/// Parses the fields of an entry. Names a field that it cannot parse.
pub(super) fn view(fields: &[(String, String)]) -> EntryView {
    let mut view = EntryView::default();
    for (name, value) in fields {
        let read = match name.as_str() {
            "i" => value.parse::<u64>().ok().map(drop),
            "c" => {
                view.complete = true;
                Some(())
            }
            "n" => read_count(value).map(|count| view.count = Some(count)),
            "f" => value.parse().ok().map(|likes| view.in_flight = likes),
            "u" => value.parse().ok().map(|pairs| view.unknown = pairs),
            user => user
                .parse()
                .ok()
                .zip(read_pair(value))
                .map(|(user_id, pair)| {
                    view.pairs.insert(user_id, pair);
                }),
        };
        if read.is_none() && view.unreadable.is_none() {
            view.unreadable = Some(format!("field {name} is '{value}'"));
        }
    }
    if !fields.iter().any(|(name, _)| name == "i") {
        view.unreadable
            .get_or_insert_with(|| "field i is missing".to_owned());
    }
    view
}

fn read_count(text: &str) -> Option<LikeCount> {
    let (like_count, revision) = text.split_once(':')?;
    Some(LikeCount {
        like_count: like_count.parse().ok()?,
        revision: revision.parse().ok()?,
    })
}

/// Parses `version:liked:settled_version:settled_liked`, or `version:liked:-` if the pair is not settled.
fn read_pair(text: &str) -> Option<PairView> {
    let parts: Vec<_> = text.split(':').collect();
    let (current, settled) = match parts[..] {
        [version, liked] => {
            let mark = read_mark(version, liked)?;
            (mark, Some(mark))
        }
        [version, liked, "-"] => (read_mark(version, liked)?, None),
        [version, liked, settled_version, settled_liked] => (
            read_mark(version, liked)?,
            Some(read_mark(settled_version, settled_liked)?),
        ),
        _ => return None,
    };
    Some(PairView { current, settled })
}

fn read_mark(version: &str, liked: &str) -> Option<VersionedState> {
    let liked = match liked {
        "1" => true,
        "0" => false,
        _ => return None,
    };
    Some(VersionedState {
        version: Version(version.parse().ok()?),
        liked,
    })
}
