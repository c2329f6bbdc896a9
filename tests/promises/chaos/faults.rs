//! The faults that chaos draws: how each begins, and how it ends.

use std::time::{Duration, Instant};

use chrono::TimeDelta;
use rand::RngExt;
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;

use crate::support::clock::Clock;
use crate::support::database::HeldWrites;
use crate::support::redis_and_nats::Stack;
use crate::support::servers::{Port, Server};
use crate::support::service::{Process, Service, Setup, Signal};

/// The target of a fault. Faults of one target do not overlap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// Redis.
    Redis,
    /// NATS.
    Nats,
    /// The database.
    Database,
    /// A process of the service: the api first, then the workers; embedded, the only one.
    Process(usize),
    /// The wall clock of that process.
    Clock(usize),
    /// A process that an operator starts besides the others.
    Stranger,
}

/// A fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// `kill -9`, and a restart at the end.
    Kill(Target),
    /// SIGSTOP: connections stay open, and the process answers nothing.
    Suspend(Target),
    /// An ordered stop, and a restart at the end. A process that has not stopped by then is killed.
    Restart(Target),
    /// A failover that demotes the server: it refuses writes and keeps its connections.
    Demote(Target),
    /// The clock of a process is stepped by up to ten minutes, forward or back.
    StepClock(usize),
    /// Another process runs on the same dependencies with other settings for the stream, batches and leases.
    StartStranger,
}

impl Fault {
    /// The target of this fault.
    pub const fn target(self) -> Target {
        match self {
            Self::Kill(target)
            | Self::Suspend(target)
            | Self::Restart(target)
            | Self::Demote(target) => target,
            Self::StepClock(process) => Target::Clock(process),
            Self::StartStranger => Target::Stranger,
        }
    }
}

/// A process of the service, or the setup to restart it.
enum Slot {
    Runs(Service),
    Ended(Setup),
    Moving,
}

/// The service and its dependencies.
pub struct World {
    // Dropped first, before what they depend on.
    processes: Vec<Slot>,
    stranger: Option<Process>,
    lock: Option<TableLock>,
    roles: Vec<&'static str>,
    clocks: Vec<Clock>,
    /// Kept so that each process can restart on its address.
    _ports: Vec<Port>,
    /// In a folder of its own, because the processes' folders come and go.
    pub client: Setup,
    parts: Option<Parts>,
    away: Vec<Target>,
    rng: SmallRng,
}

/// The dependencies of the service.
pub struct Parts {
    /// Redis and NATS.
    pub stack: Stack,
    /// The database.
    pub server: Server,
}

/// A lock that an operator's session, such as a backup, holds on all tables.
struct TableLock {
    _held: HeldWrites,
    until: Instant,
}

impl World {
    /// Starts a service with these processes, which listen on these ports, each under its own clock.
    pub fn start(
        processes: Vec<(Setup, &'static str)>,
        ports: Vec<Port>,
        client: Setup,
        parts: Option<Parts>,
        rng: SmallRng,
    ) -> Self {
        let roles: Vec<_> = processes.iter().map(|(_, role)| *role).collect();
        let clocks: Vec<_> = processes.iter().map(|_| Clock::new()).collect();
        let start = |((setup, role), clock): ((Setup, &str), &Clock)| {
            Slot::Runs(setup.with_clock(clock).start_as(&["serve", "--role", role]))
        };
        Self {
            processes: processes.into_iter().zip(&clocks).map(start).collect(),
            stranger: None,
            lock: None,
            roles,
            clocks,
            _ports: ports,
            client,
            parts,
            away: Vec::new(),
            rng,
        }
    }

    /// Returns every fault that this service can meet.
    pub fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        let mut targets: Vec<_> = (0..self.processes.len()).map(Target::Process).collect();
        if self.parts.is_some() {
            targets.extend([Target::Redis, Target::Nats, Target::Database]);
            faults.extend([
                Fault::Demote(Target::Redis),
                Fault::Demote(Target::Database),
            ]);
            // Only one process can own the cache beside an SQLite file; several processes need the servers.
            faults.push(Fault::StartStranger);
        }
        faults.extend((0..self.processes.len()).map(Fault::StepClock));
        for target in targets {
            faults.extend([
                Fault::Kill(target),
                Fault::Suspend(target),
                Fault::Restart(target),
            ]);
        }
        faults.retain(|fault| !self.is_busy(fault.target()));
        faults
    }

    /// Returns whether another fault has this target already.
    fn is_busy(&self, target: Target) -> bool {
        let is_locked = self.lock.is_some() && target == Target::Database;
        is_locked || self.away.contains(&target)
    }

