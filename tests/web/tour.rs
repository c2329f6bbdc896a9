//! The tour of docs/API.md, request by request: what it says is answered is what is answered.
//!
//! `LIKEWISE_TOUR=write cargo test tour` writes the answers of today into it.

use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;

use crate::support::checks::pipeline_drains;
use crate::support::say;
use crate::support::service::{Service, Setup};

const TOUR: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/API.md");

/// Where the tour says that the service listens.
const ADDRESS: &str = "127.0.0.1:8080";

/// The service that a part of the tour starts: what is run before that, and the settings.
fn started(block: &[&str]) -> Service {
    let (last, before) = block.split_last().expect("a command");
    let mut setup = Setup::new();
    if !before.is_empty() {
        shell(&before.join("\n"), setup.folder());
    }
    let settings = last.strip_suffix("cargo run");
    let settings = settings.unwrap_or_else(|| panic!("a block of sh ends with cargo run: {last}"));
    for setting in settings.split_whitespace() {
        let (name, value) = setting.split_once('=').expect("a setting");
        setup = setup.set(name, value);
    }
    setup.start()
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

/// The answer to a command, once the database has followed what came before it.
fn answer(service: &Service, variables: &[String], command: &str) -> String {
    pipeline_drains(service);
    let script = format!("{}\n{command}", variables.join("\n"));
    let script = script.replace(ADDRESS, &service.address().to_string());
    shell(&script, service.setup().folder())
        .trim_end()
        .to_owned()
}

/// An answer without what differs each time: ids, moments, cursors, the seconds until a limit is whole, and
/// the order of headers.
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
    // Headers come in any order.
    if let Some(end) = lines.iter().position(String::is_empty) {
        lines[1..end].sort();
    }
    lines.join("\n")
}

#[test]
fn documented_tour_answers_are_real() {
    let text = std::fs::read_to_string(TOUR).expect("docs/API.md");
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
                service = Some(started(&block));
            }
            "```console" => {
                let service = service
                    .as_ref()
                    .expect("a service before the first request");
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
                            "$ {command}\n  the tour says:\n{expected}\n  the answer is:\n{found}"
                        ));
                    }
                }
            }
            _ => {}
        }
    }
    if std::env::var("LIKEWISE_TOUR").as_deref() == Ok("write") {
        std::fs::write(TOUR, written).expect("docs/API.md");
        say(format_args!("wrote {requests} answers"));
        return;
    }
    assert!(requests > 30, "{requests} requests");
    assert!(differences.is_empty(), "{}", differences.join("\n\n"));
}
