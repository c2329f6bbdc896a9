//! A running contestant with the servers that it needs, started for a measurement and stopped after it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use bytes::Bytes;
use hyper::Method;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use super::Place;
use super::contestant::{Contestant, without_settings};
use super::failure::BenchError;
use super::servers::{Server, folder};
use crate::client::Client;
use crate::io_error::doing;
use crate::process::{Process, Usage};
use crate::refusal;
use crate::request::{Request, Target};
use crate::servers::Kind;

const START_TIMEOUT: Duration = Duration::from_secs(60);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
const POLL_INTERVAL: Duration = Duration::from_millis(10);
/// A counter of every process that stores likes, ours and the peers'. Its lines may have labels.
const COMPLETED: &str = "likewise_ledger_rows_completed_total";

/// A running contestant. Fields are dropped in this order: processes before the servers and folders that they use.
pub(super) struct Service {
    pub(super) contestant: Contestant,
    /// Where requests go.
    pub(super) target: Target,
    /// The processes that record, and those that serve requests; one process may do both.
    recording: Vec<(Process, Target)>,
    serving: Vec<Process>,
    servers: Vec<Server>,
    environment: Vec<(&'static str, String)>,
    folder: TempDir,
}

impl Service {
    /// Starts a contestant on empty data.
    pub(super) async fn start(place: &Place, contestant: Contestant) -> Result<Self, BenchError> {
        let folder = folder(&place.data)?;
        let mut servers = Vec::new();
        for kind in contestant.servers() {
            servers.push(Server::start(kind, &place.programs, &place.data).await?);
        }
        let mut environment = vec![("LIKEWISE_DATABASE_URL", "sqlite://likewise.db".to_owned())];
        if !servers.is_empty() {
            environment = servers
                .iter()
                .map(|server| (variable(server.kind()), server.url()))
                .collect();
        }
        let mut service = Self {
            target: "http://127.0.0.1"
                .parse()
                .unwrap_or_else(|_| unreachable!("a valid URL")),
            contestant,
            recording: Vec::new(),
            serving: Vec::new(),
            servers,
            environment,
            folder,
        };
        if let Contestant::Peer { lean, .. } = service.contestant {
            service.tool(&place.likewise, &["migrate"]).await?;
            if lean {
                let arguments = ["bench", "--tool", "lean"];
                service.tool(&place.own, &arguments).await?;
            }
        }
        service.start_recording(place).await?;
        service.start_serving(place).await?;
        Ok(service)
    }

    /// Starts the processes that record what the api accepts, if they are others than the api.
    pub(super) async fn start_recording(&mut self, place: &Place) -> Result<(), BenchError> {
        for number in 1..=self.contestant.workers() {
            let name = match number {
                1 => "worker".to_owned(),
                number => format!("worker-{number}"),
            };
            let command = self.command(place, "worker");
            let started = self.launch(&name, command).await?;
            self.recording.push(started);
        }
        Ok(())
    }

    async fn start_serving(&mut self, place: &Place) -> Result<(), BenchError> {
        let (name, role) = self.contestant.serving();
        let command = self.command(place, role);
        let (process, target) = self.launch(name, command).await?;
        self.target = target.clone();
        if self.recording.is_empty() && self.contestant.stores() {
            self.recording.push((process, target));
        } else {
            self.serving.push(process);
        }
        Ok(())
    }

    /// Stops the workers in order, so that what the api accepts from now on waits.
    pub(super) async fn stop_recording(&mut self) -> Result<(), BenchError> {
        for (process, _) in std::mem::take(&mut self.recording) {
            process.stop().await?;
        }
        Ok(())
    }

    /// Stops the contestant and starts it on the same data, with nothing in a cache.
    pub(super) async fn restart_cold(&mut self, place: &Place) -> Result<(), BenchError> {
        self.stop_recording().await?;
        self.serving.clear();
        if let Some(redis) = self.server(Kind::Redis) {
            redis.redis("FLUSHALL")?;
        }
        self.start_recording(place).await?;
        self.start_serving(place).await
    }

