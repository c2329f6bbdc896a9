//! Measures what watchers cost: watchers of counts while likes flow, and an operator who reads the report of all actors each
//! second. It starts the given program, embedded unless `LIKEWISE_DATABASE_URL` and the like say otherwise. See
//! `docs/PERFORMANCE.md`.
//!
//! ```sh
//! cargo build --release && cargo run --release --example watchers -- counts --program target/release/likewise
//! cargo run --release --example watchers -- operators --program target/release/likewise
//! ```
#![allow(clippy::print_stdout, reason = "it prints its figures")]

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Parser, Subcommand};
use harness::process::{Process, program};
use harness::{Client, Interaction, Method, Options, Request, Target, drive};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, interval, sleep, timeout};

type Failure = Box<dyn Error + Send + Sync>;

/// How long the start of the program, an answer or the last count may take.
const PATIENCE: Duration = Duration::from_secs(120);

#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    what: What,
    /// The program to measure
    #[arg(long, global = true, default_value = "target/release/likewise")]
    program: PathBuf,
    /// The connections that send likes
    #[arg(long, global = true, default_value_t = 64)]
    connections: u16,
    /// How often each case is measured, in turn
    #[arg(long, global = true, default_value_t = 3)]
    rounds: usize,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Watchers of counts: half of them watch one video, half ten
    Counts {
        #[arg(long, default_value_t = 1_000)]
        watchers: usize,
        #[arg(long, default_value_t = 50)]
        videos: i64,
        /// Users, each of whom likes every video
        #[arg(long, default_value_t = 800)]
        users: i64,
    },
    /// An operator who reads `/admin/actors?scope=cluster` each second
    Operators {
        /// The length of an idle measurement
        #[arg(long, default_value_t = 60)]
        seconds: u64,
        /// The likes of a measurement under load
        #[arg(long, default_value_t = 100_000)]
        likes: i64,
        /// The reports that the operator reads in a second: many show what one costs
        #[arg(long, default_value_t = 1)]
        reports: u32,
    },
}

fn main() -> Result<(), Failure> {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        match &arguments.what {
            What::Counts {
                watchers,
                videos,
                users,
            } => counts(&arguments, *watchers, *videos, *users).await,
            What::Operators {
                seconds,
                likes,
                reports,
            } => operators(&arguments, *seconds, *likes, *reports).await,
        }
    })
}

/// A running service in a folder of its own.
struct Service {
    process: Process,
    address: String,
    target: Target,
    _folder: tempfile::TempDir,
}

impl Service {
    async fn start(path: &Path, streams: usize) -> Result<Self, Failure> {
        let folder = tempfile::tempdir()?;
        let mut command = program(path.canonicalize()?);
        command
            .arg("serve")
            .env("LIKEWISE_HTTP_ADDR", "127.0.0.1:0")
            .env("LIKEWISE_LIVE_CONNECTIONS", streams.max(1).to_string())
            .env("LIKEWISE_AUDIT_INTERVAL_SECONDS", "0");
        let mut process = Process::start("likewise", &mut command, folder.path())?;
        let rest = process.logged("listening url=http://", PATIENCE).await?;
        let address = rest.split([',', ' ', '/']).next().unwrap_or_default();
        let target = format!("http://{address}").parse().map_err(|error| {
            format!("the program listens on {address}, which is no address: {error:?}")
        })?;
        let service = Self {
            process,
            address: address.to_owned(),
            target,
            _folder: folder,
        };
        let mut client = Client::open(&service.target, PATIENCE).await;
        let requests = ["/readyz", "/admin/actors/cache_writer"].map(|path| service.get(path));
        let deadline = Instant::now() + PATIENCE;
        // A starting worker settles the last events in the cache.
        let mut is_ready = false;
        while !is_ready {
            if Instant::now() > deadline {
                return Err("the program does not become ready".into());
            }
            sleep(Duration::from_millis(100)).await;
            let mut answers = [true; 2];
            for (answered, request) in answers.iter_mut().zip(&requests) {
                *answered = client.send(request).await.is_ok();
            }
            let report = serde_json::from_slice::<serde_json::Value>(client.body());
            let is_idle = report.is_ok_and(|report| report["mailbox"]["depth"] == 0);
            is_ready = answers == [true; 2] && is_idle;
        }
        drop(client);
        Ok(service)
    }

