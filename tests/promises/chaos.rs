//! Faults in random order under a steady load, and nothing lost, nothing doubled: the journal of the load says
//! what was acknowledged, and `verify --journal` compares it with the database and Redis.
//!
//! `scripts/chaos` runs the same for as long as it is told to.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{RngExt, SeedableRng};
use serde_json::Value;

use crate::support::database::Database;
use crate::support::servers::{Kind, Server};
use crate::support::service::{Process, Service, Setup, Signal};
use crate::support::stack::Stack;
use crate::support::{PATIENCE, interactions, say, seed, until};

/// Requests a second. A debug build takes some hundred beside all the servers.
const RATE: usize = 250;

/// How long an unanswered request waits: longer than anything is suspended, so that only the end of a process
/// leaves one unanswered.
const CLIENT_TIMEOUT: &str = "25";

#[test]
fn faults_on_mariadb_redis_nats_api_and_workers_lose_and_double_nothing() {
    let rng = seed::rng("chaos on mariadb");
    Chaos::on_parts(Kind::MariaDb, rng).run(Duration::from_secs(25));
}

#[test]
fn faults_on_the_embedded_service_lose_and_double_nothing() {
    let rng = seed::rng("chaos embedded");
    Chaos::embedded(rng).run(Duration::from_secs(12));
}

/// What `scripts/chaos` runs.
#[test]
#[ignore = "for as long as LIKEWISE_CHAOS_SECONDS says; see scripts/chaos"]
fn faults_for_as_long_as_asked_lose_and_double_nothing() {
    let variable = |name: &str| std::env::var(name).ok();
    let seconds =
        variable("LIKEWISE_CHAOS_SECONDS").map_or(600, |text| text.parse().expect("a number"));
    let rng = seed::rng("chaos as asked");
    let chaos = match variable("LIKEWISE_CHAOS_ON").as_deref() {
        Some("embedded") => Chaos::embedded(rng),
        Some("postgres") => Chaos::on_parts(Kind::Postgres, rng),
        _ => Chaos::on_parts(Kind::MariaDb, rng),
    };
    chaos.run(Duration::from_secs(seconds));
}

/// What can be harmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Victim {
    Redis,
    Nats,
    Database,
    /// A process of the service: the api first, then the workers; embedded, the one that there is.
    Process(usize),
}

/// How.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    Killed,
    Suspended,
    Restarted,
}

const WAYS: [Way; 3] = [Way::Killed, Way::Suspended, Way::Restarted];

/// A process of the service, or what is needed to start it again.
enum Slot {
    Runs(Service),
    Ended(Setup),
    Moving,
}

/// The service, what it depends on, and what harms them.
struct Chaos {
    // Dropped first, before what they depend on.
    processes: Vec<Slot>,
    roles: Vec<&'static str>,
    /// In another folder than the processes', which come and go.
    client: Setup,
    stack: Option<Stack>,
    server: Option<Server>,
    rng: SmallRng,
    began: Instant,
    faults: BTreeMap<(Victim, Way), usize>,
    away: Vec<Victim>,
}

/// Quick to notice and to recover.
fn quick(setup: Setup) -> Setup {
    setup
        .set("LIKEWISE_LEASE_SECONDS", 3)
        .set("LIKEWISE_DATABASE_TIMEOUT_SECONDS", 2)
        .set("LIKEWISE_AUDIT_INTERVAL_SECONDS", 0)
}

/// An address that a process can come back to.
fn address() -> String {
    let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
    free.local_addr().expect("an address").to_string()
}

impl Chaos {
    fn embedded(rng: SmallRng) -> Self {
        let setup = quick(Setup::new()).set("LIKEWISE_HTTP_ADDR", address());
        let client = setup.beside();
        Self::of(vec![(setup, "all")], client, None, None, rng)
    }

    fn on_parts(kind: Kind, rng: SmallRng) -> Self {
        let stack = Stack::start();
        let server = Server::start(kind);
        let database = Database::first_of(&server);
        let setup = || {
            let setup = quick(stack.setup().on(&database));
            setup.set("LIKEWISE_HTTP_ADDR", address())
        };
        let processes = ["api", "worker", "worker"].map(|role| (setup(), role));
        let client = setup();
        Self::of(processes.into(), client, Some(stack), Some(server), rng)
    }

