//! The subjects of the stream, and which subjects wildcards include.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::domain::Id;
use crate::domain::origin::{ACCEPTED, BEHAVIORS};

/// Returns the subjects of the stream.
#[must_use]
pub(super) fn our_subjects() -> Vec<String> {
    vec![format!("{ACCEPTED}.>"), format!("{BEHAVIORS}.>")]
}

/// Returns whether one of these subjects includes every subject that `wanted` matches.
pub(super) fn covers(subjects: &[String], wanted: &str) -> bool {
    subjects.iter().any(|subject| includes(subject, wanted))
}

/// Returns whether a subject exists that both of these match.
pub(super) fn overlap(one: &str, other: &str) -> bool {
    let (mut one, mut other) = (one.split('.'), other.split('.'));
    loop {
        match (one.next(), other.next()) {
            (Some(">"), Some(_)) | (Some(_), Some(">")) | (None, None) => return true,
            (Some(left), Some(right)) if left == right || left == "*" || right == "*" => {}
            _ => return false,
        }
    }
}

/// Returns an id as one token of a subject. Characters that a token cannot have are percent-encoded.
pub(super) fn token(id: &Id) -> String {
    const IN_TOKENS: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_');
    utf8_percent_encode(&id.text(), IN_TOKENS).to_string()
}

fn includes(subject: &str, wanted: &str) -> bool {
    let (mut outer, mut inner) = (subject.split('.'), wanted.split('.'));
    loop {
        match (outer.next(), inner.next()) {
            (Some(">"), Some(_)) | (None, None) => return true,
            (Some("*"), Some(token)) if token != ">" => {}
            (Some(one), Some(other)) if one == other => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_match_their_subjects() {
        for (subject, wanted, included) in [
            (">", "likewise.accepted.>", true),
            ("likewise.*.>", "likewise.accepted.>", true),
            ("likewise.accepted.>", "likewise.accepted.>", true),
            ("likewise.accepted.*", "likewise.accepted.>", false),
            ("likewise.accepted.*.*", "likewise.accepted.>", false),
            ("likewise.accepted", "likewise.accepted.>", false),
            ("likewise.accepted.video.>", "likewise.accepted.>", false),
        ] {
            assert_eq!(includes(subject, wanted), included, "{subject} {wanted}");
        }
    }

    #[test]
    fn subjects_overlap_if_one_subject_matches_both() {
        for (one, other, expected) in [
            (">", "likewise.accepted.>", true),
            ("likewise.accepted.video.*", "likewise.accepted.>", true),
            ("*.accepted.batch", "likewise.*.>", true),
            ("likewise.accepted", "likewise.accepted.>", false),
            ("likewise.counts.>", "likewise.accepted.>", false),
            ("*", "likewise.accepted.>", false),
        ] {
            assert_eq!(overlap(one, other), expected, "{one} {other}");
            assert_eq!(overlap(other, one), expected, "{other} {one}");
        }
    }
}
