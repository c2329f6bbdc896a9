//! Measures whole processes under load, in release mode:
//!
//! ```sh
//! scripts/bench                              # generated likes on the embedded default
//! scripts/bench --from likes.csv.gz --json   # recorded ones
//! scripts/bench --reads                      # reads of them
//! ```
//!
//! What a like costs is said in CPU microseconds and in *hellos*: multiples of what a bare actix-web handler
//! with an answer of the same size costs, loaded by the same generator within the same minute. The ratio holds
//! across machines and busy neighbours where the figures do not.

mod failure;
mod hello;
mod likes;
mod measure;
mod reads;
mod report;
// The servers that the tests start for themselves.
#[allow(dead_code, reason = "the tests also stop and suspend them")]
#[path = "../../tests/support/servers.rs"]
mod servers;
mod service;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

use failure::Failure;
use likes::Likes;
use measure::{Plan, measure};
use report::{Report, Sample};
use service::{Parts, Service};

/// What a shell expects of a program that Ctrl-C has ended: 128 + SIGINT.
const INTERRUPTED: u8 = 130;

/// Measures Likewise, and beside it a bare actix-web server, as processes under load
#[derive(Debug, Parser)]
#[command(name = "pipeline")]
struct Options {
    /// Likes to send in each round; with --from, the most of the file that is sent
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    likes: Option<u64>,

    /// File of `user_id,video_id` lines, plain or gzip, in place of generated likes
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,

    /// What Likewise runs on
    #[arg(long, value_name = "PARTS", value_enum, default_value_t = Parts::Embedded)]
    on: Parts,

    /// Connections, each with one request in flight; a list is measured one after the other
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "64,256", value_parser = clap::value_parser!(u16).range(1..))]
    concurrency: Vec<u16>,

    /// Rounds; in each, both servers are started anew and measured one after the other
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,

    /// Generated likes sent before those that count
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    warm_up: u64,

    /// Measure reads instead of likes: of one like, warm and cold, of a page of 100, and lists of 50
    #[arg(long)]
    reads: bool,

    /// The longest that one measurement may take before the benchmark has failed
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    limit: u64,

    /// Another `likewise` program to measure, for comparisons
    #[arg(long, value_name = "FILE", default_value = env!("CARGO_BIN_EXE_likewise"), hide_default_value = true)]
    likewise: PathBuf,

    /// Print the result as one JSON object instead of a table
    #[arg(long)]
    json: bool,

    /// Be the bare server instead of measuring
    #[arg(long, hide = true)]
    serve_hello: bool,

    /// Passed by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let outcome = if options.serve_hello {
        hello::serve().map(|()| ExitCode::SUCCESS)
    } else {
        run(options)
    };
    outcome.unwrap_or_else(|failure| {
        say(&format!("benchmark failed: {failure}"));
        ExitCode::FAILURE
    })
}

/// Runs everything on this thread: the servers end with the thread that has started them.
fn run(options: Options) -> Result<ExitCode, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::doing("starting the load generator"))?;
    runtime.block_on(async {
        let interrupted = async {
            let mut terminate = signal(SignalKind::terminate())?;
            tokio::select! {
                ended = tokio::signal::ctrl_c() => ended,
                _ = terminate.recv() => Ok(()),
            }
        };
        // What is dropped half-way kills the servers it has started.
        tokio::select! {
            outcome = compare(options) => outcome.map(|()| ExitCode::SUCCESS),
            outcome = interrupted => outcome
                .map(|()| ExitCode::from(INTERRUPTED))
                .map_err(Failure::doing("waiting for signals")),
        }
    })
}

async fn compare(options: Options) -> Result<(), Failure> {
    let likes = Likes::new(options.from, options.likes)?;
    let mut report = Report::new(&likes, options.rounds, options.warm_up);
    for concurrency in options.concurrency {
        let mut samples = Vec::new();
        for round in 1..=options.rounds {
            let sample = if options.reads {
                let reads = reads::measure(&options.likewise, options.on, &likes, concurrency);
                let limit = Duration::from_secs(options.limit);
                let reads = tokio::time::timeout(limit, reads).await;
                Sample::of_reads(&reads.unwrap_or(Err(Failure::TooLong(limit)))?)
            } else {
                let plan = Plan {
                    likes: &likes,
                    warm_up: options.warm_up,
                    concurrency,
                    limit: Duration::from_secs(options.limit),
                };
                let hello = measure(Service::hello().await?, &plan).await?;
                let likewise = measure(
                    Service::likewise(&options.likewise, options.on).await?,
                    &plan,
                )
                .await?;
                Sample::new(&hello, &likewise)
            };
            say(&format!(
                "{concurrency} connections, round {round} of {}: {sample}",
                options.rounds
            ));
            samples.push(sample);
        }
        report.add(concurrency, samples);
    }
    let mut out = io::stdout().lock();
    let printed = if options.json {
        report.write_json(&mut out)
    } else {
        report.write_table(&mut out)
    };
    printed
        .and_then(|()| out.flush())
        .map_err(Failure::doing("writing the result to standard output"))
}

/// How long a server may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Looks until it finds what it looks for: what the tests' servers wait with.
#[track_caller]
fn until<T, E: std::fmt::Display>(
    what: &str,
    within: Duration,
    mut look: impl FnMut() -> Result<T, E>,
) -> T {
    let started = std::time::Instant::now();
    loop {
        match look() {
            Ok(found) => return found,
            Err(seen) if started.elapsed() > within => panic!("waited for {what} in vain: {seen}"),
            Err(_) => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}

fn say(line: &str) {
    // Nothing is left to do if standard error is closed.
    let _ = writeln!(io::stderr(), "{line}");
}
