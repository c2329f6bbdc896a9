//! The requests in README.md and docs/API.md get the documented answers.
//!
//! A block of `sh` that ends with `cargo run` starts a service, and the blocks of `console` after it are sent there.
//! `LIKEWISE_TOUR=write cargo test tour` writes the current answers into the documents.

use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;

use crate::support::checks::pipeline_drains;
use crate::support::say;
use crate::support::service::{Service, Setup};

/// The address of the service in the documents.
const ADDRESS: &str = "127.0.0.1:8080";

/// Starts the service of a block, after running the commands before it; `None` if the block starts none.
fn started(block: &[&str]) -> Option<Service> {
    let (last, before) = block.split_last().expect("a command");
    let settings = last.strip_suffix("cargo run")?;
    let mut setup = Setup::new();
    if !before.is_empty() {
        shell(&before.join("\n"), setup.folder());
    }
    for setting in settings.split_whitespace() {
        let (name, value) = setting.split_once('=').expect("a setting");
        setup = setup.set(name, value);
    }
    Some(setup.start())
}

fn shell(script: &str, folder: &Path) -> String {
    let ran = Command::new("bash")
        .args(["-c", script])
        .current_dir(folder)
        .output()
        .unwrap_or_else(|error| panic!("bash cannot be run: {error}"));
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{script}: {} {said}", ran.status);
    String::from_utf8_lossy(&ran.stdout).replace('\r', "")
}

/// The answer to a command, after the pipeline has processed the previous commands. A command that reads for a second
/// reads for longer if its answer is not right, because a busy machine may not answer within a second.
fn answer(
    service: &Service,
    variables: &[String],
    command: &str,
    is_right: impl Fn(&str) -> bool,
) -> String {
    const ONE_SECOND: &str = " -m 1 ";
    pipeline_drains(service);
    let script = format!("{}\n{command}", variables.join("\n"));
    let script = script.replace(ADDRESS, &service.address().to_string());
    let mut limits = [ONE_SECOND, " -m 3 ", " -m 10 "].into_iter();
    loop {
        let longer = limits.next().filter(|_| script.contains(ONE_SECOND));
        let script = script.replace(ONE_SECOND, longer.unwrap_or(ONE_SECOND));
        let said = shell(&script, service.setup().folder());
        let said = said.trim_end();
        if longer.is_none() || is_right(said) {
            return said.to_owned();
        }
    }
}

/// An answer without the parts that vary: ids, times, cursors, seconds until a limit resets, and the order of
/// headers.
fn steady(answer: &str) -> String {
    static VARYING: LazyLock<Vec<(&str, usize)>> = LazyLock::new(|| {
        vec![
            ("\"event_id\":\"", 36),
            ("\"liked_at\":\"", 27),
            ("\"next_cursor\":\"", 40),
        ]
    });
    let mut lines: Vec<String> = Vec::new();
    for line in answer.lines() {
        let mut line = match line.split_once(": ") {
            Some((
                name @ ("date" | "ratelimit" | "retry-after" | "content-length" | "retry" | "id"),
                _,
            )) => name.to_owned(),
            _ => line.to_owned(),
        };
        if let Some((before, after)) = line.split_once("try again in ") {
            let rest = after.trim_start_matches(|c: char| c.is_ascii_digit());
            line = format!("{before}try again in{rest}");
        }
        for (name, least) in VARYING.iter() {
            let parts: Vec<_> = line.split(name).collect();
            let steady = parts.iter().enumerate().map(|(index, part)| {
                if index == 0 {
                    return (*part).to_owned();
                }
                let (value, rest) = part.split_once('"').expect("a quote after a value");
                assert!(value.len() >= *least, "{name}{value}");
                format!("{name}\"{rest}")
            });
            line = steady.collect();
        }
        lines.push(line);
    }
    // The order of headers is arbitrary.
    if let Some(end) = lines.iter().position(String::is_empty) {
        lines[1..end].sort();
    }
    lines.join("\n")
}