    pub(super) fn server(&self, kind: Kind) -> Option<&Server> {
        self.servers.iter().find(|server| server.kind() == kind)
    }

    fn command(&self, place: &Place, role: &str) -> Command {
        self.contestant.command(place, role, &self.environment)
    }

    async fn launch(
        &self,
        name: &str,
        mut command: Command,
    ) -> Result<(Process, Target), BenchError> {
        let mut process = Process::start(name, &mut command, self.folder.path())?;
        let listening = self.contestant.listening();
        let rest = process.logged(listening, START_TIMEOUT).await?;
        let address = rest.split([',', ' ', '/']).next().unwrap_or_default();
        let target = format!("http://{address}").parse();
        let target = target.map_err(|_| BenchError::Address {
            process: name.to_owned(),
            address: address.to_owned(),
        })?;
        if let Contestant::Likewise { .. } = self.contestant {
            ready(&mut process, &target).await?;
        }
        Ok((process, target))
    }

    /// Runs a program with the contestant's settings to its end, and returns what it printed.
    pub(super) async fn tool(&self, path: &Path, arguments: &[&str]) -> Result<String, BenchError> {
        let printed = self.folder.path().join("printed");
        let out = File::create(&printed).map_err(doing("making a file"))?;
        let mut command = without_settings(path);
        command
            .args(arguments)
            .envs(self.environment.iter().cloned())
            .stdout(out);
        let mut process = Process::start("tool", &mut command, self.folder.path())?;
        let status = process.finished().await?;
        let printed = fs::read_to_string(&printed).unwrap_or_default();
        if status.success() {
            return Ok(printed);
        }
        Err(BenchError::Tool {
            tool: arguments.join(" "),
            log: format!("{}{printed}", process.last_lines()),
        })
    }

    /// Starts a tool that measures a part, in the folder of the contestant.
    pub(super) fn part(
        &self,
        place: &Place,
        part: &str,
        count: u64,
    ) -> Result<Process, BenchError> {
        let mut command = without_settings(&place.own);
        command
            .args(["bench", "--tool", part, "--likes", &count.to_string()])
            .envs(self.environment.iter().cloned());
        Ok(Process::start("client", &mut command, self.folder.path())?)
    }

    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Returns what each process has used since its start, by name.
    pub(super) fn usage(&self) -> Result<Vec<(String, Usage)>, BenchError> {
        let serving = self.serving.iter();
        let own = serving.chain(self.recording.iter().map(|(process, _)| process));
        let mut used = Vec::new();
        for process in own {
            used.push((process.name().to_owned(), process.usage()?));
        }
        for server in &self.servers {
            used.push((server.kind().name().to_owned(), server.usage()?));
        }
        Ok(used)
    }

    /// Returns the number of likes that the running processes have completed since their start.
    pub(super) async fn completed(&self) -> Result<u64, BenchError> {
        let mut completed = 0;
        for (process, target) in &self.recording {
            let request = Request::to(target, Method::GET, "/metrics", 0, Bytes::new());
            let mut client = Client::open(target, ANSWER_TIMEOUT).await;
            if let Err(failure) = client.send(&request).await {
                return Err(BenchError::Metrics {
                    process: process.name().to_owned(),
                    reason: refusal::described(failure, client.body()),
                });
            }
            completed += counted(&String::from_utf8_lossy(client.body()));
        }
        Ok(completed)
    }

    /// Waits until the running processes have completed this number of likes since their start. Returns when it saw that.
    pub(super) async fn until_completed(&self, likes: u64) -> Result<Instant, BenchError> {
        while self.contestant.stores() && self.completed().await? < likes {
            sleep(POLL_INTERVAL).await;
        }
        Ok(Instant::now())
    }

    /// Waits for the ledger to close, and fails unless every guarantee holds on the data.
    pub(super) async fn verify(&self, place: &Place) -> Result<(), BenchError> {
        let Contestant::Likewise { .. } = self.contestant else {
            return Ok(());
        };
        let verified = self.tool(&place.likewise, &["verify"]).await;
        verified.map(drop).map_err(|error| match error {
            BenchError::Tool { log, .. } => BenchError::Wrong {
                contestant: self.contestant.name(),
                report: log,
            },
            error => error,
        })
    }

