//! Each process of a deployment reports its actors, and carries out commands to them.

use std::cell::Cell;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::database::Database;
use crate::support::http::Client;
use crate::support::redis_and_nats::Stack;
use crate::support::servers::Kind;
use crate::support::service::{Service, Setup, Signal};
use crate::support::{PATIENCE, say, until, until_seen};

const CLUSTER: &str = "/admin/actors?scope=cluster";

/// An api and a worker.
struct Deployment {
    // Dropped first, before their dependencies.
    api: Service,
    worker: Service,
    stack: Stack,
}

impl Deployment {
    fn start() -> Self {
        let stack = Stack::start();
        let database = Database::hosted(Kind::MariaDb);
        let start = |role: &str| {
            let setup = stack.setup().on(&database);
            let setup = setup.set("LIKEWISE_FAULT_INJECTION", true);
            setup.start_as(&["serve", "--role", role])
        };
        let deployment = Self {
            api: start("api"),
            worker: start("worker"),
            stack,
        };
        let Self { api, worker, .. } = &deployment;
        until_reported(&api.client(), worker, "worker");
        until_reported(&worker.client(), api, "api");
        deployment
    }

    /// Waits until the api lists a worker in one of these states. Returns the api's report of it.
    #[track_caller]
    fn until_worker_is(&self, states: &[&str]) -> Value {
        until_worker(&self.api.client(), states)
    }
}

/// Waits until a process lists another one, with this role, and all its actors run. The first reports of a process may
/// be older than its actors.
#[track_caller]
fn until_reported(asked: &Client, other: &Service, role: &str) {
    let complete = other.client().get("/admin/actors").ok()["sequence"].as_u64();
    let runs = |process: &Value| {
        let report = &process["report"];
        let actors = report["actors"].as_array().expect("actors");
        process["state"] == "running"
            && report["sequence"].as_u64() > complete
            && actors
                .iter()
                .all(|actor| is_any(actor, &["running", "disabled"]))
    };
    until_seen(
        &format!("the {role} and its actors to run"),
        || with_role(asked, role),
        |processes| processes.iter().any(runs),
    );
}

/// Whether a process or an actor is in one of these states.
fn is_any(of: &Value, states: &[&str]) -> bool {
    states.iter().any(|state| of["state"] == *state)
}

/// Returns what this process reports of the processes with this role.
fn with_role(client: &Client, role: &str) -> Vec<Value> {
    let reports = client.get(CLUSTER).ok();
    let processes = reports["processes"].as_array().expect("processes");
    let of_role = processes.iter().filter(|process| process["role"] == role);
    of_role.cloned().collect()
}

#[track_caller]
fn until_worker(client: &Client, states: &[&str]) -> Value {
    until_worker_that(client, states, |_| true)
}

/// As [`until_worker`], of those workers only.
#[track_caller]
fn until_worker_that(client: &Client, states: &[&str], is_meant: impl Fn(&Value) -> bool) -> Value {
    let what = format!("a worker that is {}", states.join(" or "));
    until(&what, PATIENCE, || {
        let workers = with_role(client, "worker");
        let mut found = workers.iter().filter(|worker| is_any(worker, states));
        let found = found.find(|worker| is_meant(worker)).cloned();
        found.ok_or_else(|| format!("{workers:?}"))
    })
}

fn actor<'a>(process: &'a Value, name: &str) -> &'a Value {
    let actors = process["report"]["actors"].as_array().expect("actors");
    let mut named = actors.iter().filter(|actor| actor["name"] == name);
    named.next().expect("the actor")
}

fn id(process: &Value) -> &str {
    process["id"].as_str().expect("an id")
}

#[test]
fn every_process_answers_for_all() {
    let deployment = Deployment::start();
    let Deployment { api, worker, .. } = &deployment;
    for (asked, own) in [(api, "api"), (worker, "worker")] {
        let reports = until_seen(
            "two processes that run",
            || asked.client().get(CLUSTER).ok(),
            |reports| {
                let processes = reports["processes"].as_array().expect("processes");
                let is_right = |process: &Value| {
                    let subscribes = actor(process, "nats_subscriber")["state"] == "running";
                    process["state"] == "running" && subscribes == (process["role"] == "worker")
                };
                reports["complete"] == true
                    && processes.len() == 2
                    && processes.iter().all(is_right)
            },
        );
        assert_eq!(reports["note"], Value::Null, "{reports}");
        let processes = reports["processes"].as_array().expect("processes");
        let (this, other) = (&processes[0], &processes[1]);
        assert_eq!(
            (&this["is_this"], &this["role"]),
            (&true.into(), &own.into())
        );
        assert_eq!(other["is_this"], false);
        for process in processes {
            let sequence = &process["report"]["sequence"];
            assert!(sequence.as_u64() >= Some(1), "{process}");
        }
        assert_ne!(this["host"], other["host"], "{reports}");
        let one = asked
            .client()
            .get("/admin/actors/nats_subscriber?scope=cluster")
            .ok();
        for process in one["processes"].as_array().expect("processes") {
            let actors = process["report"]["actors"].as_array().expect("actors");
            assert_eq!(actors.len(), 1, "{process}");
            assert_eq!(actors[0]["name"], "nats_subscriber");
        }
    }
    let unknown = api.client().get("/admin/actors/nobody?scope=cluster");
    unknown.is_problem(404, "unknown_actor");
    let odd = api.client().get("/admin/actors?scope=everything");
    odd.is_problem(400, "invalid_parameter");
}