#[test]
fn requests_of_the_api_document_work() {
    answers_are_as_documented("docs/API.md", 30);
}

#[test]
fn requests_of_the_readme_work() {
    answers_are_as_documented("README.md", 5);
}

/// A part of a document.
enum Part<'a> {
    /// A line without a request.
    Line(&'a str),
    /// The commands of a block of `sh`.
    Shell(Vec<&'a str>),
    /// A command, which may have several lines, and the documented answer.
    Request(String, String),
}

/// Splits a document into parts. The lines around blocks are parts of their own.
fn parts(text: &str) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        parts.push(Part::Line(line));
        if line == "```sh" {
            let block = lines.by_ref().take_while(|line| *line != "```");
            parts.push(Part::Shell(block.collect()));
            parts.push(Part::Line("```"));
        }
        if line != "```console" {
            continue;
        }
        while let Some(first) = lines.next_if(|line| line.starts_with("$ ")) {
            let mut command = first.strip_prefix("$ ").expect("a prompt").to_owned();
            while command.matches('\'').count() % 2 == 1 {
                command += &format!("\n{}", lines.next().expect("the command's end"));
            }
            let mut expected = Vec::new();
            while let Some(line) = lines.next_if(|line| !line.starts_with("$ ") && *line != "```") {
                expected.push(line);
            }
            parts.push(Part::Request(command, expected.join("\n")));
        }
    }
    parts
}

/// Returns whether a command sets a variable for the later ones.
fn sets_variable(command: &str) -> bool {
    let name = command.split_once('=').map(|(name, _)| name);
    name.is_some_and(|name| name.bytes().all(|byte| byte.is_ascii_uppercase()))
}

fn difference(command: &str, expected: &str, found: &str) -> String {
    format!("$ {command}\n  documented:\n{expected}\n  actual:\n{found}")
}

/// Sends the requests of a document, at least `least` of them, and compares the answers.
#[track_caller]
fn answers_are_as_documented(document: &str, least: usize) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(document);
    let text = std::fs::read_to_string(&path).expect("a document");
    let mut written = String::new();
    let mut differences = Vec::new();
    let mut requests = 0;
    let mut service = None;
    let mut variables = Vec::new();
    for part in parts(&text) {
        match part {
            Part::Line(line) => written += &format!("{line}\n"),
            Part::Shell(block) => {
                for line in &block {
                    written += &format!("{line}\n");
                }
                variables.clear();
                service = started(&block);
            }
            Part::Request(command, expected) => {
                let service = service
                    .as_ref()
                    .unwrap_or_else(|| panic!("{document}: a request before a service starts"));
                written += &format!("$ {command}\n");
                let is_right = |found: &str| steady(&expected) == steady(found);
                let found = answer(service, &variables, &command, is_right);
                if !found.is_empty() {
                    written += &format!("{found}\n");
                }
                if sets_variable(&command) {
                    variables.push(command);
                    continue;
                }
                requests += 1;
                if !is_right(&found) {
                    differences.push(difference(&command, &expected, &found));
                }
            }
        }
    }
    if std::env::var("LIKEWISE_TOUR").as_deref() == Ok("write") {
        std::fs::write(&path, written).expect("a document");
        say(format_args!("{document}: wrote {requests} answers"));
        return;
    }
    assert!(requests >= least, "{document}: {requests} requests");
    assert!(differences.is_empty(), "{}", differences.join("\n\n"));
}

matrix!([sqlite, mariadb_stack, postgres_stack]: requests_of_the_api_document_work_with_other_ids);

