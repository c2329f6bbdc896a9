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

/// The answer to a command, after the pipeline has processed the previous commands.
fn answer(service: &Service, variables: &[String], command: &str) -> String {
    pipeline_drains(service);
    let script = format!("{}\n{command}", variables.join("\n"));
    let script = script.replace(ADDRESS, &service.address().to_string());
    shell(&script, service.setup().folder())
        .trim_end()
        .to_owned()
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
            Some((name @ ("date" | "ratelimit" | "retry-after" | "content-length"), _)) => {
                name.to_owned()
            }
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
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        written += &format!("{line}\n");
        match line {
            "```sh" => {
                let mut block = Vec::new();
                for line in lines.by_ref().take_while(|line| *line != "```") {
                    written += &format!("{line}\n");
                    block.push(line);
                }
                written += "```\n";
                variables.clear();
                service = started(&block);
            }
            "```console" => {
                let service = service
                    .as_ref()
                    .unwrap_or_else(|| panic!("{document}: a request before a service starts"));
                while let Some(first) = lines.next_if(|line| line.starts_with("$ ")) {
                    let mut command = first.strip_prefix("$ ").expect("a prompt").to_owned();
                    while command.matches('\'').count() % 2 == 1 {
                        command += &format!("\n{}", lines.next().expect("the command's end"));
                    }
                    let mut expected = Vec::new();
                    while let Some(line) =
                        lines.next_if(|line| !line.starts_with("$ ") && *line != "```")
                    {
                        expected.push(line);
                    }
                    written += &format!("$ {command}\n");
                    let found = answer(service, &variables, &command);
                    if !found.is_empty() {
                        written += &format!("{found}\n");
                    }
                    if command
                        .split_once('=')
                        .is_some_and(|(name, _)| name.bytes().all(|byte| byte.is_ascii_uppercase()))
                    {
                        variables.push(command);
                        continue;
                    }
                    requests += 1;
                    let expected = expected.join("\n");
                    if steady(&expected) != steady(&found) {
                        differences.push(format!(
                            "$ {command}\n  documented:\n{expected}\n  actual:\n{found}"
                        ));
                    }
                }
            }
            _ => {}
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
