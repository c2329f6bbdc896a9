//! Behind a load balancer, a rolling restart fails no request: a process that gets SIGTERM reports not ready at once,
//! serves for the drain delay, and then drains.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::database::Database;
use crate::support::haproxy::Haproxy;
use crate::support::http::{Answer, Client};
use crate::support::logs::logged_in;
use crate::support::nginx::{Gateway, HOST, TOKEN};
use crate::support::servers::{Kind, Port, Server, free_port};
use crate::support::service::{Service, Setup, Signal};
use crate::support::tokens::{AUDIENCE, SECRET, claims, hs256, sha256};
use crate::support::{PATIENCE, say, until_equal, until_seen};

/// The clients that send at the same time.
const CLIENTS: i64 = 8;

const ADMIN_TOKEN: &str = "an admin token of tests";

const FEW: usize = 6_000;
const MANY: usize = 60_000;

#[test]
fn nginx_fails_no_request_during_a_rolling_restart() {
    behind_nginx(FEW);
}

#[test]
fn haproxy_fails_no_request_during_a_rolling_restart() {
    behind_haproxy(FEW);
}

#[test]
#[ignore = "takes minutes"]
fn nginx_fails_none_of_60000_requests() {
    behind_nginx(MANY);
}

#[test]
#[ignore = "takes minutes"]
fn haproxy_fails_none_of_60000_requests() {
    behind_haproxy(MANY);
}

fn behind_nginx(requests: usize) {
    let hash = sha256(TOKEN);
    let tokens = format!(
        "[[token]]\nname = \"gateway\"\nsha256 = \"{hash}\"\nscopes = [\"likes:write:any\"]\n"
    );
    let processes = Processes::start(|setup| {
        std::fs::write(setup.folder().join("tokens.toml"), &tokens).expect("a file");
        setup
            .set("LIKEWISE_HTTP_HOSTS", HOST)
            .set("LIKEWISE_TOKENS_FILE", "tokens.toml")
    });
    let gateway = Gateway::balancing(processes.addresses());
    let client = |_| {
        let headers = vec![
            ("Host", HOST.to_owned()),
            ("Cookie", "session=alice".to_owned()),
        ];
        (gateway.recommended(), headers)
    };
    processes.restart_under_load(requests, client);
}

fn behind_haproxy(requests: usize) {
    let processes = Processes::start(|setup| {
        setup
            .set("LIKEWISE_AUTH_MODE", "jwt")
            .set("LIKEWISE_JWT_SECRET", SECRET)
            .set("LIKEWISE_JWT_AUDIENCE", AUDIENCE)
            .set("LIKEWISE_RATE_LIMIT_USER", "off")
    });
    let haproxy = Haproxy::before(processes.addresses());
    let client = |number| {
        let token = hs256(SECRET.as_bytes(), &claims(number));
        let headers = vec![("Authorization", format!("Bearer {token}"))];
        (haproxy.client(), headers)
    };
    // HAProxy begins with the check of each process.
    haproxy.client().until_status("/v1/videos/top", 401);
    processes.restart_under_load(requests, client);
}

/// A worker and two apis at fixed addresses, on the same servers.
struct Processes {
    worker: Service,
    apis: [Option<Service>; 2],
    ports: [Port; 2],
}

impl Processes {
    #[track_caller]
    fn start(prepare: impl Fn(Setup) -> Setup) -> Self {
        let worker = Setup::on_parts(Kind::MariaDb)
            .set("LIKEWISE_ROLE", "worker")
            .start();
        let ports = std::array::from_fn(|_| free_port());
        let apis = ports.each_ref().map(|port: &Port| {
            let setup = worker
                .setup()
                .beside()
                .set("LIKEWISE_ROLE", "api")
                .set("LIKEWISE_ADMIN_TOKEN", ADMIN_TOKEN)
                .set("LIKEWISE_HTTP_ADDR", port.address())
                // HAProxy notices after two checks, a second apart.
                .set("LIKEWISE_DRAIN_DELAY_SECONDS", 4);
            Some(prepare(setup).start())
        });
        Self {
            worker,
            apis,
            ports,
        }
    }

