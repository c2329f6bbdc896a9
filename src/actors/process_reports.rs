//! What every process of the deployment reports of its actors (docs/adr/0050). Each process sends a report a second over
//! NATS, keeps the last one of each other process, and carries out operators' commands on its actors. `app/` starts it;
//! `web/admin/` and `admin/` read the reports and send commands. Without NATS, a process knows only its own actors.
//!
//! Reports come from a thread and a connection of their own, because a blocked actor blocks the thread of all actors, and
//! its process must report just that.

mod command;
mod heard;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use actor_kit::{Registry, Snapshot};
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use utoipa::ToSchema;
use uuid::Uuid;

pub use self::command::{ActorAction, CommandFailed, Operated};
use self::command::{Command, CommandAnswer};
use self::heard::{Heard, HeardReports};
use crate::config::NatsOptions;
use crate::domain::CurrentDeployment;
use crate::nats::{ProcessLink, ProcessMessage};
use crate::store::ProcessRecord;
use crate::telemetry::{Dependency, DependencyFailed};

/// The interval between two reports of a process, while the deployment has up to [`FEW`] processes.
const INTERVAL: Duration = Duration::from_secs(1);

/// The interval between two looks at the states of the actors. A changed one is reported at once.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// The number of processes beyond which each reports less often, so that a process receives at most this many reports a
/// second.
const FEW: u32 = 10;

/// The wait for the identity of the deployment, and after a lost connection.
const RETRY: Duration = Duration::from_millis(250);

/// The longest wait for the last report of a process that ends.
const LAST_REPORT: Duration = Duration::from_secs(1);

/// What is known of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ProcessState {
    /// It reports.
    Running,
    /// It has not reported for three intervals, at least three seconds: it hangs, it has lost NATS, or it has ended
    /// without a word.
    Silent,
    /// It has not reported for ten intervals, at least ten seconds. Its last report is kept for an hour.
    Gone,
    /// It ended in order. Its last report is kept for an hour.
    Stopped,
}

/// The last report of a process.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ProcessReport {
    /// Its id, new at each start.
    pub id: String,
    /// Its machine and its number there.
    pub host: String,
    /// Its role: `all`, `api` or `worker`.
    pub role: String,
    /// Its version of Likewise.
    pub version: String,
    /// Whether it is the process that answers.
    pub is_this: bool,
    /// What is known of it.
    pub state: ProcessState,
    /// The milliseconds since its last report arrived, by the clock of the process that answers.
    pub age_ms: u64,
    /// Its last report, as its own `GET /admin/actors` answers. With `{name}` in the path, only the actor of that name is in
    /// it.
    #[schema(value_type = Snapshot)]
    pub report: Value,
}

/// The last reports of all processes of the deployment.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct DeploymentReport {
    /// When the answer was made.
    pub captured_at: DateTime<Utc>,
    /// Whether other processes of the deployment can be seen.
    pub complete: bool,
    /// Why they cannot; null if they can.
    #[schema(required = true)]
    pub note: Option<&'static str>,
    /// Each process: this one first, then those that report, then the others, by their start.
    pub processes: Vec<ProcessReport>,
}

/// The last reports of all processes of the deployment, and the way to command their actors.
pub struct ProcessReports {
    own: ProcessRecord,
    registry: Registry,
    deployment: CurrentDeployment,
    uses_nats: bool,
    link: OnceLock<ProcessLink>,
    heard: HeardReports,
}