    fn of(
        processes: Vec<(Setup, &'static str)>,
        client: Setup,
        stack: Option<Stack>,
        server: Option<Server>,
        rng: SmallRng,
    ) -> Self {
        let roles: Vec<_> = processes.iter().map(|(_, role)| *role).collect();
        let start =
            |(setup, role): (Setup, &str)| Slot::Runs(setup.start_as(&["serve", "--role", role]));
        Self {
            processes: processes.into_iter().map(start).collect(),
            roles,
            client,
            stack,
            server,
            rng,
            began: Instant::now(),
            faults: BTreeMap::new(),
            away: Vec::new(),
        }
    }

    fn victims(&self) -> Vec<Victim> {
        let mut victims: Vec<_> = (0..self.processes.len()).map(Victim::Process).collect();
        if self.stack.is_some() {
            victims.extend([Victim::Redis, Victim::Nats, Victim::Database]);
        }
        victims
    }

    fn server(&mut self, victim: Victim) -> &mut Server {
        match (victim, &mut self.stack, &mut self.server) {
            (Victim::Redis, Some(stack), _) => &mut stack.redis,
            (Victim::Nats, Some(stack), _) => &mut stack.nats,
            (Victim::Database, _, Some(server)) => server,
            _ => panic!("{victim:?} is no server"),
        }
    }

    fn service(&self, n: usize) -> Option<&Service> {
        match &self.processes[n] {
            Slot::Runs(service) => Some(service),
            Slot::Ended(_) | Slot::Moving => None,
        }
    }

    fn begin(&mut self, victim: Victim, way: Way) {
        say(format_args!(
            "{:7.2} s  {victim:?} {way:?}",
            self.began.elapsed().as_secs_f64()
        ));
        *self.faults.entry((victim, way)).or_default() += 1;
        self.away.push(victim);
        let Victim::Process(n) = victim else {
            let server = self.server(victim);
            match way {
                Way::Killed => server.kill(),
                Way::Suspended => server.suspend(),
                Way::Restarted => server.stop(),
            }
            return;
        };
        if way == Way::Suspended {
            if let Some(service) = self.service(n) {
                service.signal(Signal::STOP);
            }
            return;
        }
        let slot = std::mem::replace(&mut self.processes[n], Slot::Moving);
        self.processes[n] = match (slot, way) {
            (Slot::Runs(service), Way::Killed) => Slot::Ended(service.kill()),
            // With a part gone it may not be able to drain everything; then the ledger keeps the rest.
            (Slot::Runs(service), _) => {
                service.signal(Signal::TERM);
                Slot::Ended(service.end())
            }
            (other, _) => other,
        };
    }

    fn end(&mut self, victim: Victim, way: Way) {
        self.away.retain(|away| *away != victim);
        let Victim::Process(n) = victim else {
            let server = self.server(victim);
            match way {
                Way::Suspended => server.resume(),
                Way::Killed | Way::Restarted => server.run(),
            }
            // Whoever could not be started without it is started now, as by a supervisor.
            self.start_ended();
            return;
        };
        match way {
            Way::Suspended => {
                if let Some(service) = self.service(n) {
                    service.signal(Signal::CONT);
                }
            }
            Way::Killed | Way::Restarted => self.start_ended(),
        }
    }

    /// Starts the processes that have ended and are not to be away. They need the database for that.
    fn start_ended(&mut self) {
        if self.away.contains(&Victim::Database) {
            return;
        }
        for n in 0..self.processes.len() {
            if self.away.contains(&Victim::Process(n)) {
                continue;
            }
            let slot = std::mem::replace(&mut self.processes[n], Slot::Moving);
            self.processes[n] = match slot {
                Slot::Ended(setup) => {
                    Slot::Runs(setup.start_as(&["serve", "--role", self.roles[n]]))
                }
                other => other,
            };
        }
    }

    fn some_while(&mut self, milliseconds: std::ops::Range<u64>) -> Duration {
        Duration::from_millis(self.rng.random_range(milliseconds))
    }

    fn run(mut self, lasting: Duration) {
        let load = self.load(lasting);
        self.began = Instant::now();
        while self.began.elapsed() < lasting {
            let mut faults = Vec::new();
            let mut victims = self.victims();
            victims.shuffle(&mut self.rng);
            let overlapping = if self.rng.random_bool(0.3) { 2 } else { 1 };
            for victim in victims.into_iter().take(overlapping) {
                let way = *WAYS.choose(&mut self.rng).expect("a way");
                self.begin(victim, way);
                faults.push((victim, way));
                let between = self.some_while(0..300);
                sleep(between);
            }
            let outage = self.some_while(200..2_500);
            sleep(outage);
            faults.shuffle(&mut self.rng);
            for (victim, way) in faults {
                self.end(victim, way);
            }
            let recovery = self.some_while(200..2_500);
            sleep(recovery);
        }
        self.judge(load);
    }

    /// A steady load that goes on for a little longer than the faults, with its journal.
    fn load(&mut self, lasting: Duration) -> Process {
        let lines = RATE * (lasting.as_secs() as usize + 5);
        let mut drawing = SmallRng::from_rng(&mut self.rng);
        let pairs = interactions::drawn(lines * 4 / 5, &mut drawing);
        interactions::write(&self.client.folder().join("likes.csv"), &pairs);
        let Slot::Runs(front) = &self.processes[0] else {
            panic!("the first process runs");
        };
        let (url, rate) = (front.url(), RATE.to_string());
        let load = self.client.launch(&[
            "load",
            "--json",
            "--from",
            "likes.csv",
            "--url",
            &url,
            "--rate",
            &rate,
            "--unlike-ratio",
            "0.25",
            "--concurrency",
            "16",
            "--timeout",
            CLIENT_TIMEOUT,
            "--journal",
            "journal.ndjson",
        ]);
        let journal = self.client.folder().join("journal.ndjson");
        until("the load to get going", PATIENCE, || {
            let length = std::fs::metadata(&journal).map_or(0, |file| file.len());
            (length > 0).then_some(()).ok_or("no line yet")
        });
        load
    }

    fn judge(&mut self, mut load: Process) {
        load.wait(4 * PATIENCE);
        let sent = load.finish();
        let faults: usize = self.faults.values().sum();
        for ((victim, way), count) in &self.faults {
            say(format_args!("{count:4} × {victim:?} {way:?}"));
        }
        let ran = self
            .client
            .run(&["verify", "--journal", "journal.ndjson", "--wait", "90"]);
        say(format_args!(
            "{faults} faults; {}\n{}",
            summary(&sent.stdout),
            ran.stdout
        ));
        assert_eq!(ran.code, Some(0), "{faults} faults: {ran:?}");
        let audit = self.client.run(&["audit", "--json"]);
        let report: Value = serde_json::from_str(&audit.stdout).expect("JSON");
        assert_eq!(report["findings"], serde_json::json!({}), "{report:#}");
        assert!(faults > 0);
        let json = self
            .client
            .run(&["verify", "--journal", "journal.ndjson", "--json"]);
        let report: Value = serde_json::from_str(&json.stdout).expect("JSON");
        let acknowledged = report["journal"]["acknowledged"].as_u64();
        // Most of the load got through, so that there was something to lose.
        assert!(acknowledged > Some(RATE as u64), "{report:#}");
    }
}

fn summary(json: &str) -> String {
    let report: Value = serde_json::from_str(json).unwrap_or_default();
    format!(
        "{} requests sent, {} accepted, failures {}",
        report["sent"], report["accepted"], report["failures"]
    )
}

#[test]
fn nats_away_under_a_steady_load_leaves_nothing_behind() {
    outage(Duration::from_secs(8));
}

/// What `scripts/chaos --outage` runs.
#[test]
#[ignore = "for as long as LIKEWISE_OUTAGE_SECONDS says; see scripts/chaos"]
fn nats_away_for_as_long_as_asked_leaves_nothing_behind() {
    let seconds = std::env::var("LIKEWISE_OUTAGE_SECONDS").ok();
    let seconds = seconds.map_or(60, |text| text.parse().expect("a number"));
    outage(Duration::from_secs(seconds));
}

/// NATS goes and comes back, and then the workers, so that what is published has to wait. Each time
/// everything that waits has arrived within a minute.
fn outage(lasting: Duration) {
    const MINUTE: Duration = Duration::from_secs(60);
    let mut chaos = Chaos::on_parts(Kind::MariaDb, seed::rng("outage"));
    let mut load = chaos.load(lasting * 2);
    for victims in [
        vec![Victim::Nats],
        vec![Victim::Process(1), Victim::Process(2)],
    ] {
        for victim in &victims {
            chaos.begin(*victim, Way::Restarted);
        }
        sleep(lasting);
        for victim in &victims {
            chaos.end(*victim, Way::Restarted);
        }
    }
    let back = Instant::now();
    load.wait(lasting + MINUTE);
    let ran = chaos.client.run(&[
        "verify",
        "--journal",
        "journal.ndjson",
        "--json",
        "--wait",
        "60",
    ]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let report: Value = serde_json::from_str(&ran.stdout).expect("JSON");
    say(format_args!(
        "away for {lasting:?} each; everything arrived {:.1} s after the last came back; {}",
        back.elapsed().as_secs_f64(),
        report["journal"]
    ));
    assert!(report["waited_seconds"].as_f64() < Some(60.0), "{report:#}");
    // Nothing was refused: with one part away, likes are accepted.
    assert_eq!(report["journal"]["refused"], 0, "{report:#}");
    assert_eq!(report["journal"]["unknown"], 0, "{report:#}");
    until("the service to be well", PATIENCE, || {
        let answer = chaos.service(0).expect("the api").client().get("/readyz");
        (answer.status == 200).then_some(()).ok_or(answer.text)
    });
}
