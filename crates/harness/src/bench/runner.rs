//! Runs the cases of a benchmark, round by round, and adds their figures to the report.

use std::cell::RefCell;
use std::io::{IsTerminal, Write, stderr};
use std::num::NonZeroU32;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio::time::timeout;

use super::failure::BenchError;
use super::measure::{Measured, measure, measure_answers, measure_at_rate};
use super::peer::Peer;
use super::reads::{FILLED, Stored, hot_gets, hot_gets_once};
use super::report::{Figures, Report, Row};
use super::service::{Contestant, Place, Service, used_between};
use super::workload::{Keys, Phase, Workload};
use super::{BenchArgs, Group, growth, limit};
use crate::request::{Request, Target};
use crate::summary::Summary;

/// The most reads of one like, and of pages and lists, in one measurement.
const READS: u64 = 60_000;
const PAGES: u64 = 15_000;
/// Reads for each like at a fixed rate, in tenths.
const READS_IN_TEN: u32 = 9;
const SEED: u64 = 11;

/// The parts: their tools and titles.
const PARTS: [(&str, &str); 7] = [
    ("redis", "Redis: the cache's script"),
    ("publish", "NATS: publish, an event a message"),
    ("publish-batch", "NATS: publish, 64 events a message"),
    ("pull", "NATS: pull, an event a message"),
    ("pull-batch", "NATS: pull, 64 events a message"),
    ("database", "database: 500 likes in one transaction"),
    ("database-two", "database: 500 likes in two transactions"),
];

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
            + cases(Group::Accept, 1)
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

    /// Measures each server alone, with the payloads of Likewise.
    async fn parts(&mut self, hello: Hello) -> Result<(), BenchError> {
        let service = Service::start(self.place, self.likewise()).await?;
        for (part, title) in PARTS {
            let measured = self.within(title, self.part(&service, part)).await?;
            let row = row(
                &format!("part_{}", part.replace('-', "_")),
                title,
                &service.contestant,
                1,
            );
            self.add(&row, Figures::of(&measured, hello.put));
        }
        Ok(())
    }

    async fn part(&self, service: &Service, part: &str) -> Result<Measured, BenchError> {
        let count = self.workload.count(Keys::Uniform);
        let mut client = service.part(self.place, part, count)?;
        let limit = limit(self.args);
        client.logged("ready", limit).await?;
        let usage = |client: &crate::process::Process| -> Result<_, BenchError> {
            let mut usage = service.usage()?;
            // The processes of Likewise are idle.
            usage.retain(|(name, _)| name != "api" && !name.starts_with("worker"));
            usage.push(("client".to_owned(), client.usage()?));
            Ok(usage)
        };
        let before = usage(&client)?;
        let go = service.folder().join("go");
        std::fs::write(&go, "").map_err(BenchError::doing("starting a part"))?;
        let took = client.logged("finished in ", limit).await?;
        let usage = used_between(&before, usage(&client)?);
        std::fs::remove_file(&go).map_err(BenchError::doing("ending a part"))?;
        let seconds = took
            .split(' ')
            .next()
            .and_then(|seconds| seconds.parse().ok());
        let mut load = Summary::new();
        load.accepted = count;
        load.elapsed = Duration::from_secs_f64(seconds.unwrap_or_default());
        Ok(Measured {
            load,
            completed_after: None,
            usage,
            completion: None,
        })
    }

    /// Measures likes until they are durable and cached. The worker starts again after them.
    async fn accept(&mut self, connections: u16, hello: Hello) -> Result<(), BenchError> {
        let title = "accept: durable and cached";
        let mut service = self.start(self.likewise()).await?;
        let work = async {
            let target = service.target.clone();
            let warm_up =
                self.workload
                    .requests(&target, Keys::Uniform, Some(self.args.warm_up))?;
            measure(&service, connections, warm_up).await?;
            service.stop_recording().await?;
            let likes = self.workload.requests(&target, Keys::Uniform, None)?;
            let measured = measure_answers(&service, connections, likes).await?;
            service.start_recording(self.place).await?;
            service.until_completed(measured.load.accepted).await?;
            self.check(&service, Keys::Uniform).await?;
            Ok(measured)
        };
        let measured = self.within(title, work).await?;
        let row = row("accept", title, &service.contestant, connections);
        self.add(&row, Figures::of(&measured, hello.put));
        self.stop(service);
        Ok(())
    }

    /// Measures likes until they are completed in the database, and checks the data.
    async fn pipeline(
        &mut self,
        contestant: &Contestant,
        keys: Keys,
        connections: u16,
        hello: Hello,
    ) -> Result<(), BenchError> {
        let title = match keys {
            Keys::Uniform => "full pipeline, uniform keys",
            Keys::Skew => "full pipeline, real skew",
            Keys::Hot => "full pipeline, one video",
        };
        let service = self.start(contestant.clone()).await?;
        let work = async {
            let target = &service.target;
            let warm_up = self
                .workload
                .requests(target, keys, Some(self.args.warm_up))?;
            measure(&service, connections, warm_up).await?;
            let likes = self.workload.requests(target, keys, None)?;
            let measured = measure(&service, connections, likes).await?;
            self.check(&service, keys).await?;
            Ok(measured)
        };
        let measured = self.within(title, work).await?;
        let case = format!("pipeline_{}", keys.name());
        let row = row(&case, title, &service.contestant, connections);
        self.add(&row, Figures::of(&measured, hello.put));
        self.stop(service);
        Ok(())
    }

    /// Fails unless a service holds exactly what it was sent. With rows it has more; its guarantees are checked at the end.
    async fn check(&self, service: &Service, keys: Keys) -> Result<(), BenchError> {
        if self.args.rows > 0 {
            return Ok(());
        }
        service.verify(self.place).await?;
        let sent = self.workload.sent(keys, self.args.warm_up)?;
        service.check(self.place, &sent).await
    }

    /// Measures every kind of read, on likes that were just stored.
    async fn reads(&mut self, connections: u16, hello: Hello) -> Result<(), BenchError> {
        let mut service = self.start(self.likewise()).await?;
        let work = self.measure_reads(&mut service, connections);
        let cases = self.within("reads", work).await?;
        for (case, title, measured) in cases {
            let row = row(case, title, &service.contestant, connections);
            self.add(&row, Figures::of(&measured, hello.get));
        }
        self.stop(service);
        Ok(())
    }

    async fn measure_reads(
        &self,
        service: &mut Service,
        connections: u16,
    ) -> Result<Vec<(&'static str, &'static str, Measured)>, BenchError> {
        let stored = self.stored(FILLED)?;
        let target = service.target.clone();
        measure(service, connections, stored.stores(&target)).await?;
        growth::fill(service, self.place, 0, self.args.hot_likes).await?;
        service.restart_cold(self.place).await?;

        let target = service.target.clone();
        let (gets, pages) = (self.reads_of(READS), self.reads_of(PAGES));
        let cold = measure_answers(service, connections, stored.gets_once(&target)).await?;
        let warm = measure_answers(service, connections, stored.gets(&target, gets)).await?;
        measure_answers(service, connections, hot_gets_once(&target)).await?;
        let hot = measure_answers(service, connections, hot_gets(&target, gets)).await?;
        let status = stored.status_pages(&target);
        measure_answers(service, connections, status.iter().cloned()).await?;
        let status = status.iter().cycle().take(pages).cloned();
        let status = measure_answers(service, connections, status).await?;
        let likers = measure_answers(service, connections, stored.likers(&target, pages)).await?;
        let liked = measure_answers(service, connections, stored.liked(&target, pages)).await?;
        if self.args.rows == 0 {
            service.verify(self.place).await?;
        }
        Ok(vec![
            ("get_warm", "GET of a like, warm", warm),
            ("get_cold", "GET of a like, cold", cold),
            ("get_hot", "GET of a hot video, random users", hot),
            ("status_of_100", "status of 100", status),
            ("list_of_50_likers", "list of 50 likers", likers),
            ("list_of_50_liked", "list of 50 of a user", liked),
        ])
    }

    /// Measures likes alone, and reads and likes together, at a fixed rate: half of the highest one, unless it is given.
    async fn rates(&mut self, connections: u16, hello: Hello) -> Result<(), BenchError> {
        let service = self.start(self.likewise()).await?;
        let stored = self.stored(FILLED)?;
        let target = service.target.clone();
        measure(&service, connections, stored.stores(&target)).await?;

        let title = "likes, highest rate";
        let likes = self.workload.requests(&target, Keys::Uniform, None)?;
        let measured = self
            .within(title, measure(&service, connections, likes))
            .await?;
        let per_second = rate(
            &measured,
            measured.completed_after.unwrap_or(measured.load.elapsed),
        );
        let title = "likes at half of it";
        let half = self.half(per_second);
        let likes = self.workload.likes(Keys::Uniform, Phase::WarmUp)?;
        let likes = likes
            .map(|like| Request::like(&target, like))
            .take(self.at(half));
        let work = measure_at_rate(&service, connections, half, likes);
        let measured = self.within(title, work).await?;
        self.add_rates("likes_at_rate", title, &measured, connections, hello);

        let title = "90 % reads, highest rate";
        let most = self.reads_of(READS);
        let mixed = self.mixed(&stored, &target)?.take(most);
        let measured = self
            .within(title, measure(&service, connections, mixed))
            .await?;
        let case = row("mixed", title, &service.contestant, connections);
        self.add(&case, Figures::of(&measured, hello.get));
        let title = "90 % reads at half of it";
        let half = self.half(rate(&measured, measured.load.elapsed));
        let mixed = self.mixed(&stored, &target)?.skip(most).take(self.at(half));
        let work = measure_at_rate(&service, connections, half, mixed);
        let measured = self.within(title, work).await?;
        self.add_rates("mixed_at_rate", title, &measured, connections, hello);
        if self.args.rows == 0 {
            service.verify(self.place).await?;
        }
        self.stop(service);
        Ok(())
    }

    /// Adds the rows of a fixed rate: all requests, and the latencies of reads, of likes, and of their completion.
    fn add_rates(
        &self,
        case: &str,
        title: &str,
        measured: &Measured,
        connections: u16,
        hello: Hello,
    ) {
        let contestant = self.likewise();
        let row = |suffix: &str, words: &str| {
            let (case, title) = (format!("{case}{suffix}"), format!("{title}{words}"));
            row(&case, &title, &contestant, connections)
        };
        let report = |row: &Row, latency| {
            let mut figures = Figures::default();
            figures.add_latency(latency);
            self.report.borrow_mut().add(row, figures);
        };
        let bare = match measured.load.likes < measured.load.accepted {
            true => hello.get,
            false => hello.put,
        };
        self.add(&row("", ""), Figures::of(measured, bare));
        let mut reads = measured.load.latency.clone();
        if reads.subtract(&measured.load.write_latency).is_ok() && !reads.is_empty() {
            report(&row("_reads", ": reads"), &reads);
            report(&row("_likes", ": likes"), &measured.load.write_latency);
        }
        if let Some(completion) = &measured.completion {
            report(&row("_completed", ": until completed"), completion);
        }
    }

    /// Nine random reads for each new like, in random order, without end.
    fn mixed<'b>(
        &self,
        stored: &'b Stored,
        target: &'b Target,
    ) -> Result<impl Iterator<Item = Request> + use<'b>, BenchError> {
        let mut random = SmallRng::seed_from_u64(SEED);
        let mut likes = self.workload.likes(Keys::Uniform, Phase::Measured)?;
        let mut reads = stored.random_gets(target);
        Ok(std::iter::from_fn(move || {
            if random.random_ratio(READS_IN_TEN, 10) {
                return reads.next();
            }
            likes.next().map(|like| Request::like(target, like))
        }))
    }

    fn half(&self, per_second: f64) -> NonZeroU32 {
        let half = NonZeroU32::new((per_second / 2.0) as u32).unwrap_or(NonZeroU32::MIN);
        self.args.rate.unwrap_or(half)
    }

    /// The number of requests at a rate.
    fn at(&self, rate: NonZeroU32) -> usize {
        let count = u64::from(rate.get()) * u64::from(self.args.seconds);
        usize::try_from(count).unwrap_or(usize::MAX)
    }
}

