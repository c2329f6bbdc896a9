//! `likewise import`: imports existing likes from a file or a table of the product while services run.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use chrono::{DateTime, Utc};

use super::Failure;
use super::dependencies::{dependencies, drop_own_caches};
use super::output::{progress_bar, show, table, write_json};
use crate::admin::{
    AdminError, ColumnNames, Format, Import, ImportInput, ImportOptions, ImportReport,
};
use crate::config::Settings;
use crate::domain::{ResourceType, read_time};

/// Arguments of `likewise import`.
#[derive(Debug, clap::Args)]
pub(super) struct ImportArgs {
    /// File of likes: CSV with a header, or one JSON object a line; gzip if its name ends in .gz; - for standard input
    #[arg(required_unless_present = "from_table", conflicts_with = "from_table")]
    file: Option<String>,
    /// Table of the same database to read instead of a file
    #[arg(long = "table", id = "from_table", value_name = "TABLE")]
    table: Option<String>,
    /// Columns of a unique index to read the table by, instead of its primary key
    #[arg(
        long,
        value_name = "COLUMNS",
        value_delimiter = ',',
        requires = "from_table"
    )]
    key: Vec<String>,
    /// Format of the file, csv or jsonl, if its name does not tell
    #[arg(long, value_name = "FORMAT")]
    format: Option<Format>,
    /// Type of the resources, if no column tells
    #[arg(long = "type", value_name = "TYPE")]
    resource_type: Option<String>,
    /// Names of columns that do not have the usual ones: user=NAME,resource=NAME,type=NAME,time=NAME,action=NAME,deleted=NAME
    #[arg(long, value_name = "NAMES")]
    columns: Option<ColumnNames>,
    /// Source of the events in user_behaviors
    #[arg(long, value_name = "NAME", default_value = "import")]
    source: String,
    /// Time of rows that have none, instead of the start of the import
    #[arg(long, value_name = "TIME", value_parser = read_time)]
    default_time: Option<DateTime<Utc>>,
    /// Likes and unlikes of one transaction; up to 50 times as many are in memory
    #[arg(long, value_name = "ROWS", default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    batch: u32,
    /// End at the first invalid row, instead of leaving it out
    #[arg(long)]
    strict: bool,
    /// Append the invalid rows to this file, one JSON object a line
    #[arg(long, value_name = "FILE")]
    rejects: Option<PathBuf>,
    /// Read and check the rows, and import nothing
    #[arg(long)]
    dry_run: bool,
    /// Begin anew where an earlier run stopped; harmless, because repeated rows change nothing
    #[arg(long)]
    restart: bool,
    /// Import although a running service caches in its own memory; it shows old counts until the import ends
    #[arg(long)]
    stale_caches: bool,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(settings: Settings, arguments: ImportArgs) -> Result<ExitCode, Failure> {
    let dependencies = dependencies(&settings).await?;
    let types = dependencies.store.resource_types();
    let resource_type = match &arguments.resource_type {
        // A deployment of one type needs not be told.
        None if types.iter().len() == 1 => types.iter().next(),
        None => None,
        Some(word) => Some(
            ResourceType::known(word)
                .filter(|one| types.contains(*one))
                .ok_or_else(|| {
                    AdminError::Invalid(format!(
                        "'{word}' is not a resource type: use one of {types}"
                    ))
                })?,
        ),
    };
    let options = ImportOptions {
        input: match (arguments.table, arguments.file) {
            (Some(name), _) => ImportInput::Table {
                name,
                key: arguments.key,
            },
            (None, file) => ImportInput::File {
                path: file.unwrap_or_else(|| "-".to_owned()),
                format: arguments.format,
            },
        },
        resource_type,
        columns: arguments.columns.unwrap_or_default(),
        source: arguments.source,
        default_time: arguments.default_time,
        batch: arguments.batch as usize,
        strict: arguments.strict,
        dry_run: arguments.dry_run,
        restart: arguments.restart,
        stale_caches: arguments.stale_caches,
    };
    let mut rejects = match &arguments.rejects {
        Some(path) => Some(OpenOptions::new().create(true).append(true).open(path)?),
        None => None,
    };
    let mut import = Import::begin(dependencies.clone(), options).await?;
    let bar = progress_bar();
    loop {
        let progress = match import.step().await {
            Ok(Some(progress)) => progress,
            Ok(None) => break,
            Err(error) => {
                bar.abandon();
                return Err(error.into());
            }
        };
        if let Some(file) = &mut rejects {
            for rejected in import.rejected() {
                serde_json::to_writer(&mut *file, rejected).map_err(std::io::Error::from)?;
                file.write_all(b"\n")?;
            }
        }
        show(&bar, progress);
    }
    bar.finish_and_clear();
    let report = import.finish().await?;
    let mut out = std::io::stdout().lock();
    if arguments.json {
        write_json(&mut out, &report)?;
    } else {
        print(&mut out, &report, arguments.dry_run)?;
    }
    if arguments.stale_caches && report.new > 0 {
        match arguments.json {
            true => drop_own_caches(&dependencies, &mut std::io::sink()).await?,
            false => drop_own_caches(&dependencies, &mut out).await?,
        }
    }
    Ok(if report.rejected == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn print(out: &mut impl Write, report: &ImportReport, dry_run: bool) -> std::io::Result<()> {
    let mut table = table([report.name.as_str(), "number"], &[1]);
    let mut row = |label: &str, number: String| {
        table.add_row([label.to_owned(), number]);
    };
    row("rows read", report.rows.to_string());
    row("rows rejected", report.rejected.to_string());
    if !dry_run {
        row("new likes and unlikes", report.new.to_string());
        row("known before", report.repeated.to_string());
    }
    row("seconds", format!("{:.1}", report.seconds));
    row("rows per second", format!("{:.0}", report.rows_per_second));
    writeln!(out, "{table}")?;
    if report.resumed_at > 0 {
        writeln!(
            out,
            "an earlier run had read the first {} rows",
            report.resumed_at
        )?;
    }
    for rejected in &report.examples {
        writeln!(out, "  {}: {}", rejected.place, rejected.reason)?;
    }
    let more = report.rejected - report.examples.len() as i64;
    if more > 0 {
        writeln!(
            out,
            "  ... and {more} more; --rejects FILE writes all of them"
        )?;
    }
    if dry_run {
        writeln!(out, "nothing was imported: this was a dry run")?;
    }
    Ok(())
}
