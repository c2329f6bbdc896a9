//! `likewise load`: sends recorded interactions to a running server as HTTP requests, and reports how many
//! the server accepted and how long the answers took. The command line calls [`run`].

use std::io::{self, Write};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use tokio::sync::watch;

use crate::client::{Outcome, probe};
use crate::drive::{Observer, Options, drive};
use crate::ids::Ids;
use crate::interactions::{Interactions, InteractionsError};
use crate::journal::JournalWriter;
use crate::progress::Progress;
use crate::report::Report;
use crate::request::{Request, Target};

/// Exit code of a program that Ctrl-C ended: 128 + SIGINT.
const INTERRUPTED: u8 = 130;

/// Send recorded likes to a running server and measure its answers.
#[derive(Debug, Clone, Args)]
pub struct LoadArgs {
    /// File of `user_id,video_id` lines, plain or gzip; a header line is skipped
    #[arg(long, value_name = "FILE")]
    pub from: PathBuf,

    /// Server to send to, such as http://127.0.0.1:8080
    #[arg(long)]
    pub url: Target,

    /// How ids are sent
    #[command(flatten)]
    pub ids: Ids,

    /// Keep-alive connections, each with one request in flight
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..))]
    pub concurrency: u16,

    /// Requests a second, on a fixed schedule; without it, as fast as the server answers
    #[arg(long, value_name = "N")]
    pub rate: Option<NonZeroU32>,

    /// How often a like is followed by an unlike of something liked earlier, 0 to 1
    #[arg(long, value_name = "R", default_value_t = 0.0, value_parser = parse_ratio)]
    pub unlike_ratio: f64,

    /// Seed of the draws for unlikes; drawn at random and printed unless given
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,

    /// Seconds until a request without an answer has failed
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = parse_seconds)]
    pub timeout: Duration,

    /// Write each request with its outcome to this new file, for `likewise verify --journal`; those of one
    /// user and video are then sent one after another
    #[arg(long, value_name = "FILE")]
    pub journal: Option<PathBuf>,

    /// Print the result as one JSON object instead of a table
    #[arg(long)]
    pub json: bool,
}

fn parse_ratio(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|ratio| (0.0..=1.0).contains(ratio))
        .ok_or_else(|| "expected a number from 0 to 1".to_owned())
}

fn parse_seconds(text: &str) -> Result<Duration, String> {
    text.parse()
        .ok()
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .filter(|timeout| !timeout.is_zero())
        .ok_or_else(|| "expected a number of seconds above 0".to_owned())
}

/// Why a load could not run to its end. Failed requests are counted in the report; they are not such an
/// error.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file of interactions is missing, unreadable, empty or malformed.
    #[error(transparent)]
    Interactions(#[from] InteractionsError),

    /// No connection could be made before the first request.
    #[error("cannot reach {target}: {reason}; is `likewise serve` running there?")]
    Unreachable {
        /// The server.
        target: Target,
        /// The error of the connection attempt.
        reason: io::Error,
    },

    /// The journal could not be written.
    #[error("cannot write the journal {}: {reason}", path.display())]
    Journal {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: io::Error,
    },

    /// The result could not be written to standard output.
    #[error("cannot write the result to standard output: {0}")]
    Report(io::Error),
}

/// Checks the file and the server, sends the load and prints its result. The exit code is 0 only if every
/// request was accepted, 1 if any failed, and 130 after Ctrl-C.
///
/// # Errors
/// [`LoadError`], when the file cannot be used, no connection can be made at the start, or the result
/// cannot be printed.
pub async fn run(mut args: LoadArgs) -> Result<ExitCode, LoadError> {
    args.url.ids = args.ids.clone();
    // A bad line is found before the first request, so that a load is either sent whole or not at all.
    let lines = Interactions::count(&args.from)?;
    let interactions = Interactions::open(&args.from)?;

    let unreachable = |reason| LoadError::Unreachable {
        target: args.url.clone(),
        reason,
    };
    probe(&args.url, args.timeout).await.map_err(unreachable)?;

    // 32 bits are random enough here, short to type again and exact in every JSON reader.
    let seed = args
        .seed
        .unwrap_or_else(|| u64::from(rand::random::<u32>()));
    let unwritable = |reason| LoadError::Journal {
        path: args.journal.clone().unwrap_or_default(),
        reason,
    };
    let journal = match &args.journal {
        Some(path) => Some(JournalWriter::create(path, args.ids.clone()).map_err(unwritable)?),
        None => None,
    };
    let progress = Progress::start(lines, args.unlike_ratio);
    let observers = Observers {
        progress: progress.as_ref(),
        journal: journal.as_ref(),
    };
    let (stop, stopped) = watch::channel(false);
    let interrupt = tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            stop.send_replace(true);
        }
    });

    let mut broken_off = None;
    let requests = interactions.map_while(|interaction| match interaction {
        Ok(interaction) => Some(Request::like(&args.url, interaction)),
        Err(error) => {
            broken_off = Some(error);
            None
        }
    });
    let options = Options {
        rate: args.rate,
        unlike_ratio: args.unlike_ratio,
        seed,
        timeout: args.timeout,
        in_order: journal.is_some(),
        observer: Some(&observers),
        stop: Some(stopped),
        ..Options::new(args.url.clone(), args.concurrency)
    };
    let summary = drive(requests, options).await;
    interrupt.abort();
    drop(progress);
    if let Some(journal) = journal {
        journal.finish().map_err(unwritable)?;
    }

    let report = Report::new(&summary, seed);
    let mut stdout = io::stdout().lock();
    let printed = if args.json {
        report.write_json(&mut stdout)
    } else {
        report.write_table(&mut stdout)
    };
    printed
        .and_then(|()| stdout.flush())
        .map_err(LoadError::Report)?;

    if let Some(error) = broken_off {
        return Err(error.into());
    }
    Ok(if summary.interrupted {
        ExitCode::from(INTERRUPTED)
    } else if summary.failed() > 0 {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// Passes each outcome to the progress bar and to the journal.
struct Observers<'a> {
    progress: Option<&'a Progress>,
    journal: Option<&'a JournalWriter>,
}

impl Observer for Observers<'_> {
    fn answered(&self, request: &Request, outcome: &Outcome, body: &[u8]) {
        if let Some(progress) = self.progress {
            progress.answered(request, outcome, body);
        }
        if let Some(journal) = self.journal {
            journal.answered(request, outcome, body);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratio_outside_zero_to_one_is_rejected() {
        assert_eq!(parse_ratio("0.25"), Ok(0.25));
        for text in ["-0.1", "1.01", "NaN", "half"] {
            assert!(parse_ratio(text).is_err(), "{text}");
        }
    }

    #[test]
    fn timeout_must_be_positive_and_may_be_fractional() {
        assert_eq!(parse_seconds("0.5"), Ok(Duration::from_millis(500)));
        for text in ["0", "-1", "inf", "NaN", "soon"] {
            assert!(parse_seconds(text).is_err(), "{text}");
        }
    }
}
