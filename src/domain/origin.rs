//! The origin of an event. Its subject determines the origin, never its body.

/// Subjects of the events that Likewise acknowledged: `likewise.accepted.<resource_type>.<behavior>`, and
/// [`ACCEPTED_BATCH`]. Only Likewise may publish here.
pub const ACCEPTED: &str = "likewise.accepted";

/// The subject of several acknowledged events in one message. It has one token less than the subject of one event, so no
/// resource type takes it.
pub const ACCEPTED_BATCH: &str = "likewise.accepted.batch";

/// Subjects of other services' behaviors: `likewise.behaviors.<resource_type>.<behavior>`.
pub const BEHAVIORS: &str = "likewise.behaviors";

/// The origin of a message: only Likewise may write the subjects of events that it acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Likewise, which acknowledged the event to a user.
    Accepted,
    /// Another service.
    Foreign,
}

impl Origin {
    /// Returns the origin of a message that arrived on this subject.
    #[must_use]
    pub fn of(subject: &str) -> Self {
        match subject.strip_prefix(ACCEPTED) {
            Some(rest) if rest.starts_with('.') => Self::Accepted,
            _ => Self::Foreign,
        }
    }

    /// Returns its name in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Foreign => "foreign",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_accepted_subjects_are_our_own() {
        assert_eq!(Origin::of("likewise.accepted.video.like"), Origin::Accepted);
        assert_eq!(Origin::of(ACCEPTED_BATCH), Origin::Accepted);
        for subject in [
            "likewise.acceptedly.video.like",
            "likewise.accepted",
            "likewise.behaviors.video.like",
            "",
        ] {
            assert_eq!(Origin::of(subject), Origin::Foreign, "{subject}");
        }
    }
}