impl ProcessReports {
    /// Returns reports without any of other processes yet. With `nats`, starts the thread that sends and receives them.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub fn start(
        own: ProcessRecord,
        registry: Registry,
        deployment: CurrentDeployment,
        nats: Option<NatsOptions>,
    ) -> std::io::Result<(Arc<Self>, Reporter)> {
        let reports = Arc::new(Self {
            own,
            registry,
            deployment,
            uses_nats: nats.is_some(),
            link: OnceLock::new(),
            heard: HeardReports::default(),
        });
        let Some(options) = nats else {
            return Ok((reports, Reporter(None)));
        };
        let (stop, stopped) = oneshot::channel();
        let (done, ended) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let reporting = Arc::clone(&reports);
        std::thread::Builder::new()
            .name("reports".to_owned())
            .spawn(move || {
                runtime.block_on(reporting.run(&options, stopped));
                // The process may have ended before.
                let _ = done.send(());
            })?;
        Ok((reports, Reporter(Some((stop, ended)))))
    }

    /// Returns the id of this process.
    #[must_use]
    pub fn own_id(&self) -> &str {
        &self.own.id
    }

    /// Returns the last reports of all processes; of one actor, if a name is given. Reads memory only, so it does not wait
    /// for a process that hangs.
    #[must_use]
    pub fn deployment(&self, actor: Option<&str>) -> DeploymentReport {
        let mut own = json!(self.registry.snapshot());
        keep_only(&mut own, actor);
        let mut processes = vec![ProcessReport {
            id: self.own.id.clone(),
            host: self.own.host.clone(),
            role: self.own.role.clone(),
            version: self.own.version.clone(),
            is_this: true,
            state: ProcessState::Running,
            age_ms: 0,
            report: own,
        }];
        for mut process in self.heard.reports() {
            keep_only(&mut process.report, actor);
            processes.push(process);
        }
        let note = match (self.uses_nats, self.is_connected()) {
            (false, _) => Some(
                "this process has no NATS (LIKEWISE_NATS_URL), so other processes of the deployment are not listed",
            ),
            (true, false) => Some(
                "this process is not connected to NATS, so reports of other processes do not arrive",
            ),
            (true, true) => None,
        };
        DeploymentReport {
            captured_at: Utc::now(),
            complete: note.is_none(),
            note,
            processes,
        }
    }

    /// Carries out an operator's action on an actor of this process, or of the process with this id.
    ///
    /// # Errors
    /// If the process or the actor is unknown, the actor does not run there, or the process does not answer.
    pub async fn operate(
        &self,
        process: Option<&str>,
        actor: &str,
        action: ActorAction,
        operator: &str,
    ) -> Result<Operated, CommandFailed> {
        let command = Command {
            actor: actor.to_owned(),
            action,
            operator: operator.to_owned(),
        };
        let process = process.unwrap_or(&self.own.id);
        if process == self.own.id {
            return command.run(&self.registry).outcome();
        }
        if !self.heard.knows(process) {
            return Err(CommandFailed::UnknownProcess);
        }
        let (Some(link), Some(deployment)) = (self.link.get(), self.deployment.get()) else {
            return Err(CommandFailed::NoAnswer("NATS is not connected".to_owned()));
        };
        let answer = link.command(deployment.id, process, command.bytes()).await;
        let answer = answer.map_err(|error| CommandFailed::NoAnswer(error.to_string()))?;
        CommandAnswer::read(&answer)
            .ok_or_else(|| CommandFailed::NoAnswer("its answer cannot be read".to_owned()))?
            .outcome()
    }

    fn is_connected(&self) -> bool {
        self.link.get().is_some_and(ProcessLink::is_connected)
    }

    /// Sends and receives reports until this process stops.
    async fn run(&self, options: &NatsOptions, mut stopped: oneshot::Receiver<()>) {
        let link = match ProcessLink::connect(options).await {
            Ok(link) => self.link.get_or_init(|| link),
            Err(error) => {
                DependencyFailed {
                    dependency: Dependency::Broker,
                    doing: "connecting for the reports of processes",
                    error: &error,
                }
                .emit();
                return;
            }
        };
        while matches!(stopped.try_recv(), Err(oneshot::error::TryRecvError::Empty)) {
            let Some(deployment) = self.deployment.get() else {
                sleep(RETRY).await;
                continue;
            };
            if self.exchange(link, deployment.id, &mut stopped).await {
                return;
            }
            sleep(RETRY).await;
        }
    }

    /// Sends and receives reports under this deployment. Returns whether the process stops.
    async fn exchange(
        &self,
        link: &ProcessLink,
        deployment: Uuid,
        stopped: &mut oneshot::Receiver<()>,
    ) -> bool {
        let Ok(mut messages) = link.listen(deployment, &self.own.id).await else {
            return false;
        };
        let (mut look_at, mut due) = (Instant::now(), Instant::now());
        let mut reported = Vec::new();
        loop {
            tokio::select! {
                _ = &mut *stopped => {
                    self.send(link, deployment, true).await;
                    let _ = link.flush().await;
                    return true;
                }
                () = sleep_until(look_at) => {
                    if self.deployment.get().is_none_or(|current| current.id != deployment) {
                        return false;
                    }
                    let now = Instant::now();
                    let states = self.registry.states(self.registry.stuck_after());
                    if now >= due || states != reported {
                        self.heard.forget_old();
                        self.send(link, deployment, false).await;
                        (due, reported) = (now + self.interval(), states);
                    }
                    look_at = now + LOOK_EVERY;
                }
                message = messages.next() => match message {
                    Some(ProcessMessage::Report { process, body }) => {
                        if process != self.own.id {
                            self.heard.note(process, body);
                        }
                    }
                    Some(ProcessMessage::Command { body, reply }) => {
                        if let Some(command) = Command::read(&body) {
                            let answer = command.run(&self.registry);
                            // The operator notices that no answer comes.
                            let _ = link.answer(reply, answer.bytes()).await;
                        }
                    }
                    None => return false,
                },
            }
        }
    }

    /// Sends a report, unless NATS is not connected: the client would keep it for later.
    async fn send(&self, link: &ProcessLink, deployment: Uuid, ended: bool) {
        if !link.is_connected() {
            return;
        }
        let report = Heard {
            host: self.own.host.clone(),
            role: self.own.role.clone(),
            version: self.own.version.clone(),
            interval_ms: self.interval().as_millis() as u64,
            ended,
            report: json!(self.registry.snapshot()),
        };
        // The next report follows.
        let _ = link.report(deployment, &self.own.id, report.bytes()).await;
    }

    fn interval(&self) -> Duration {
        let others = u32::try_from(self.heard.running()).unwrap_or(u32::MAX);
        INTERVAL * others.saturating_add(1).div_ceil(FEW)
    }
}

/// Removes all actors but the one of this name from a report.
fn keep_only(report: &mut Value, actor: Option<&str>) {
    if let (Some(actor), Some(actors)) = (actor, report["actors"].as_array_mut()) {
        actors.retain(|one| one["name"] == actor);
    }
}

/// The thread that reports, until it is stopped.
pub struct Reporter(Option<(oneshot::Sender<()>, oneshot::Receiver<()>)>);

impl Reporter {
    /// Sends the last report. Waits at most a second for it.
    pub async fn stop(self) {
        if let Some((stop, ended)) = self.0
            && stop.send(()).is_ok()
        {
            // A process that does not get through is gone for the others ten seconds later.
            let _ = timeout(LAST_REPORT, ended).await;
        }
    }
}