    fn server(&mut self, target: Target) -> &mut Server {
        match (target, &mut self.parts) {
            (Target::Redis, Some(parts)) => &mut parts.stack.redis,
            (Target::Nats, Some(parts)) => &mut parts.stack.nats,
            (Target::Database, Some(parts)) => &mut parts.server,
            _ => panic!("{target:?} is no server"),
        }
    }

    /// Returns a process of the service, unless it is down.
    pub fn service(&self, n: usize) -> Option<&Service> {
        match &self.processes[n] {
            Slot::Runs(service) => Some(service),
            Slot::Ended(_) | Slot::Moving => None,
        }
    }

    /// Begins a fault.
    pub fn begin(&mut self, fault: Fault) {
        self.away.push(fault.target());
        match fault {
            Fault::Kill(Target::Process(n)) => {
                self.end_process(n, Service::kill);
            }
            Fault::Suspend(Target::Process(n)) => self.signal(n, Signal::STOP),
            // It drains until the end of the fault, and is killed then. Without one dependency it may not have drained.
            // The ledger keeps the rest.
            Fault::Restart(Target::Process(n)) => self.signal(n, Signal::TERM),
            Fault::Kill(target) => self.server(target).kill(),
            Fault::Suspend(target) => self.server(target).suspend(),
            Fault::Restart(target) => self.server(target).stop(),
            Fault::Demote(target) => self.server(target).set_read_only(true),
            Fault::StepClock(n) => {
                // A row whose time is ahead is due when the clock reaches that time, before `verify` gives up.
                let seconds = self.rng.random_range(-600..=240);
                self.clocks[n].set(TimeDelta::seconds(seconds));
            }
            Fault::StartStranger => {
                let role = *["api", "worker"].choose(&mut self.rng).expect("a role");
                let stranger = self
                    .client
                    .beside()
                    .set("LIKEWISE_HTTP_ADDR", "127.0.0.1:0")
                    .set("LIKEWISE_NATS_MAX_AGE_SECONDS", 1)
                    .set("LIKEWISE_NATS_MAX_BYTES", 100_000)
                    .set("LIKEWISE_BATCH_SIZE", 3)
                    .set("LIKEWISE_MAX_RETRIES", 1);
                self.stranger = Some(stranger.launch(&["serve", "--role", role]));
            }
        }
    }

    /// Ends a fault.
    pub fn end(&mut self, fault: Fault) {
        self.away.retain(|away| *away != fault.target());
        match fault {
            Fault::Suspend(Target::Process(n)) => self.signal(n, Signal::CONT),
            Fault::Kill(Target::Process(_)) => {}
            Fault::Restart(Target::Process(n)) => self.end_process(n, Service::end),
            Fault::Suspend(target) => self.server(target).resume(),
            Fault::Kill(target) | Fault::Restart(target) => self.server(target).run(),
            Fault::Demote(target) => self.server(target).set_read_only(false),
            Fault::StepClock(n) => self.clocks[n].set(TimeDelta::zero()),
            Fault::StartStranger => {
                self.stranger = None;
                // It may have died between a commit and its settlement. The next worker that starts makes up for that.
                let last = self.processes.len() - 1;
                self.end_process(last, Service::kill);
            }
        }
        self.start_ended();
    }

    fn signal(&self, n: usize, signal: Signal) {
        if let Some(service) = self.service(n) {
            service.signal(signal);
        }
    }

    fn end_process(&mut self, n: usize, end: impl FnOnce(Service) -> Setup) {
        let slot = std::mem::replace(&mut self.processes[n], Slot::Moving);
        self.processes[n] = match slot {
            Slot::Runs(service) => Slot::Ended(end(service)),
            other => other,
        };
    }

    /// Restarts the processes that ended and whose fault is over, as a supervisor would.
    fn start_ended(&mut self) {
        if self.is_busy(Target::Database) {
            return;
        }
        for n in 0..self.processes.len() {
            if self.away.contains(&Target::Process(n)) {
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

    /// Locks the tables in an operator's session for this long, if the database is up.
    pub fn lock_tables(&mut self, lasting: Duration) -> bool {
        if self.parts.is_none() || self.is_busy(Target::Database) {
            return false;
        }
        self.lock = Some(TableLock {
            _held: self.client.database().hold_writes(),
            until: Instant::now() + lasting,
        });
        true
    }

    /// Releases the table lock when its time is over, or at once if `now` is set.
    pub fn unlock_tables(&mut self, now: bool) {
        if self
            .lock
            .as_ref()
            .is_some_and(|lock| now || Instant::now() >= lock.until)
        {
            self.lock = None;
            self.start_ended();
        }
    }
}
