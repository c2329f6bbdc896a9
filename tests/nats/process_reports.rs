//! Each process of a deployment reports its actors, and carries out commands to them.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::database::Database;
use crate::support::http::Client;
use crate::support::redis_and_nats::Stack;
use crate::support::servers::Kind;
use crate::support::service::{Service, Setup, Signal};
use crate::support::{say, until_equal, until_seen};

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
        deployment.until_worker_is("running");
        deployment
    }

    /// Waits until the api lists a worker in this state. Returns the api's report of it.
    #[track_caller]
    fn until_worker_is(&self, state: &str) -> Value {
        until_worker(&self.api.client(), state)
    }
}

/// Returns what this process reports of the processes with this role.
fn with_role(client: &Client, role: &str) -> Vec<Value> {
    let reports = client.get(CLUSTER).ok();
    let processes = reports["processes"].as_array().expect("processes");
    let of_role = processes.iter().filter(|process| process["role"] == role);
    of_role.cloned().collect()
}

#[track_caller]
fn until_worker(client: &Client, state: &str) -> Value {
    let workers = until_seen(
        &format!("a worker that is {state}"),
        || with_role(client, "worker"),
        |workers| workers.iter().any(|worker| worker["state"] == state),
    );
    let mut workers = workers.into_iter();
    workers
        .find(|worker| worker["state"] == state)
        .expect("a worker")
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
            "two processes",
            || asked.client().get(CLUSTER).ok(),
            |reports| reports["processes"].as_array().map(Vec::len) == Some(2),
        );
        assert_eq!(reports["complete"], true, "{reports}");
        assert_eq!(reports["note"], Value::Null, "{reports}");
        let processes = reports["processes"].as_array().expect("processes");
        let (this, other) = (&processes[0], &processes[1]);
        assert_eq!(
            (&this["is_this"], &this["role"]),
            (&true.into(), &own.into())
        );
        assert_eq!(other["is_this"], false);
        for process in processes {
            assert_eq!(process["state"], "running", "{process}");
            let subscribes = actor(process, "nats_subscriber")["state"] == "running";
            assert_eq!(subscribes, process["role"] == "worker", "{process}");
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
    let running = deployment.until_worker_is("running");
    let Deployment { api, worker, stack } = deployment;
    let setup = worker.kill();
    let client = api.client();
    let gone = until_worker(&client, "gone");
    assert_eq!(id(&gone), id(&running));
    assert!(gone["age_ms"].as_u64() >= Some(10_000), "{gone}");
    let last = &gone["report"]["uptime_seconds"];
    assert!(last.as_f64() >= running["report"]["uptime_seconds"].as_f64());
    assert_eq!(actor(&gone, "retry_scheduler")["state"], "running");
    let path = format!("/admin/actors/retry_scheduler/pause?process={}", id(&gone));
    client.post(&path, "").is_problem(503, "unavailable");

    // Its successor has another id, and ends in order.
    let successor = setup.start_as(&["serve", "--role", "worker"]);
    let running = until_worker(&client, "running");
    assert_ne!(id(&running), id(&gone));
    successor.stop();
    let stopped = until_worker(&client, "stopped");
    assert_eq!(id(&stopped), id(&running));
    assert_eq!(with_role(&client, "worker").len(), 2);
    drop((api, stack));
}

#[test]
fn blocked_actor_shows_in_other_processes() {
    let deployment = Deployment::start();
    let worker = deployment.worker.client();
    let started = Instant::now();
    let blocked = worker.post("/admin/faults/block/sync_publisher", "");
    blocked.has_status(202);
    let api = deployment.api.client();
    let stuck = until_seen(
        "the blocked actor in the report of its process",
        || with_role(&api, "worker").remove(0),
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
    let process = deployment.until_worker_is("running");
    let process = id(&process);
    let send = |actor: &str, action: &str, process: &str| {
        let path = format!("/admin/actors/{actor}/{action}?process={process}");
        api.client().send("POST", &path, &[("X-Operator", "ada")])
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
    until_equal("the restart", 1, restarts);
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
        .map(|one| {
            let text = |name: &str| one[name].as_str().expect("text").to_owned();
            assert_eq!(text("operator"), "ada");
            [text("action"), text("target"), text("result")].join(" ")
        })
        .collect();
    let expected = [
        "pause nats_subscriber done",
        "pause nats_subscriber unchanged",
        "resume nats_subscriber done",
        "restart retry_scheduler done",
        "pause event_publisher failed",
    ];
    assert_eq!(listed, expected);

    // The command line does the same; the beginning of the id is enough.
    let url = api.url();
    let command = |action: &str| {
        let at = ["--process", &process[..18], "--url", &url, "--yes"];
        api.setup()
            .run(&[&["actors", action, "nats_subscriber"][..], &at].concat())
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
    let process = deployment.until_worker_is("running");
    worker.signal(Signal::STOP);
    let started = Instant::now();
    deployment.until_worker_is("silent");
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
    deployment.until_worker_is("running");
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
    until_worker(&client, "silent");
    deployment.stack.nats.run();
    until_worker(&client, "running");
    until_seen(
        "the note to end",
        || client.get(CLUSTER).ok(),
        |reports| reports["complete"] == true,
    );
}
