//! The keys of log lines: `docs/operations.md` lists those that the source has, and messages are constant.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::{FILES, ROOT};

/// What a message may contain besides constant words: the action that failed, and what an operator did.
const IN_MESSAGES: [&str; 2] = ["{doing}", "{action}"];

/// A call that writes a log line.
#[derive(Debug)]
struct Call {
    target: String,
    keys: Vec<String>,
    message: String,
}

/// Splits the arguments of a call at a character outside of brackets and string literals, up to the end of the call.
fn split(text: &str, at: char) -> Vec<String> {
    let mut parts = vec![String::new()];
    let (mut depth, mut is_quoted, mut is_escaped) = (0, false, false);
    for c in text.chars() {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' if is_quoted => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            _ if is_quoted => {}
            '(' | '[' | '{' => depth += 1,
            ')' if depth == 0 => return parts,
            ')' | ']' | '}' => depth -= 1,
            _ if c == at && depth == 0 => {
                parts.push(String::new());
                continue;
            }
            _ => {}
        }
        parts.last_mut().expect("a part").push(c);
    }
    panic!("a call without an end: {text}");
}

fn calls(source: &str) -> Vec<Call> {
    const MACROS: [&str; 6] = ["error!(", "warn!(", "info!(", "debug!(", "trace!(", "log!("];
    let uses = source.split("log::").skip(1);
    let arguments = uses.filter_map(|rest| MACROS.iter().find_map(|name| rest.strip_prefix(name)));
    arguments.map(call).collect()
}

/// Parses `target: "likewise", key = value; "message"`.
fn call(arguments: &str) -> Call {
    let (before, message) = match split(arguments, ';').as_slice() {
        [_] => match split(arguments, ',').as_slice() {
            [target, message] => (vec![target.clone()], message.clone()),
            other => panic!("not a target and a message: {other:?}"),
        },
        [before, message] => (split(&format!("{before})"), ','), message.clone()),
        other => panic!("not keys and a message: {other:?}"),
    };
    let target = before[0].trim().strip_prefix("target: ");
    let keys = before[1..].iter().map(|argument| {
        let name = argument.split(['=', ':']).next().unwrap_or_default();
        name.trim().to_owned()
    });
    Call {
        target: target.expect("a target").trim_matches('"').to_owned(),
        // The level of `log::log!` is an argument, too.
        keys: keys.filter(|name| name != "level").collect(),
        message: message.trim().to_owned(),
    }
}

fn logged() -> Vec<Call> {
    let telemetry = Path::new(ROOT).join("src/telemetry");
    let sources = FILES.iter().filter(|path| path.starts_with(&telemetry));
    let found: Vec<_> = sources
        .flat_map(|path| calls(&fs::read_to_string(path).expect("a source")))
        .collect();
    assert!(found.len() > 50, "only {} calls", found.len());
    found
}

/// The code in the first cells of the tables below this heading.
fn documented(heading: &str) -> BTreeSet<String> {
    let text = fs::read_to_string(Path::new(ROOT).join("docs/operations.md")).expect("a document");
    let (_, section) = text.split_once(heading).expect("the heading");
    let section = section.split("\n## ").next().unwrap_or_default();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `"));
    let cells = rows.filter_map(|row| row.split(" |").next());
    cells
        .flat_map(|cell| cell.split('`').step_by(2))
        .map(str::to_owned)
        .collect()
}

#[test]
fn log_keys_are_documented() {
    let keys: BTreeSet<_> = logged().into_iter().flat_map(|call| call.keys).collect();
    let mut listed = documented("\n## Read the log\n");
    for field in ["timestamp", "level", "target", "message"] {
        assert!(listed.remove(field), "{field} is not documented");
        assert!(!keys.contains(field), "{field} is a field of every line");
    }
    assert_eq!(keys, listed);
    for key in keys {
        let is_word = |c: char| c.is_ascii_lowercase() || c == '_';
        assert!(key.chars().all(is_word), "{key} is not snake_case");
    }
}

#[test]
fn log_messages_are_constant() {
    for call in logged() {
        let mut message = call.message.clone();
        for allowed in IN_MESSAGES {
            message = message.replace(allowed, "");
        }
        assert!(message.starts_with('"'), "{call:?}");
        assert!(!message.contains('{'), "{call:?}");
        assert!(call.target.starts_with("likewise"), "{call:?}");
    }
}
