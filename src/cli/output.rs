//! The output of subcommands: JSON for programs, tables for people, and a progress bar.

use std::io::{self, IsTerminal, Write, stderr};

use comfy_table::{CellAlignment, Table, presets};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::admin::{AdminError, Progress};

/// Writes a value as indented JSON and ends the line.
pub(super) fn write_json(out: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, value)?;
    writeln!(out)
}

/// A table with this header. Numbers go into right-aligned columns, given by index.
pub(super) fn table<const N: usize>(header: [&str; N], right_aligned: &[usize]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_FULL_CONDENSED);
    table.set_header(header);
    for index in right_aligned {
        if let Some(column) = table.column_mut(*index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// Calls `step` until it returns `None`, and shows its progress on standard error if that is a terminal.
/// Returns the last progress, if there was a step.
pub(super) async fn with_progress(
    mut step: impl AsyncFnMut() -> Result<Option<Progress>, AdminError>,
) -> Result<Option<Progress>, AdminError> {
    let bar = progress_bar();
    let mut last = None;
    let ended = loop {
        match step().await {
            Ok(Some(progress)) => {
                show(&bar, progress);
                last = Some(progress);
            }
            Ok(None) => break Ok(last),
            Err(error) => break Err(error),
        }
    };
    bar.finish_and_clear();
    ended
}

/// Shows progress on a bar.
pub(super) fn show(bar: &ProgressBar, progress: Progress) {
    bar.set_length(progress.total);
    bar.set_position(progress.done);
    bar.set_message(progress.stage);
}

/// A progress bar on standard error, hidden unless that is a terminal.
pub(super) fn progress_bar() -> ProgressBar {
    if !stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template(
        "{msg:12} {wide_bar} {human_pos} of {human_len} rows · {per_sec} · {eta} left",
    )
    .expect("a constant template is valid");
    ProgressBar::new(0).with_style(style)
}
