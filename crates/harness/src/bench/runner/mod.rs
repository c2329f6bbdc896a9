//! Runs the cases of a benchmark, round by round, and adds their figures to the report. Each group of cases has a file.

mod likes;
mod parts;
mod progress;
mod rates;
mod reads;

use std::cell::RefCell;

use tokio::time::timeout;

use self::parts::PARTS;
use self::progress::Progress;
use super::contestant::Contestant;
use super::failure::BenchError;
use super::measure::{Measured, measure_answers};
use super::peer::Peer;
use super::reads::Stored;
use super::report::{Figures, Report, Row};
use super::service::Service;
use super::workload::{Keys, Workload};
use super::{BenchArgs, Group, Place, growth, limit};

/// The most reads of one like in one measurement.
const READS: u64 = 60_000;

/// What the bare handler costs in this round, in CPU microseconds.
#[derive(Clone, Copy)]
struct Hello {
    put: f64,
    get: f64,
}

pub(super) struct Runner<'a> {
    args: &'a BenchArgs,
    place: &'a Place,
    workload: &'a Workload,
    report: &'a RefCell<Report>,
    progress: Progress,
    /// The service of all measurements, if the tables had rows before.
    shared: Option<Service>,
}

impl<'a> Runner<'a> {
    pub(super) fn new(
        args: &'a BenchArgs,
        place: &'a Place,
        workload: &'a Workload,
        report: &'a RefCell<Report>,
    ) -> Self {
        Self {
            args,
            place,
            workload,
            report,
            progress: Progress::start(),
            shared: None,
        }
    }

    /// Measures everything that the arguments ask for.
    pub(super) async fn run(mut self, peers: &[Peer]) -> Result<(), BenchError> {
        let contestants = self.contestants(peers);
        self.progress.expect(self.count(contestants.len()));
        for round in 1..=self.args.rounds {
            for place in 0..self.args.concurrency.len() {
                let connections = self.args.concurrency[place];
                self.progress.round(round, self.args.rounds);
                let hello = self.hello(connections).await?;
                // The parts have connections of their own.
                if self.args.measures(Group::Parts) && place == 0 {
                    self.parts(hello).await?;
                }
                if self.args.measures(Group::Accept) {
                    self.accept(connections, hello).await?;
                }
                if self.args.measures(Group::Pipeline) {
                    for keys in self.args.keys() {
                        for contestant in &contestants {
                            self.pipeline(contestant, keys, connections, hello).await?;
                        }
                    }
                }
                if self.args.measures(Group::Reads) {
                    self.reads(connections, hello).await?;
                }
                if self.args.measures(Group::Rates) {
                    self.rates(connections, hello).await?;
                }
            }
        }
        if let Some(mut service) = self.shared.take() {
            service.verify(self.place).await?;
            let connections = self.args.concurrency.first().copied().unwrap_or(1);
            let sizes = growth::measure_sizes(&mut service, self.place, connections).await?;
            self.report.borrow_mut().growth = Some(sizes);
        }
        Ok(())
    }

    fn contestants(&self, peers: &[Peer]) -> Vec<Contestant> {
        let peers = peers.iter().flat_map(|peer| {
            let lean = peer.lean.then_some(true);
            [Some(false), lean]
                .into_iter()
                .flatten()
                .map(|lean| Contestant::Peer {
                    peer: peer.clone(),
                    lean,
                })
        });
        [self.likewise()].into_iter().chain(peers).collect()
    }

    const fn likewise(&self) -> Contestant {
        Contestant::Likewise {
            on: self.args.on,
            workers: self.args.workers,
        }
    }

    /// The number of measurements of all rounds.
    fn count(&self, contestants: usize) -> u64 {
        let cases = |group, cases: usize| match self.args.measures(group) {
            true => cases,
            false => 0,
        };
        let each = 2 // The bare handler.
            + cases(Group::Accept, 1 + usize::from(self.args.in_flight > 0))
            + cases(Group::Pipeline, contestants * self.args.keys().len())
            + cases(Group::Reads, 6)
            + cases(Group::Rates, 4);
        let round = each * self.args.concurrency.len() + cases(Group::Parts, PARTS.len());
        round as u64 * u64::from(self.args.rounds)
    }

