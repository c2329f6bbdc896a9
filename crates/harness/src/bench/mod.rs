//! `likewise bench`: measures a pipeline of whole processes over HTTP, in one table. The command line calls [`run`].
//!
//! A cost is given in CPU microseconds of all processes and in *hellos*: multiples of what a bare actix-web handler with an
//! answer of the same size costs, loaded by the same generator within the same minute. Unlike rates, this ratio holds
//! across machines and beside other work. `docs/PERFORMANCE.md` describes the method.
//!
//! The room knows processes, HTTP and files only. What needs a database or NATS is a tool: the same program with
//! `bench --tool`, implemented beside the command line.

mod contestant;
mod failure;
mod growth;
mod measure;
mod peer;
mod plot;
mod reads;
mod report;
mod runner;
mod servers;
mod service;
mod workload;

use std::cell::RefCell;
use std::fs;
use std::io::{self, Write};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use clap::{Args, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};

pub use failure::BenchError;
pub use workload::Keys;

use self::peer::Peer;
use self::report::Report;
use self::runner::Runner;
use self::workload::Workload;
use crate::io_error::doing;
use crate::machine::Machine;
use crate::servers::{Kind, Programs};

/// Exit code of a program that Ctrl-C ended: 128 + SIGINT.
const INTERRUPTED: u8 = 130;

/// Measure cost, rate and latency of likes and reads.
#[derive(Debug, Clone, Args)]
#[command(after_long_help = "Examples:\n  \
    likewise bench                                       embedded, everything, about ten minutes\n  \
    likewise bench --on mariadb --json bench.json --svg bench.svg\n  \
    likewise bench --only pipeline --keys skew --from likes.csv.gz --concurrency 256\n  \
    likewise bench --on mariadb --rows 10000000          on ten million rows, with the bytes of a like\n\n\
    It starts its own servers on 127.0.0.1, and stops them. Only --on embedded needs none; for the others, run\n\
    `scripts/services install` in the repository once, and start the benchmark in the repository.\n\
    Build with --release, and stop other work on the machine: it changes the rates, though hardly the cost in hellos.\n\
    Ctrl-C ends the benchmark; what was measured until then is reported. The exit code is 1 if a request fails or the\n\
    data is not what was sent.")]
pub struct BenchArgs {
    /// What Likewise runs on
    #[arg(long, value_enum, value_name = "PARTS", default_value_t = On::Embedded)]
    pub on: On,

    /// What to measure; everything without it
    #[arg(long, value_enum, value_name = "GROUP,...", value_delimiter = ',')]
    pub only: Vec<Group>,

    /// Measure only reads, as --only reads does
    #[arg(long, conflicts_with = "only")]
    pub reads: bool,

    /// Likes of each measurement; 100,000, or the whole file of --from
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub likes: Option<u64>,

    /// File of `user_id,video_id` lines, plain or gzip, for --keys skew
    #[arg(long, value_name = "FILE")]
    pub from: Option<PathBuf>,

    /// How the likes of the full pipeline are spread; all of these without it
    #[arg(long, value_enum, value_name = "KEYS,...", value_delimiter = ',')]
    pub keys: Vec<Keys>,

    /// Connections, each with one request in flight; each number of a list is measured
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "64,256", value_parser = clap::value_parser!(u16).range(1..))]
    pub concurrency: Vec<u16>,

    /// Rounds; each measures everything once, the yardstick first
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub rounds: u32,

    /// Likes before each measurement, which do not count
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub warm_up: u64,

    /// Requests a second at a fixed rate; without it, half of the highest rate
    #[arg(long, value_name = "N")]
    pub rate: Option<NonZeroU32>,

    /// Seconds at a fixed rate
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    pub seconds: u32,

    /// Likes that the tables have before the first measurement; all then share one service, and the bytes of a like
    /// are measured
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub rows: u64,

    /// Likes of the hot video in the reads
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    pub hot_likes: u64,

    /// Also measure accepting while at least this many likes of one video wait for a worker
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub in_flight: u64,

    /// Workers beside the api
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    pub workers: u16,

    /// Also measure another program with this contract, in the full pipeline: a folder with a peer.json, as in
    /// bench/peers; may be repeated
    #[arg(long, value_name = "FOLDER")]
    pub peer: Vec<PathBuf>,

    /// Write the result to this file as JSON, with every round; - is standard output
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,

    /// Write a picture of the result to this file
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,

    /// Seconds that one measurement may take before the benchmark fails
    #[arg(long, value_name = "SECONDS", default_value_t = 900)]
    pub limit: u64,

    /// Folder for data and logs, which are deleted at the end; on a disk, because flushes cost nothing elsewhere
    #[arg(long, value_name = "FOLDER")]
    pub data: Option<PathBuf>,

    /// Another `likewise` program to measure
    #[arg(long, value_name = "FILE")]
    pub likewise: Option<PathBuf>,

    /// Be a part of a benchmark instead of measuring
    #[arg(long, hide = true, value_name = "TOOL")]
    pub tool: Option<String>,
}

/// What Likewise runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum On {
    /// SQLite and the in-process cache, in one process
    Embedded,
    /// MariaDB, Redis and NATS, with an api and a worker
    Mariadb,
    /// PostgreSQL, Redis and NATS, with an api and a worker
    Postgres,
}