    fn cpu(&self) -> Result<Duration, Failure> {
        Ok(self.process.usage()?.cpu)
    }

    /// Sends these likes, and waits until all of them are completed. Returns the CPU time that this took.
    async fn like(
        &self,
        likes: impl Iterator<Item = Interaction>,
        connections: u16,
    ) -> Result<Duration, Failure> {
        let before = self.cpu()?;
        let requests = likes.map(|like| Request::like(&self.target, like));
        let summary = drive(requests, Options::new(self.target.clone(), connections)).await;
        if summary.failed() > 0 {
            return Err(format!("likes failed: {:?}", summary.failures).into());
        }
        let mut client = Client::open(&self.target, PATIENCE).await;
        loop {
            let ledger = self.get("/admin/ledger");
            client.send(&ledger).await?;
            let ledger: serde_json::Value = serde_json::from_slice(client.body())?;
            let open = ["pending", "processing", "failed"];
            if open
                .iter()
                .all(|status| ledger["rows"][status].as_i64().unwrap_or(0) == 0)
            {
                return Ok(self.cpu()? - before);
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    fn get(&self, path: &str) -> Request {
        Request::to(&self.target, Method::GET, path, 1, bytes::Bytes::new())
    }
}

/// Watches until the count of its video is the final one. Returns the bytes it read.
async fn follow(mut stream: TcpStream, video: i64, users: i64) -> Result<usize, Failure> {
    let last = format!("\"resource_id\":{video},\"like_count\":{users},");
    let (mut text, mut bytes) = (String::new(), 0);
    let mut buffer = vec![0; 16_384];
    loop {
        let read = timeout(PATIENCE, stream.read(&mut buffer)).await??;
        if read == 0 {
            return Err(format!("the stream of video {video} ended").into());
        }
        bytes += read;
        text += &String::from_utf8_lossy(&buffer[..read]);
        if text.contains(&last) {
            return Ok(bytes);
        }
        // The last line may be cut off.
        let from = text.len().saturating_sub(last.len() + 8);
        let from = (from..text.len()).find(|at| text.is_char_boundary(*at));
        text = text.split_off(from.unwrap_or_default());
    }
}

async fn watch(address: &str, watcher: usize, videos: i64) -> Result<(TcpStream, i64), Failure> {
    let video = 1 + watcher as i64 % videos;
    let path = match watcher % 2 {
        0 => format!("/v1/videos/{video}/likes/live"),
        _ => {
            let ten = (0..10).map(|next| format!("video:{}", 1 + (video - 1 + next) % videos));
            let ten: Vec<_> = ten.collect();
            format!("/v1/likes/live?resources={}", ten.join(","))
        }
    };
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut head = [0; 12];
    timeout(PATIENCE, stream.read_exact(&mut head)).await??;
    match &head {
        b"HTTP/1.1 200" => Ok((stream, video)),
        head => Err(format!("a watcher got {}", String::from_utf8_lossy(head)).into()),
    }
}

async fn counts(
    arguments: &Arguments,
    watchers: usize,
    videos: i64,
    users: i64,
) -> Result<(), Failure> {
    println!(
        "| watchers | memory of each | CPU of {} likes | CPU of a watcher | bytes to a watcher | last count after |",
        users * videos
    );
    println!("|---|---|---|---|---|---|");
    for _ in 0..arguments.rounds {
        let mut alone = Duration::ZERO;
        for watchers in [0, watchers] {
            let service = Service::start(&arguments.program, watchers).await?;
            // The first likes fill caches and connections.
            let warm = (1..=2_000).map(|user_id| Interaction {
                user_id,
                video_id: videos + 1,
            });
            service.like(warm, arguments.connections).await?;
            let before = service.process.usage()?.peak_memory;
            let mut streams = Vec::new();
            for watcher in 0..watchers {
                streams.push(watch(&service.address, watcher, videos).await?);
            }
            let grown = service.process.usage()?.peak_memory.saturating_sub(before);
            let following = streams
                .into_iter()
                .map(|(stream, video)| tokio::spawn(follow(stream, video, users)));
            let following: Vec<_> = following.collect();
            let likes = (1..=users).flat_map(|user_id| {
                (1..=videos).map(move |video_id| Interaction { user_id, video_id })
            });
            let began = service.cpu()?;
            service.like(likes, arguments.connections).await?;
            let liked = Instant::now();
            let mut bytes = 0;
            for one in following {
                bytes += one.await??;
            }
            let after = liked.elapsed();
            let cpu = service.cpu()? - began;
            service.process.stop().await?;
            if watchers == 0 {
                alone = cpu;
                println!("| 0 | – | {:.2} s | – | – | – |", cpu.as_secs_f64());
                continue;
            }
            let each = |all: f64| all / watchers as f64;
            println!(
                "| {watchers} | {:.1} KiB | {:.2} s | {:.2} ms | {:.1} kB | {} ms |",
                each(grown as f64 / 1_024.0),
                cpu.as_secs_f64(),
                each((cpu.as_secs_f64() - alone.as_secs_f64()) * 1_000.0),
                each(bytes as f64 / 1_000.0),
                after.as_millis(),
            );
        }
    }
    Ok(())
}

/// Reads the report of all actors so often a second, until the task is aborted.
async fn read_actors(target: Target, reports: u32) -> Result<(), Failure> {
    let mut client = Client::open(&target, PATIENCE).await;
    let path = "/admin/actors?scope=cluster";
    let request = Request::to(&target, Method::GET, path, 1, bytes::Bytes::new());
    let mut turn = interval(Duration::from_secs(1) / reports);
    loop {
        turn.tick().await;
        client.send(&request).await?;
    }
}

async fn operators(
    arguments: &Arguments,
    seconds: u64,
    likes: i64,
    reports: u32,
) -> Result<(), Failure> {
    println!("| | without an operator | with one | difference |");
    println!("|---|---|---|---|");
    let service = Service::start(&arguments.program, 1).await?;
    let mut next_user = 1;
    let mut take = |number: i64| {
        let first = next_user;
        next_user += number;
        (first..first + number).map(|user_id| Interaction {
            user_id,
            video_id: 1 + user_id % 1_000,
        })
    };
    let warm = take(10_000);
    service.like(warm, arguments.connections).await?;
    for _ in 0..arguments.rounds {
        let mut idle = [0.0; 2];
        let mut busy = [0.0; 2];
        for (case, is_watched) in [false, true].into_iter().enumerate() {
            let reading =
                is_watched.then(|| tokio::spawn(read_actors(service.target.clone(), reports)));
            let before = service.cpu()?;
            sleep(Duration::from_secs(seconds)).await;
            idle[case] = (service.cpu()? - before).as_secs_f64() / seconds as f64 * 100.0;
            let cpu = service.like(take(likes), arguments.connections).await?;
            busy[case] = cpu.as_secs_f64() * 1_000_000.0 / likes as f64;
            if let Some(reading) = reading {
                reading.abort();
                if let Ok(Err(error)) = reading.await {
                    return Err(error);
                }
            }
        }
        println!(
            "| idle | {:.2} % of a core | {:.2} % | {:+.2} % of a core, {:.2} ms a report |",
            idle[0],
            idle[1],
            idle[1] - idle[0],
            (idle[1] - idle[0]) * 10.0 / f64::from(reports)
        );
        println!(
            "| a like | {:.1} µs | {:.1} µs | {:+.1} % |",
            busy[0],
            busy[1],
            (busy[1] / busy[0] - 1.0) * 100.0
        );
    }
    service.process.stop().await?;
    Ok(())
}