/// Sends the requests of the first service of the API document to one with users that are UUIDs, resources that are
/// text, and other resource types.
fn requests_of_the_api_document_work_with_other_ids(setup: Setup) {
    let service = setup
        .set("LIKEWISE_USER_IDS", "uuid")
        .set("LIKEWISE_RESOURCE_IDS", "text")
        .set("LIKEWISE_RESOURCE_TYPES", "post,photo")
        .start();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/API.md");
    let text = std::fs::read_to_string(path).expect("a document");
    let mut differences = Vec::new();
    let mut services = 0;
    let mut requests = 0;
    let mut variables = Vec::new();
    for part in parts(&text) {
        match part {
            Part::Shell(_) => services += 1,
            Part::Request(command, expected) if services == 1 && translates(&command) => {
                let command = translated(&command);
                let expected = translated(&expected);
                let is_right = |found: &str| unlike_kinds(&expected) == unlike_kinds(found);
                let found = answer(&service, &variables, &command, is_right);
                if sets_variable(&command) {
                    variables.push(command);
                    continue;
                }
                requests += 1;
                if !is_right(&found) {
                    differences.push(difference(&command, &expected, &found));
                }
            }
            Part::Line(_) | Part::Request(..) => {}
        }
    }
    assert!(requests >= 25, "{requests} requests");
    assert!(differences.is_empty(), "{}", differences.join("\n\n"));
}

/// Returns whether a request has a meaning with other ids: not one for the older service, whose ids are numbers, and
/// not one whose id is invalid because it is not a number.
fn translates(command: &str) -> bool {
    !command.contains("/v1/action/") && !command.contains("/seven/")
}

/// Replaces the numbers of users by UUIDs, those of resources by text, and the resource types by others.
fn translated(text: &str) -> String {
    let user = |digits: &str| format!("00000000-0000-4000-8000-{digits:0>12}");
    let resource = |digits: &str| format!("clip-{digits}");
    let mut text = text.to_owned();
    for (before, after) in [
        ("/videos/", "/posts/"),
        ("/comments/", "/photos/"),
        ("resource_type=comment", "resource_type=photo"),
        ("resource_type=video", "resource_type=post"),
        ("resources=video:", "resources=post:"),
        (",comment:", ",photo:"),
    ] {
        text = text.replace(before, after);
    }
    for space in ["", " "] {
        for (before, after) in [("video", "post"), ("comment", "photo")] {
            text = text.replace(
                &format!("\"resource_type\":{space}\"{before}\""),
                &format!("\"resource_type\":{space}\"{after}\""),
            );
        }
        let quoted = |id: String| format!("\"{id}\"");
        text = renumbered(&text, &format!("\"user_id\":{space}"), |id| {
            quoted(user(id))
        });
        text = renumbered(&text, &format!("\"resource_id\":{space}"), |id| {
            quoted(resource(id))
        });
    }
    text = renumbered(&text, "X-User-Id: ", user);
    text = renumbered(&text, "/users/", user);
    for before in ["resources=post:", ",photo:", "/posts/"] {
        text = renumbered(&text, before, resource);
    }
    renumbered(&text, "/photos/", resource)
}

/// Replaces each number after `before`. Zero stays, because it is not a valid id of any kind.
fn renumbered(text: &str, before: &str, id: impl Fn(&str) -> String) -> String {
    let mut parts = text.split(before);
    let mut renumbered = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let rest = part.trim_start_matches(|c: char| c.is_ascii_digit());
        let digits = &part[..part.len() - rest.len()];
        renumbered += before;
        match digits {
            "" | "0" => renumbered += digits,
            digits => renumbered += &id(digits),
        }
        renumbered += rest;
    }
    renumbered
}

/// An answer without the parts that vary between runs or between backends, or that tell which ids are valid. `changed`
/// is unknown if the event was synced before it was applied to the cache.
fn unlike_kinds(answer: &str) -> String {
    let mut answer =
        steady(answer).replace("\"durability\":\"broker\"", "\"durability\":\"database\"");
    for changed in ["true", "false", "null"] {
        answer = answer.replace(&format!("\"changed\":{changed},"), "");
    }
    let mut parts = answer.split("must be a ");
    let mut steady = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (_, rest) = part.split_once('"').unwrap_or(("", part));
        steady += &format!("must be\"{rest}");
    }
    steady
}