fn rate(measured: &Measured, time: Duration) -> f64 {
    measured.load.accepted as f64 / time.as_secs_f64().max(1e-9)
}

fn row(case: &str, title: &str, contestant: &Contestant, connections: u16) -> Row {
    Row {
        case: case.to_owned(),
        title: title.to_owned(),
        contestant: contestant.name(),
        connections,
    }
}

/// A bar on standard error, or a line for each measurement where that is no terminal.
struct Progress {
    bar: ProgressBar,
    is_terminal: bool,
}

impl Progress {
    fn start() -> Self {
        let is_terminal = stderr().is_terminal();
        let bar = match is_terminal {
            true => ProgressBar::new(0),
            false => ProgressBar::hidden(),
        };
        let style = ProgressStyle::with_template(
            "{wide_bar} {pos} of {len} · {prefix} · {msg} · {elapsed}",
        );
        let bar = bar.with_style(style.expect("a constant template is valid"));
        bar.enable_steady_tick(Duration::from_millis(500));
        Self { bar, is_terminal }
    }

    fn expect(&self, measurements: u64) {
        self.bar.set_length(measurements);
    }

    fn round(&self, round: u32, of: u32) {
        self.bar.set_prefix(format!("round {round} of {of}"));
    }

    fn doing(&self, what: &str) {
        self.bar.set_message(what.to_owned());
    }

    fn done(&self, line: &str) {
        self.bar.inc(1);
        if self.is_terminal {
            self.bar.println(line);
        } else {
            // Nothing is left to do if standard error is closed.
            let _ = writeln!(stderr(), "{line}");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
