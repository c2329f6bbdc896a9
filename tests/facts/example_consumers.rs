//! The consumers in examples/consumers, in Python and in Node.js: they run as they are.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::support::checks::pipeline_drains;
use crate::support::redis_and_nats::Stack;
use crate::support::schemathesis::python;
use crate::support::servers::program;
use crate::support::service::{Service, Setup};
use crate::support::{PATIENCE, until, until_equal, until_seen};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A running example, killed when it is dropped.
struct Consumer {
    child: Child,
    printed: PathBuf,
    _folder: tempfile::TempDir,
}

impl Consumer {
    /// Starts the example of this name in a folder of its own.
    #[track_caller]
    fn start(name: &str, environment: &[(&str, &str)]) -> Self {
        let example = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("examples/consumers");
        let folder = tempfile::tempdir().expect("a folder");
        let mut command = if name.ends_with(".py") {
            let mut command = python();
            command.arg(example.join("python").join(name));
            command
        } else {
            // Node.js looks for packages beside the file.
            let packages = program("LIKEWISE_TEST_TYPESCRIPT").join("node_modules");
            let link = folder.path().join("node_modules");
            std::os::unix::fs::symlink(packages, link).expect("a link");
            let copy = folder.path().join(name);
            fs::copy(example.join("node").join(name), &copy).expect("a copy");
            let mut command = Command::new(program("LIKEWISE_TEST_NODE"));
            command.arg(copy);
            command
        };
        let printed = folder.path().join("printed");
        let child = command
            .envs(environment.iter().copied())
            .stdout(File::create(&printed).expect("a file"))
            .stderr(Stdio::inherit())
            .spawn()
            .expect("the example starts");
        Self {
            child,
            printed,
            _folder: folder,
        }
    }

    /// Waits for these lines.
    #[track_caller]
    fn prints(&self, lines: &[&str]) {
        until_equal("the example to print the facts", lines.join("\n"), || {
            fs::read_to_string(&self.printed)
                .expect("text")
                .trim_end()
                .to_owned()
        });
    }

    /// Waits until it listens. Returns its URL.
    #[track_caller]
    fn url(&self) -> (String, String) {
        until("the example to listen", PATIENCE, || {
            let printed = fs::read_to_string(&self.printed).expect("text");
            let port = printed.strip_prefix("listening on ").map(str::trim);
            let url = port.map(|port| format!("http://127.0.0.1:{port}/"));
            url.map(|url| (url, printed.trim().to_owned()))
                .ok_or(printed.clone())
        })
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Likes and unlikes, one after the other.
fn make_facts(service: &Service) {
    let client = service.client();
    client.like(42, 7);
    pipeline_drains(service);
    client.like(43, 7);
    pipeline_drains(service);
    client.unlike(42, 7);
    pipeline_drains(service);
}

const FACTS: [&str; 3] = [
    "liked 42 video 7 1",
    "liked 43 video 7 2",
    "unliked 42 video 7 1",
];

#[test]
fn examples_read_the_stream() {
    let stack = Stack::start();
    let setup = stack.setup().set("LIKEWISE_FACTS_STREAM", "true");
    let service = setup.start();
    make_facts(&service);
    until("the stream to exist", PATIENCE, || {
        super::in_stream(&stack.nats.url())
    });
    let environment = [("NATS_URL", &*stack.nats.url())];
    let consumers = ["stream.py", "stream.mjs"].map(|name| Consumer::start(name, &environment));
    for consumer in &consumers {
        consumer.prints(&FACTS);
    }
}

#[test]
fn examples_verify_the_signatures_of_webhooks() {
    let environment = [("WEBHOOK_SECRET", SECRET), ("PORT", "0")];
    let wrong = "whsec_bmV3bmV3bmV3bmV3bmV3bmV3bmV3bmV3bmV3";
    let suspicious = [("WEBHOOK_SECRET", wrong), ("PORT", "0")];
    let start =
        |environment| ["webhook.py", "webhook.mjs"].map(|name| Consumer::start(name, environment));
    let (consumers, suspicious) = (start(&environment), start(&suspicious));
    let consumers = consumers.map(|consumer| (consumer.url(), consumer));
    let suspicious = suspicious.map(|consumer| (consumer.url(), consumer));
    let all = consumers.iter().chain(&suspicious);
    let urls: Vec<_> = all.map(|((url, _), _)| url.as_str()).collect();
    let service = Setup::new()
        .set("LIKEWISE_WEBHOOK_URLS", urls.join(","))
        .set("LIKEWISE_WEBHOOK_SECRET", SECRET)
        .start();
    make_facts(&service);
    for ((_, listening), consumer) in &consumers {
        let mut lines = vec![listening.as_str()];
        lines.extend(FACTS);
        consumer.prints(&lines);
    }
    // Receivers with another secret refuse every webhook, so their facts wait.
    for ((url, listening), consumer) in &suspicious {
        let refusal = || {
            let details = service.client().actor("fact_publisher").details;
            let receivers = details["receivers"].as_array().expect("receivers");
            let receiver = receivers.iter().find(|one| one["receiver"] == url.as_str());
            receiver.expect("it")["last_error"].to_string()
        };
        until_seen("the refusal to be reported", refusal, |error| {
            error.contains("answered 401")
        });
        consumer.prints(&[listening.as_str()]);
    }
    service.database().until_count("likewise_outbox", 6);
}