impl On {
    const fn database(self) -> Option<Kind> {
        match self {
            Self::Embedded => None,
            Self::Mariadb => Some(Kind::MariaDb),
            Self::Postgres => Some(Kind::Postgres),
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Embedded => "SQLite",
            Self::Mariadb => "MariaDB, Redis and NATS",
            Self::Postgres => "PostgreSQL, Redis and NATS",
        }
    }
}

/// A group of cases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Group {
    /// Each server alone with the payloads of Likewise: Redis script, JetStream publish and pull, database transaction
    Parts,
    /// Likes until they are durable and cached, without a worker
    Accept,
    /// Likes until they are completed in the database
    Pipeline,
    /// One like warm, cold and of a hot video, pages of 100, lists of 50
    Reads,
    /// Likes, and nine reads for each like, at a fixed rate (open loop), with the delay until a like is completed
    Rates,
}

impl BenchArgs {
    fn measures(&self, group: Group) -> bool {
        match group {
            Group::Reads => self.reads || self.only.is_empty() || self.only.contains(&group),
            // Without servers there are no parts, and a like is recorded before its answer.
            Group::Parts | Group::Accept if self.on == On::Embedded => false,
            group => !self.reads && (self.only.is_empty() || self.only.contains(&group)),
        }
    }

    fn keys(&self) -> Vec<Keys> {
        match self.keys.is_empty() {
            true => Keys::value_variants().to_vec(),
            false => self.keys.clone(),
        }
    }
}

/// Measures, and prints the result. The exit code is 130 after Ctrl-C.
///
/// # Errors
/// If a program is missing, a process or request fails, or the data is not what was sent. What was measured before is
/// printed all the same.
pub async fn run(args: BenchArgs) -> Result<ExitCode, BenchError> {
    let workload = Workload::new(args.from.clone(), args.likes)?;
    let peers: Vec<Peer> = args
        .peer
        .iter()
        .map(|path| Peer::read(path))
        .collect::<Result<_, _>>()?;
    let place = place(&args)?;
    let report = RefCell::new(Report {
        machine: Machine::this(),
        commit: commit(),
        on: args.on.name(),
        source: workload.source(),
        likes: workload.count(Keys::Uniform),
        warm_up: args.warm_up,
        rounds: args.rounds,
        rows: args.rows,
        interrupted: false,
        cases: Vec::new(),
        growth: None,
    });
    let interrupted = async {
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            ended = tokio::signal::ctrl_c() => ended,
            _ = terminate.recv() => Ok(()),
        }
    };
    // Dropping the runner half-way kills what it has started.
    let outcome = tokio::select! {
        outcome = Runner::new(&args, &place, &workload, &report).run(&peers) => {
            outcome.map(|()| ExitCode::SUCCESS)
        }
        signal = interrupted => {
            report.borrow_mut().interrupted = true;
            signal
                .map(|()| ExitCode::from(INTERRUPTED))
                .map_err(doing("waiting for signals"))
                .map_err(BenchError::Io)
        }
    };
    let mut report = report.into_inner();
    report.interrupted |= outcome.is_err();
    write(&args, &report)?;
    outcome
}

/// The paths of programs and of data.
struct Place {
    programs: Programs,
    /// This program, which is also the bare server and the tools.
    own: PathBuf,
    /// The program to measure.
    likewise: PathBuf,
    /// The parent of all folders with data.
    data: PathBuf,
}

fn place(args: &BenchArgs) -> Result<Place, BenchError> {
    let own = std::env::current_exe().map_err(doing("finding this program"))?;
    let absolute =
        |path: &Path| fs::canonicalize(path).map_err(doing(format!("finding {}", path.display())));
    Ok(Place {
        programs: Programs::find(),
        likewise: match &args.likewise {
            Some(path) => absolute(path)?,
            None => own.clone(),
        },
        own,
        data: absolute(&args.data.clone().unwrap_or_else(std::env::temp_dir))?,
    })
}

/// The version of the code in the current folder, if it is a repository.
fn commit() -> Option<String> {
    let described = Command::new("git")
        .args(["describe", "--always", "--dirty", "--abbrev=12"])
        .output()
        .ok()?;
    let described = String::from_utf8(described.stdout).ok()?;
    let described = described.trim();
    (!described.is_empty()).then(|| described.to_owned())
}

fn write(args: &BenchArgs, report: &Report) -> Result<(), BenchError> {
    let mut out = io::stdout().lock();
    let file = |path: &Path, bytes: &[u8]| {
        fs::write(path, bytes).map_err(doing(format!("writing {}", path.display())))
    };
    if let Some(path) = &args.svg {
        file(path, plot::svg(report).as_bytes())?;
    }
    let to_stdout = args.json.as_deref() == Some(Path::new("-"));
    if let Some(path) = args.json.as_deref().filter(|_| !to_stdout) {
        let mut json = Vec::new();
        report
            .write_json(&mut json)
            .map_err(doing("writing JSON"))?;
        file(path, &json)?;
    }
    let printed = match to_stdout {
        true => report.write_json(&mut out),
        false => report.write_table(&mut out),
    };
    let printed = printed.and_then(|()| out.flush());
    Ok(printed.map_err(doing("writing the result to standard output"))?)
}

/// How long one measurement may take.
fn limit(args: &BenchArgs) -> Duration {
    Duration::from_secs(args.limit)
}
