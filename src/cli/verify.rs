//! `likewise verify`: waits until the ledger has no open rows, then checks the promises on the data.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use harness::journal::Journal;
use serde::Serialize;

use super::dependencies::connect_broker;
use super::output::{table, write_json};
use super::{Failure, verify_cache, verify_journal};
use crate::cache;
use crate::config::Settings;
use crate::domain::{CurrentDeployment, Status};
use crate::nats::Broker;
use crate::store::{self, Store, Verification};

/// The number of examples of each check.
const EXAMPLES: usize = 10;

/// The pause between two looks at an open ledger.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Arguments of `likewise verify`.
#[derive(Debug, clap::Args)]
pub(super) struct VerifyArgs {
    /// The longest wait for the ledger to close
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    wait: u64,
    /// The most pairs to compare between Redis and the database
    #[arg(long, value_name = "PAIRS", default_value_t = 1_000_000)]
    cache_pairs: usize,
    /// Journal of a load with --journal: each acknowledged like must be recorded once
    #[arg(long, value_name = "FILE")]
    journal: Option<PathBuf>,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    holds: bool,
    waited_seconds: f64,
    ledger: BTreeMap<Status, i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    journal: Option<JournalSummary>,
    #[serde(flatten)]
    verification: Verification,
}

/// The numbers of the journal.
#[derive(Serialize)]
struct JournalSummary {
    acknowledged: usize,
    refused: usize,
    unknown: usize,
    /// Pairs that may be in either state, because their last request was not acknowledged.
    ambiguous_pairs: usize,
    /// Whether the last line is incomplete.
    torn: bool,
}

impl JournalSummary {
    fn of(journal: &Journal) -> Self {
        Self {
            acknowledged: journal.acknowledged.len(),
            refused: journal.refused,
            unknown: journal.unknown,
            ambiguous_pairs: journal.ambiguous(),
            torn: journal.torn,
        }
    }
}

pub(super) async fn run(settings: Settings, arguments: VerifyArgs) -> Result<ExitCode, Failure> {
    let journal = arguments
        .journal
        .as_deref()
        .map(Journal::read)
        .transpose()?;
    let store = store::connect(&settings.store).await?;
    let started = Instant::now();
    let longest = Duration::from_secs(arguments.wait);
    let deployment = CurrentDeployment::from(store.deployment().await?);
    let broker = connect_broker(&settings, deployment.clone()).await?;
    while still_open(store.as_ref(), broker.as_ref()).await? && started.elapsed() < longest {
        tokio::time::sleep(POLL_INTERVAL).await;
    }
    let waited = started.elapsed();
    let mut verification = store.verify(EXAMPLES).await?;
    if let Some(options) = &settings.redis {
        let cache = cache::on_redis(options, deployment)?;
        let most = arguments.cache_pairs;
        verification
            .checks
            .push(verify_cache::compare(cache.as_ref(), store.as_ref(), most, EXAMPLES).await?);
    }
    if let Some(journal) = &journal {
        let checks = verify_journal::compare(journal, store.as_ref(), EXAMPLES).await?;
        verification.checks.extend(checks);
    }
    let report = Report {
        journal: journal.as_ref().map(JournalSummary::of),
        holds: verification.holds(),
        waited_seconds: waited.as_secs_f64(),
        ledger: store.ledger_summary().await?,
        verification,
    };
    let mut out = std::io::stdout().lock();
    if arguments.json {
        write_json(&mut out, &report)?;
    } else {
        print(&mut out, &report)?;
    }
    Ok(if report.holds {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Whether the stream or the ledger still holds a pending event. The stream is asked first: an event that
/// leaves it is in the ledger already.
async fn still_open(store: &Store, broker: Option<&Broker>) -> Result<bool, Failure> {
    if let Some(broker) = broker
        && broker.backlog().await? > 0
    {
        return Ok(true);
    }
    Ok(store.open_rows().await? > 0)
}

fn print(out: &mut impl Write, report: &Report) -> std::io::Result<()> {
    let mut table = table(["promise", "checked", "differences", "holds"], &[1, 2]);
    for check in &report.verification.checks {
        table.add_row([
            check.promise.clone(),
            check.checked.to_string(),
            check.differences.to_string(),
            if check.holds() { "yes" } else { "NO" }.to_owned(),
        ]);
    }
    writeln!(out, "{table}")?;
    let ledger: Vec<_> = report
        .ledger
        .iter()
        .map(|(status, rows)| format!("{rows} {status}"))
        .collect();
    let liked: Vec<_> = report
        .verification
        .liked
        .iter()
        .map(|(resource_type, rows)| format!("{rows} {resource_type}s"))
        .collect();
    writeln!(
        out,
        "ledger: {}; liked: {}; waited {:.1} s for the ledger to close",
        if ledger.is_empty() {
            "empty".to_owned()
        } else {
            ledger.join(", ")
        },
        liked.join(", "),
        report.waited_seconds
    )?;
    if let Some(journal) = &report.journal {
        writeln!(
            out,
            "journal: {} acknowledged, {} refused, {} unknown; {} pairs may be in either state{}",
            journal.acknowledged,
            journal.refused,
            journal.unknown,
            journal.ambiguous_pairs,
            if journal.torn {
                "; its last line is cut off"
            } else {
                ""
            }
        )?;
    }
    for check in report
        .verification
        .checks
        .iter()
        .filter(|check| !check.holds())
    {
        writeln!(
            out,
            "\n{}: {} differences, the first of them:",
            check.promise, check.differences
        )?;
        for example in check.examples.iter().take(EXAMPLES) {
            writeln!(
                out,
                "  {}: expected {}, found {}",
                example.subject, example.expected, example.found
            )?;
        }
    }
    Ok(())
}