    /// The folders with the logs of all processes, also of those that have ended.
    fn folders(&self) -> Vec<PathBuf> {
        let services = self.apis.iter().flatten().chain([&self.worker]);
        services
            .map(|service| service.setup().folder().to_owned())
            .collect()
    }

    fn addresses(&self) -> [SocketAddr; 2] {
        self.ports.each_ref().map(Port::address)
    }

    /// Restarts one api after the other while clients send at least this many requests. All of them succeed.
    #[track_caller]
    fn restart_under_load<'a>(
        mut self,
        requests: usize,
        client: impl Fn(i64) -> (Client, Vec<(&'a str, String)>) + Sync,
    ) {
        let sent = AtomicUsize::new(0);
        let is_over = AtomicBool::new(false);
        let folders = self.folders();
        let started = Instant::now();
        let mut restarts = 0;
        std::thread::scope(|scope| {
            let clients: Vec<_> = (1..=CLIENTS)
                .map(|number| {
                    let (client, sent, is_over) = (&client, &sent, &is_over);
                    let folders = &folders;
                    scope.spawn(move || {
                        let (client, headers) = client(number);
                        send_until(is_over, sent, number, &client, &headers, folders)
                    })
                })
                .collect();
            // Also ends the clients of a test that fails.
            scopeguard::defer!(is_over.store(true, Ordering::Relaxed));
            while restarts < 2 || sent.load(Ordering::Relaxed) < requests {
                self.restart(restarts % 2);
                restarts += 1;
            }
            is_over.store(true, Ordering::Relaxed);
            let failures: Vec<_> = clients
                .into_iter()
                .flat_map(|client| client.join().expect("a client"))
                .collect();
            let number = failures.len();
            let shown = &failures[..number.min(5)];
            assert!(failures.is_empty(), "{number} requests failed: {shown:#?}");
        });
        say(format_args!(
            "{} requests and {restarts} restarts in {:.1} s: none failed",
            sent.load(Ordering::Relaxed),
            started.elapsed().as_secs_f64()
        ));
        for api in &mut self.apis {
            drop(api.take());
        }
        self.worker.setup().verify(60).holds();
    }

    /// Restarts one of the apis, and waits until it serves requests again.
    #[track_caller]
    fn restart(&mut self, which: usize) {
        let mut api = self.apis[which].take().expect("a running api");
        api.signal(Signal::TERM);
        let status = api.wait(PATIENCE);
        assert!(status.success(), "it stopped with {status}");
        let api = api.end().start();
        let client = api.client();
        let bearer = format!("Bearer {ADMIN_TOKEN}");
        let metrics = || {
            client
                .send("GET", "/metrics", &[("Authorization", &bearer)])
                .text
        };
        until_seen("the new process to accept a like", metrics, |metrics| {
            metrics.contains("likewise_likes_accepted_total{")
        });
        self.apis[which] = Some(api);
    }
}

/// Whether a log in these folders names a failure of the cache.
fn has_cache_failed(folders: &[PathBuf]) -> bool {
    let mut folders = folders.iter();
    folders.any(|folder| !logged_in(folder, "dependency=cache").is_empty())
}

/// Likes, reads and unlikes videos of its own until the end. Returns what failed.
fn send_until(
    is_over: &AtomicBool,
    sent: &AtomicUsize,
    number: i64,
    client: &Client,
    headers: &[(&str, String)],
    folders: &[PathBuf],
) -> Vec<String> {
    let headers: Vec<_> = headers
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    let mut failures = Vec::new();
    for round in 0.. {
        let video = number * 1_000 + round % 50;
        let like = format!("/v1/videos/{video}/like");
        let count = format!("{like}s/count");
        let status = json!({"items": [{"resource_type": "video", "resource_id": video}]});
        for (method, path, body, liked) in [
            ("PUT", like.as_str(), String::new(), Some(true)),
            ("GET", &like, String::new(), Some(true)),
            ("POST", "/v1/likes/status", status.to_string(), None),
            ("GET", &count, String::new(), None),
            ("DELETE", &like, String::new(), Some(false)),
        ] {
            let send = || client.try_send(method, path, &headers, body.as_bytes());
            let is_ok = |answer: &Answer| answer.status == 200;
            let is_right =
                |answer: &Answer| liked.is_none_or(|liked| answer.json()["liked"] == liked);
            let mut answer = send();
            sent.fetch_add(1, Ordering::Relaxed);
            let is_other = |answer: &Result<Answer, String>| {
                answer
                    .as_ref()
                    .is_ok_and(|one| is_ok(one) && !is_right(one))
            };
            // A like that a failed cache has not taken is read after its commit.
            if method == "GET" && is_other(&answer) && has_cache_failed(folders) {
                answer = until_seen("the like to be read", send, |answer| !is_other(answer));
            }
            let succeeded = answer
                .as_ref()
                .is_ok_and(|answer| is_ok(answer) && is_right(answer));
            if !succeeded {
                failures.push(format!("{method} {path}: {answer:?}"));
            }
        }
        if is_over.load(Ordering::Relaxed) {
            break;
        }
    }
    failures
}

#[test]
fn likes_are_accepted_during_the_drain_delay() {
    let mut service = Setup::new()
        .set("LIKEWISE_DRAIN_DELAY_SECONDS", 300)
        .start();
    let client = service.client();
    assert_eq!(client.like(1, 7).like_count, Some(1));
    service.signal(Signal::TERM);
    until_equal("the service not to be ready", (503, true), || {
        let answer = client.get("/readyz");
        (answer.status, answer.json()["draining"] == true)
    });
    let answer = client.try_like("PUT", 2, 7).expect("an answer");
    assert_eq!(answer.status, 200, "{answer:?}");
    // A proxy must not reuse the connection.
    assert_eq!(answer.header("connection"), Some("close"), "{answer:?}");
    assert_eq!(client.read(2, 7).like_count, Some(2));
    // A second signal ends the delay, and the service drains.
    service.signal(Signal::TERM);
    assert!(service.wait(PATIENCE).success());
    assert_eq!(service.logged("everything drained").len(), 1);
    service.end().verify(0).holds();
}

#[test]
fn stopping_process_is_unready_at_once_while_the_database_hangs() {
    let database = Server::start(Kind::MariaDb);
    let mut service = Setup::new()
        .on(&Database::first_of(&database))
        .set("LIKEWISE_DRAIN_DELAY_SECONDS", 300)
        .start();
    let client = service.client();
    client.until_status("/readyz", 200);
    database.suspend();
    let ready = || client.get("/readyz").json();
    until_seen("the database to be down", ready, |ready| {
        ready["parts"]["database"]["state"] == "down"
    });

    service.signal(Signal::TERM);
    let timed = || {
        let asked = Instant::now();
        let answer = client.get("/readyz");
        (answer, asked.elapsed())
    };
    // A probe of the database takes two seconds.
    let (answer, _) = until_seen("an answer without a probe", timed, |(answer, took)| {
        answer.json()["draining"] == true && *took < Duration::from_secs(1)
    });
    let report = answer.has_status(503).json();
    assert_eq!(report["parts"]["database"]["state"], "down", "{report}");
    let reasons = json!(["the process is shutting down", "database is down"]);
    let named = report["reasons"].as_array().expect("reasons");
    assert_eq!(json!(named[..2]), reasons, "{report}");

    database.resume();
    service.signal(Signal::TERM);
    assert!(service.wait(PATIENCE).success());
}

#[test]
fn interrupt_and_worker_have_no_drain_delay() {
    let delayed = || Setup::new().set("LIKEWISE_DRAIN_DELAY_SECONDS", 300);
    delayed().start().stop();
    let mut worker = delayed().start_as(&["serve", "--role", "worker"]);
    worker.signal(Signal::TERM);
    assert!(worker.wait(PATIENCE).success());
}
