//! Schemathesis: generates requests from an OpenAPI document, and checks that the answers conform to it.

use std::fs;
use std::path::Path;
use std::process::Command;

use rand::RngExt;
use serde_json::{Value, json};

use super::servers::program;
use super::service::Service;
use super::{say, seed};

/// A check of our own.
const PROBLEM_CODES: &str = include_str!("problem_codes.py");

/// The checks of each answer.
const CHECKS: [&str; 11] = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "missing_required_header",
    "unsupported_method",
    "allow_header_conformance",
    "use_after_free",
    "problem_codes",
];

/// The statuses of refused invalid requests. Other requests erase resources, which are refused first, or restart actors.
const REFUSALS: [u16; 15] = [
    400, 401, 403, 404, 405, 408, 409, 410, 413, 414, 415, 422, 429, 431, 503,
];

/// The answers that are no internal errors. While an actor restarts, which is one of the operations, and on a machine that is
/// too busy to answer in time, the service is unavailable.
const EXPECTED: [&str; 4] = ["2xx", "3xx", "4xx", "503"];

/// Operations that accept invalid requests: a batch refuses its items one by one.
const LENIENT: [&str; 1] = ["accept_behaviors"];

/// The number of random requests for each operation, besides the boundary values.
const EXAMPLES: &str = "15";

/// Ids of existing data, so that requests get past 404: operation path, parameter, values.
pub type Known<'a> = [(&'a str, &'a str, Vec<String>)];

/// A Python with the packages of `scripts/requirements.txt`.
#[track_caller]
pub fn python() -> Command {
    Command::new(program("LIKEWISE_TEST_SCHEMATHESIS_PYTHON"))
}

/// Sends all kinds of requests, with these headers, to every documented operation. Fails with the findings, and how to
/// reproduce them.
#[track_caller]
pub fn fuzz(test: &str, service: &Service, headers: &[(&str, &str)], known: &Known<'_>) {
    let seed: u32 = seed::rng(test).random();
    let folder = service.setup().folder();
    let settings = folder.join("schemathesis.toml");
    fs::write(&settings, configuration(known)).expect("a file");
    fs::write(folder.join("problem_codes.py"), PROBLEM_CODES).expect("a file");
    let mut command = python();
    command
        .current_dir(folder)
        .args(["-m", "schemathesis.cli", "--no-color", "--config-file"])
        .arg(&settings)
        .args(["run", &format!("{}/openapi.json", service.url())])
        .args(["--phases", "examples,coverage,fuzzing"])
        .args(["--max-examples", EXAMPLES, "--seed", &seed.to_string()])
        .args(["--generation-database", "none", "--warnings", "off"])
        .args(["--request-timeout", "25", "--output-truncate", "false"])
        // Their answers have no end; `live/` tests them.
        .args(["--exclude-path-regex", "/live$"])
        // The speed of the answers does not matter here.
        .args(["--suppress-health-check", "all"])
        .arg("--continue-on-failure");
    for (name, value) in headers {
        command.args(["--header", &format!("{name}: {value}")]);
    }
    let ran = command.output().expect("Schemathesis runs");
    let said = String::from_utf8_lossy(&ran.stdout);
    assert!(
        ran.status.success(),
        "{test}, seed {seed}: {}\n{said}\n{}",
        ran.status,
        String::from_utf8_lossy(&ran.stderr)
    );
    assert_eq!(
        number_after(&said, "Selected: "),
        number_after(&said, "Tested: "),
        "not all operations were tested:\n{said}"
    );
    say(format_args!("{said}"));
}

/// The number of operations in a line of the summary.
fn number_after(said: &str, label: &str) -> usize {
    const FEW: usize = 20;
    let (_, rest) = said.split_once(label).expect("a summary");
    let digits = rest.split(|c: char| !c.is_ascii_digit()).next();
    let number = digits.and_then(|digits| digits.parse().ok());
    number.filter(|number| *number > FEW).expect("operations")
}

/// `schemathesis.toml`.
fn configuration(known: &Known<'_>) -> String {
    let mut text = String::from("hooks = \"problem_codes.py\"\n[checks]\nenabled = false\n");
    for check in CHECKS {
        text += &format!("{check}.enabled = true\n");
    }
    text += &format!(
        "not_a_server_error.expected-statuses = {}\n",
        json!(EXPECTED)
    );
    for check in ["negative_data_rejection", "missing_required_header"] {
        let refusals = json!(REFUSALS.map(|status| status.to_string()));
        text += &format!("{check}.expected-statuses = {refusals}\n");
    }
    for operation in LENIENT {
        text += &format!(
            "[[operations]]\ninclude-operation-id = {}\n\
             checks.negative_data_rejection.enabled = false\n",
            json!(operation)
        );
    }
    // A paused actor makes the service unready for all other operations.
    text += "[[operations]]\ninclude-operation-id = \"pause_actor\"\nenabled = false\n";
    for (index, (path, parameter, values)) in known.iter().enumerate() {
        text += &format!(
            "[dictionaries.known{index}]\nvalues = {}\n\
             [[operations]]\ninclude-path = {}\n\
             parameters = {{ \"path.{parameter}\" = {{ dictionary = \"known{index}\", probability = 0.7 }} }}\n",
            json!(values),
            json!(path),
        );
    }
    text
}

/// Runs a Python program on a document, which it reads from a file whose name is its only argument.
#[track_caller]
pub fn check_document(program: &str, folder: &Path, document: &Value) {
    let file = folder.join("openapi.json");
    fs::write(&file, document.to_string()).expect("a file");
    let ran = python().args(["-c", program]).arg(&file).output();
    let ran = ran.expect("Python runs");
    assert!(
        ran.status.success(),
        "{}\n{}",
        String::from_utf8_lossy(&ran.stdout),
        String::from_utf8_lossy(&ran.stderr)
    );
}
