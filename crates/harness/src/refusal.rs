//! Describes the answer to a failed request. The report of a load and the errors of the benchmark show it.

use serde::Deserialize;

use crate::client::Failure;

/// The number of characters of an answer that are shown.
const LONGEST: usize = 300;

/// The members of a problem (RFC 9457) that are for people.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Problem {
    title: String,
    detail: String,
}

/// Describes a failure and the body of its answer, in one line of limited length. A problem is shown by its title and
/// detail, any other body by its beginning.
pub(crate) fn described(failure: Failure, body: &[u8]) -> String {
    let problem: Problem = serde_json::from_slice(body).unwrap_or_default();
    let mut parts = vec![problem.title, problem.detail];
    parts.retain(|part| !part.is_empty());
    let said = match parts.is_empty() {
        true => String::from_utf8_lossy(body).into_owned(),
        false => parts.join(": "),
    };
    // A proxy may answer with a page of many lines.
    let words = said.split(|c: char| c.is_whitespace() || c.is_control());
    let words: Vec<_> = words.filter(|word| !word.is_empty()).collect();
    let line = words.join(" ");
    match line.char_indices().nth(LONGEST) {
        _ if line.is_empty() => failure.to_string(),
        Some((end, _)) => format!("{failure}: {}…", &line[..end]),
        None => format!("{failure}: {line}"),
    }
}

#[cfg(test)]
mod tests {
    use hyper::StatusCode;

    use super::*;

    const STATUS: &str = "HTTP 503 Service Unavailable";

    fn refused(body: &str) -> String {
        let failure = Failure::Status(StatusCode::SERVICE_UNAVAILABLE);
        described(failure, body.as_bytes())
    }

    #[test]
    fn answer_is_described_by_its_problem_or_its_text() {
        for (body, expected) in [
            (
                r#"{"title":"Overloaded","status":503,"detail":"the mailbox is full"}"#,
                "Overloaded: the mailbox is full",
            ),
            (r#"{"title":"Overloaded"}"#, "Overloaded"),
            (r#"{"detail":"two\nlines"}"#, "two lines"),
            (r#"{"ready":false}"#, r#"{"ready":false}"#),
            (r#"{"title":7}"#, r#"{"title":7}"#),
            ("<html>\r\n\t<h1>busy</h1>\u{1b}\n", "<html> <h1>busy</h1>"),
        ] {
            assert_eq!(refused(body), format!("{STATUS}: {expected}"));
        }
        assert_eq!(refused(""), STATUS);
        assert_eq!(described(Failure::TimedOut, b""), "timed out");
    }

    #[test]
    fn long_answer_is_cut() {
        let cut = format!("{STATUS}: {}…", "é".repeat(LONGEST));
        assert_eq!(refused(&"é".repeat(LONGEST + 1)), cut);
        let whole = "é".repeat(LONGEST);
        assert_eq!(refused(&whole), format!("{STATUS}: {whole}"));
    }
}
