//! What the answer of a receiver means for the facts of a webhook. Pure.

use std::time::Duration;

/// How a receiver answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It took the facts.
    Delivered,
    /// It wants no more of them.
    Gone(String),
    /// It refused the message, perhaps because of one fact in it.
    Refused(String),
    /// It takes no message now, whatever its facts.
    Unavailable {
        /// Why.
        reason: String,
        /// How long it asks to wait.
        retry_after: Option<Duration>,
    },
}

/// The longest time that a receiver can ask to wait.
const LONGEST_WAIT: u64 = 3_600;

impl Answer {
    /// Returns what a status means. `retry_after` is in seconds.
    pub(super) fn of(status: u16, retry_after: Option<u64>, text: &str) -> Self {
        let reason = match text {
            "" => format!("the receiver answered {status}"),
            text => format!("the receiver answered {status}: {text}"),
        };
        match status {
            200..=299 => Self::Delivered,
            410 => Self::Gone(reason),
            // A redirect, a missing page or a refused signature is about the URL or the secret, and a gateway or a full
            // receiver is about the moment.
            300..=399 | 401 | 403 | 404 | 405 | 407 | 408 | 425 | 429 | 502..=504 => {
                Self::Unavailable {
                    reason,
                    retry_after: retry_after
                        .map(|seconds| Duration::from_secs(seconds.min(LONGEST_WAIT))),
                }
            }
            _ => Self::Refused(reason),
        }
    }

    /// Returns the answer of a receiver that could not be asked.
    pub(super) fn unreachable(error: &str) -> Self {
        Self::Unavailable {
            reason: error.to_owned(),
            retry_after: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_tell_a_bad_fact_from_a_receiver_that_is_down() {
        assert_eq!(Answer::of(204, None, ""), Answer::Delivered);
        assert!(matches!(Answer::of(410, None, ""), Answer::Gone(_)));
        for status in [400, 413, 422, 500] {
            let answer = Answer::of(status, None, "no such user");
            let Answer::Refused(reason) = answer else {
                panic!("{status}: {answer:?}");
            };
            assert!(reason.ends_with(&format!("{status}: no such user")));
        }
        for status in [301, 401, 404, 429, 503] {
            let answer = Answer::of(status, Some(86_400), "");
            let Answer::Unavailable { retry_after, .. } = answer else {
                panic!("{status}: {answer:?}");
            };
            assert_eq!(retry_after, Some(Duration::from_secs(LONGEST_WAIT)));
        }
    }
}