#[test]
fn killed_process_is_gone_with_its_last_report() {
    let deployment = Deployment::start();
    let running = deployment.until_worker_is(&["running"]);
    let Deployment { api, worker, stack } = deployment;
    let mut setup = worker.kill();
    let client = api.client();
    let gone = until_worker(&client, &["gone"]);
    assert_eq!(id(&gone), id(&running));
    assert!(gone["age_ms"].as_u64() >= Some(10_000), "{gone}");
    let last = &gone["report"]["uptime_seconds"];
    assert!(last.as_f64() >= running["report"]["uptime_seconds"].as_f64());
    assert_eq!(actor(&gone, "retry_scheduler")["state"], "running");
    let path = format!("/admin/actors/retry_scheduler/pause?process={}", id(&gone));
    client.post(&path, "").is_problem(503, "unavailable");

    // Its successor has another id, and ends in order. On a busy machine its last report may take too long, so others
    // follow.
    let mut successors = 0;
    loop {
        let successor = setup.start_as(&["serve", "--role", "worker"]);
        successors += 1;
        let running = until_worker(&client, &["running"]);
        assert_ne!(id(&running), id(&gone));
        setup = successor.stop();
        let is_successor = |worker: &Value| id(worker) == id(&running);
        let ended = until_worker_that(&client, &["stopped", "gone"], is_successor);
        if ended["state"] == "stopped" {
            break;
        }
        assert!(successors < 3, "{ended}");
    }
    assert_eq!(with_role(&client, "worker").len(), 1 + successors);
    drop((api, stack));
}

#[test]
fn blocked_actor_shows_in_other_processes() {
    let deployment = Deployment::start();
    let started = Instant::now();
    let mut keep_blocked = deployment.worker.client().keep_blocked("sync_publisher");
    let api = deployment.api.client();
    let stuck = until_seen(
        "the blocked actor in the report of its process",
        || {
            keep_blocked();
            with_role(&api, "worker").remove(0)
        },
        |worker| actor(worker, "sync_publisher")["state"] == "stuck",
    );
    say(format_args!("it showed after {:?}", started.elapsed()));
    let reason = &actor(&stuck, "sync_publisher")["reason"];
    let reason = reason.as_str().expect("a reason");
    assert!(reason.starts_with("it blocks its thread"), "{reason}");
    until_seen(
        "the actor to recover",
        || with_role(&api, "worker").remove(0),
        |worker| actor(worker, "sync_publisher")["state"] == "running",
    );
}

