//! `likewise audit`: compares behaviors, ledger, read models, counts and cache while services run, and repairs
//! them with `--repair`.

use std::io::Write;
use std::process::ExitCode;

use super::Failure;
use super::dependencies::{dependencies, drop_own_caches};
use super::output::{table, with_progress, write_json};
use crate::admin::{Audit, AuditOptions, AuditReport};
use crate::config::Settings;
use crate::store::Finding;

/// The number of printed examples.
const SHOWN: usize = 20;

/// Arguments of `likewise audit`.
#[derive(Debug, clap::Args)]
pub(super) struct AuditArgs {
    /// Repair the differences
    #[arg(long)]
    repair: bool,
    /// Approximate number of rows in one chunk
    #[arg(long, value_name = "ROWS", default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    chunk: u32,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(settings: Settings, arguments: AuditArgs) -> Result<ExitCode, Failure> {
    let options = AuditOptions {
        chunk: arguments.chunk as usize,
        ..AuditOptions::new(arguments.repair)
    };
    let dependencies = dependencies(&settings).await?;
    let mut audit = Audit::begin(dependencies.clone(), options, None).await?;
    with_progress(async || audit.step().await).await?;
    let report = audit.finish().await?;
    let mut out = std::io::stdout().lock();
    if arguments.json {
        write_json(&mut out, &report)?;
    } else {
        print(&mut out, &report)?;
    }
    if report.mended() > 0 {
        match arguments.json {
            true => drop_own_caches(&dependencies, &mut std::io::sink()).await?,
            false => drop_own_caches(&dependencies, &mut out).await?,
        }
    }
    Ok(if report.in_order() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Prints the report: a table of the findings, and examples.
fn print(out: &mut impl Write, report: &AuditReport) -> std::io::Result<()> {
    let cache = match report.cache_entries {
        Some(entries) => format!("{entries} cache entries"),
        None => "no cache (it is in the service's own process, which audits it)".to_owned(),
    };
    let took = report.finished_at - report.started_at;
    writeln!(
        out,
        "compared {} behaviors, {} ledger rows, {} counts and {cache} in {:.1} s",
        report.checked.behaviors,
        report.checked.ledger_rows,
        report.checked.counts + report.checked.behavior_counts,
        took.as_seconds_f64()
    )?;
    if report.overdue_rows > 0 {
        writeln!(
            out,
            "{} open ledger rows are overdue by five minutes or more: is a worker running?",
            report.overdue_rows
        )?;
    }
    if report.found() == 0 {
        return writeln!(out, "no differences");
    }
    let mut table = table(["difference", "found", "mended"], &[1, 2]);
    for (finding, tally) in &report.findings {
        table.add_row([
            finding.as_str().to_owned(),
            tally.found.to_string(),
            tally.mended.to_string(),
        ]);
    }
    writeln!(out, "{table}")?;
    for example in report.examples.iter().take(SHOWN) {
        writeln!(
            out,
            "  {}, {}: expected {}, found {}",
            example.finding.as_str(),
            example.subject,
            example.expected,
            example.found
        )?;
    }
    if report.found() > SHOWN as u64 {
        writeln!(out, "  ... and {} more", report.found() - SHOWN as u64)?;
    }
    let quarantined = report
        .findings
        .get(&Finding::AcknowledgedEventInQuarantine)
        .map_or(0, |tally| tally.found);
    if quarantined > 0 {
        writeln!(
            out,
            "{quarantined} acknowledged events are in quarantine; no repair publishes them: see \
             `likewise events quarantine --open`"
        )?;
    }
    if !report.repair && report.found() > quarantined {
        writeln!(
            out,
            "nothing was changed; `likewise audit --repair` repairs the data"
        )?;
    }
    Ok(())
}