    /// Fails unless the tables hold exactly these likes: each a line `user_id,video_id`, in the order sent.
    pub(super) async fn check(&self, place: &Place, sent: &str) -> Result<(), BenchError> {
        let path = self.folder.path().join("sent.csv");
        fs::write(&path, sent).map_err(doing("writing the likes that were sent"))?;
        let arguments = ["bench", "--tool", "check", "--from", "sent.csv"];
        let checked = self.tool(&place.own, &arguments);
        checked.await.map(drop).map_err(|error| match error {
            BenchError::Tool { log, .. } => BenchError::Wrong {
                contestant: self.contestant.name(),
                report: log,
            },
            error => error,
        })
    }
}

/// Waits until a process can accept likes: on a slow machine it listens before its tables are up to date.
async fn ready(process: &mut Process, target: &Target) -> Result<(), BenchError> {
    let request = Request::to(target, Method::GET, "/readyz", 0, Bytes::new());
    let mut client = Client::open(target, ANSWER_TIMEOUT).await;
    let started = Instant::now();
    while let Err(failure) = client.send(&request).await {
        if started.elapsed() > START_TIMEOUT || process.ended()?.is_some() {
            return Err(BenchError::NoAnswer {
                server: process.name().to_owned(),
                limit: START_TIMEOUT,
                reason: refusal::described(failure, client.body()),
                log: process.last_lines(),
            });
        }
        sleep(POLL_INTERVAL).await;
    }
    Ok(())
}

/// Returns what each process used between two looks. Processes that were started in between count in full.
pub(super) fn used_between(
    before: &[(String, Usage)],
    after: Vec<(String, Usage)>,
) -> Vec<(String, Usage)> {
    let before: BTreeMap<_, _> = before
        .iter()
        .map(|(name, usage)| (name, usage.cpu))
        .collect();
    let since = |(name, usage): (String, Usage)| {
        let earlier = before.get(&name).copied().unwrap_or_default();
        let cpu = usage.cpu.saturating_sub(earlier);
        (name, Usage { cpu, ..usage })
    };
    after.into_iter().map(since).collect()
}

/// Adds the values of the counter in a text of metrics.
fn counted(metrics: &str) -> u64 {
    let values = metrics.lines().filter_map(|line| {
        let rest = line.strip_prefix(COMPLETED)?;
        let (_, value) = rest.rsplit_once(' ')?;
        (rest.starts_with([' ', '{'])).then(|| value.trim().parse::<f64>().ok())?
    });
    values.sum::<f64>() as u64
}

const fn variable(kind: Kind) -> &'static str {
    match kind {
        Kind::MariaDb | Kind::Postgres => "LIKEWISE_DATABASE_URL",
        Kind::Redis => "LIKEWISE_REDIS_URL",
        Kind::Nats => "LIKEWISE_NATS_URL",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn completed_rows_add_up_over_labels() {
        let metrics = "# TYPE likewise_ledger_rows_completed counter\n\
            likewise_ledger_rows_completed_total{path=\"one\"} 40\n\
            likewise_ledger_rows_completed_total{path=\"two\"} 2\n\
            likewise_ledger_rows_completed_totally 7\n";
        assert_eq!(counted(metrics), 42);
        assert_eq!(counted("likewise_ledger_rows_completed_total 7\n"), 7);
        assert_eq!(counted(""), 0);
    }

    #[test]
    fn usage_between_looks_excludes_earlier_work() {
        let usage = |cpu| Usage {
            cpu: Duration::from_secs(cpu),
            peak_memory: 1,
        };
        let before = [("api".to_owned(), usage(3)), ("gone".to_owned(), usage(9))];
        let after = vec![
            ("api".to_owned(), usage(5)),
            ("worker".to_owned(), usage(2)),
        ];
        let used = used_between(&before, after);
        let seconds: Vec<_> = used
            .iter()
            .map(|(name, usage)| (&**name, usage.cpu.as_secs()))
            .collect();
        assert_eq!(seconds, [("api", 2), ("worker", 2)]);
    }
}