#[test]
fn operators_command_actors_of_other_processes() {
    let deployment = Deployment::start();
    let Deployment { api, worker, .. } = &deployment;
    let process = deployment.until_worker_is(&["running"]);
    let process = id(&process);
    // A busy machine may not answer in time. Such a command may have been carried out.
    let unanswered = Cell::new(0);
    let send = |actor: &str, action: &str, process: &str| {
        let path = format!("/admin/actors/{actor}/{action}?process={process}");
        let command = || {
            let answer = api.client().send("POST", &path, &[("X-Operator", "ada")]);
            if answer.status == 503 {
                unanswered.set(unanswered.get() + 1);
            }
            answer
        };
        until_seen("an answer of the process", command, |answer| {
            answer.status != 503
        })
    };
    let paused = send("nats_subscriber", "pause", process).ok();
    assert_eq!(
        (&paused["state"], &paused["reason"]),
        (&"paused".into(), &"paused by ada".into())
    );
    assert_eq!(worker.client().actor("nats_subscriber").state, "paused");
    worker.until_logged("actor paused operator=ada action=paused actor=nats_subscriber");
    send("nats_subscriber", "pause", process).ok();
    let resumed = send("nats_subscriber", "resume", process).ok();
    assert_eq!(resumed["state"], "running", "{resumed}");
    send("retry_scheduler", "restart", process).ok();
    let restarts = || worker.client().actor("retry_scheduler").restarts;
    until_seen("the restart", restarts, |restarts| {
        (1..=1 + unanswered.get()).contains(restarts)
    });
    // The api's own actors are not concerned.
    assert_eq!(api.client().actor("cache_writer").restarts, 0);

    send("event_publisher", "pause", process).is_problem(409, "conflict");
    send("nobody", "pause", process).is_problem(404, "unknown_actor");
    send("nats_subscriber", "pause", "nobody").is_problem(404, "unknown_process");

    let listed = api
        .client()
        .get(&format!("/admin/operations?process={process}"))
        .ok();
    let listed: Vec<_> = listed["operations"]
        .as_array()
        .expect("operations")
        .iter()
        .rev()
        .filter(|one| !one["detail"].to_string().contains("did not answer"))
        .map(|one| {
            let text = |name: &str| one[name].as_str().expect("text").to_owned();
            assert_eq!(text("operator"), "ada");
            let result = match unanswered.get() {
                0 => text("result"),
                // The repetition of a command that was carried out changes nothing.
                _ => text("result").replace("unchanged", "done"),
            };
            [text("action"), text("target"), result].join(" ")
        })
        .collect();
    let expected = [
        "pause nats_subscriber done",
        match unanswered.get() {
            0 => "pause nats_subscriber unchanged",
            _ => "pause nats_subscriber done",
        },
        "resume nats_subscriber done",
        "restart retry_scheduler done",
        "pause event_publisher failed",
    ];
    assert_eq!(listed, expected);

    // The command line does the same; the beginning of the id is enough.
    let url = api.url();
    let command = |action: &str| {
        let at = ["--process", &process[..18], "--url", &url, "--yes"];
        let arguments = [&["actors", action, "nats_subscriber"][..], &at].concat();
        until_seen(
            "an answer of the process",
            || api.setup().run(&arguments),
            |ran| !ran.stderr.contains("did not answer"),
        )
    };
    command("pause")
        .exits(0)
        .prints("nats_subscriber is paused");
    assert_eq!(worker.client().actor("nats_subscriber").state, "paused");
    command("resume").exits(0);
    assert_eq!(worker.client().actor("nats_subscriber").state, "running");
}

#[test]
fn hanging_process_delays_no_answer() {
    /// Less than the time after which a command gives up, and more than a busy machine needs.
    const AT_ONCE: Duration = Duration::from_secs(30);
    let deployment = Deployment::start();
    let Deployment { api, worker, .. } = &deployment;
    let process = deployment.until_worker_is(&["running"]);
    worker.signal(Signal::STOP);
    let started = Instant::now();
    deployment.until_worker_is(&["silent", "gone"]);
    let path = format!(
        "/admin/actors/retry_scheduler/pause?process={}",
        id(&process)
    );
    let answer = api.client().post(&path, "");
    answer.is_problem(503, "unavailable");
    assert!(started.elapsed() < AT_ONCE, "{:?}", started.elapsed());
    let failed = api.client().get("/admin/operations").ok();
    let failed = &failed["operations"][0];
    assert_eq!(failed["result"], "failed", "{failed}");
    let detail = failed["detail"].as_str().expect("a detail");
    assert!(detail.contains("did not answer"), "{detail}");
    worker.signal(Signal::CONT);
    deployment.until_worker_is(&["running"]);
}

#[test]
fn process_without_nats_says_that_it_knows_only_itself() {
    let service = Setup::new().start();
    let reports = service.client().get(CLUSTER).ok();
    assert_eq!(reports["complete"], false, "{reports}");
    let note = reports["note"].as_str().expect("a note");
    assert!(note.contains("LIKEWISE_NATS_URL"), "{note}");
    let processes = reports["processes"].as_array().expect("processes");
    assert_eq!(processes.len(), 1, "{reports}");
    let own = id(&processes[0]).to_owned();
    let client = service.client();
    let path = format!("/admin/actors/retry_scheduler/pause?process={own}");
    assert_eq!(client.post(&path, "").ok()["state"], "paused");
    let path = "/admin/actors/retry_scheduler/resume?process=another";
    client.post(path, "").is_problem(404, "unknown_process");
}

#[test]
fn lost_connection_to_nats_is_said() {
    let mut deployment = Deployment::start();
    deployment.stack.nats.stop();
    let client = deployment.api.client();
    let reports = until_seen(
        "the note",
        || client.get(CLUSTER).ok(),
        |reports| reports["complete"] == false,
    );
    let note = reports["note"].as_str().expect("a note");
    assert!(note.contains("not connected"), "{note}");
    until_worker(&client, &["silent", "gone"]);
    deployment.stack.nats.run();
    until_worker(&client, &["running"]);
    until_seen(
        "the note to end",
        || client.get(CLUSTER).ok(),
        |reports| reports["complete"] == true,
    );
}