    /// Adds a measurement to the report.
    fn add(&self, row: &Row, figures: Figures) {
        self.progress.done(&format!(
            "{}{}, {} connections: {}",
            if ["", "likewise", "hello"].contains(&&*row.contestant) {
                String::new()
            } else {
                format!("{}: ", row.contestant)
            },
            row.title,
            row.connections,
            figures.summary()
        ));
        self.report.borrow_mut().add(row, figures);
    }

    /// Awaits a measurement for the time that it may take.
    async fn within<T>(
        &self,
        title: &str,
        work: impl Future<Output = Result<T, BenchError>>,
    ) -> Result<T, BenchError> {
        self.progress.doing(title);
        let limit = limit(self.args);
        timeout(limit, work).await.unwrap_or_else(|_| {
            Err(BenchError::TooLong {
                case: title.to_owned(),
                limit,
            })
        })
    }

    /// Starts a contestant. With rows, all measurements of Likewise share one service.
    async fn start(&mut self, contestant: Contestant) -> Result<Service, BenchError> {
        let fills = self.args.rows > 0 && matches!(contestant, Contestant::Likewise { .. });
        if fills && let Some(shared) = self.shared.take() {
            return Ok(shared);
        }
        let service = Service::start(self.place, contestant).await?;
        if fills {
            self.progress.doing("storing likes by SQL");
            growth::fill(&service, self.place, self.args.rows, 0).await?;
        }
        Ok(service)
    }

    fn stop(&mut self, service: Service) {
        if self.args.rows > 0 && matches!(service.contestant, Contestant::Likewise { .. }) {
            self.shared = Some(service);
        }
    }

    fn reads_of(&self, most: u64) -> usize {
        usize::try_from(most.min(self.args.likes.unwrap_or(u64::MAX))).unwrap_or(usize::MAX)
    }

    fn stored(&self, most: usize) -> Result<Stored, BenchError> {
        let likes = self.workload.counted(Keys::Skew, None)?;
        Ok(Stored::of(likes.take(most)))
    }

    /// Measures the yardstick: as many likes and reads as the other cases, to a bare handler.
    async fn hello(&self, connections: u16) -> Result<Hello, BenchError> {
        let (put, get) = self
            .within("bare handler", self.measure_hello(connections))
            .await?;
        let hello = Hello {
            put: put.cpu_us(),
            get: get.cpu_us(),
        };
        let row = |case, title| row(case, title, &Contestant::Hello, connections);
        self.add(
            &row("hello_put", "bare handler, PUT"),
            Figures::of(&put, hello.put),
        );
        self.add(
            &row("hello_get", "bare handler, GET"),
            Figures::of(&get, hello.get),
        );
        Ok(hello)
    }

    async fn measure_hello(&self, connections: u16) -> Result<(Measured, Measured), BenchError> {
        let service = Service::start(self.place, Contestant::Hello).await?;
        let target = &service.target;
        let warm_up = self
            .workload
            .requests(target, Keys::Uniform, Some(self.args.warm_up))?;
        measure_answers(&service, connections, warm_up).await?;
        let likes = self.workload.requests(target, Keys::Uniform, None)?;
        let put = measure_answers(&service, connections, likes).await?;
        let stored = self.stored(1_000)?;
        let gets = stored.gets(target, self.reads_of(READS));
        let get = measure_answers(&service, connections, gets).await?;
        Ok((put, get))
    }
}

fn row(case: &str, title: &str, contestant: &Contestant, connections: u16) -> Row {
    Row {
        case: case.to_owned(),
        title: title.to_owned(),
        contestant: contestant.name(),
        connections,
    }
}
