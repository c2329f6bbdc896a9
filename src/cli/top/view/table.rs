//! The table of actors.

use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Rect};
use ratatui::style::Style;
use ratatui::text::Line;
use ratatui::widgets::{Cell, Paragraph, Row as Cells, Table, TableState};

use super::fit::fitting;
use super::style::{Styles, Tone};
use crate::cli::format::{duration, millis, oldest, rate, runs_now, whole};
use crate::cli::reports::ActorState;
use crate::cli::top::model::{Model, Row};

/// The width of the names of processes.
const PROCESS_WIDTH: usize = 10;

/// The space between two columns, and before the first.
const GAP: usize = 1;

/// The columns that the last column takes at least.
const NOW_WIDTH: usize = 10;

/// The columns of a longest text in the last column: a message, its time, and another actor.
const NOW_IN_FULL: usize = 45;

/// A column of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Column {
    Actor,
    Process,
    State,
    For,
    Mailbox,
    Oldest,
    Rate,
    P99,
    Processed,
    Errors,
    Now,
}

impl Column {
    /// The columns, the most important first.
    const ALL: [Self; 11] = [
        Self::Actor,
        Self::State,
        Self::Process,
        Self::Mailbox,
        Self::Rate,
        Self::Now,
        Self::Oldest,
        Self::For,
        Self::P99,
        Self::Processed,
        Self::Errors,
    ];

    /// Returns the columns that fit into this width, and the width of the last one.
    fn within(width: usize, shows_processes: bool) -> (Vec<Self>, usize) {
        let shown = Self::ALL
            .into_iter()
            .filter(|column| shows_processes || *column != Self::Process);
        let mut columns = Vec::new();
        let mut taken = 0;
        for column in shown {
            let more = GAP + column.width();
            // What an actor does now, and whom it waits for, is worth more than what is less important.
            let spare = match column {
                Self::For | Self::P99 => Self::Now.title().chars().count() - NOW_WIDTH,
                Self::Processed | Self::Errors => NOW_IN_FULL - NOW_WIDTH,
                _ => 0,
            };
            if taken + more + spare > width {
                break;
            }
            taken += more;
            columns.push(column);
        }
        columns.sort();
        (columns, NOW_WIDTH + width - taken)
    }

    const fn title(self) -> &'static str {
        match self {
            Self::Actor => "actor",
            Self::Process => "process",
            Self::State => "state",
            Self::For => "for",
            Self::Mailbox => "mailbox",
            Self::Oldest => "oldest",
            Self::Rate => "rate/s",
            Self::P99 => "p99",
            Self::Processed => "processed",
            Self::Errors => "errors",
            Self::Now => "runs now → waits for",
        }
    }

    const fn width(self) -> usize {
        match self {
            Self::Actor => 18,
            Self::Process => PROCESS_WIDTH,
            Self::State => 12,
            Self::For | Self::Oldest | Self::Rate | Self::Errors => 6,
            Self::P99 => 7,
            Self::Mailbox => 9,
            Self::Processed => 10,
            Self::Now => NOW_WIDTH,
        }
    }

    const fn is_number(self) -> bool {
        matches!(
            self,
            Self::For
                | Self::Mailbox
                | Self::Oldest
                | Self::Rate
                | Self::P99
                | Self::Processed
                | Self::Errors
        )
    }

    /// Returns the text of a cell. How terse it is matters to the last column only.
    fn text(self, row: &Row<'_>, terse: u8) -> String {
        let Row {
            process,
            actor,
            rate: a_second,
        } = row;
        let last = &process.last;
        let is_off = actor.state == ActorState::Disabled;
        match self {
            Self::Actor => actor.name.clone(),
            Self::Process => end_of(&last.host, PROCESS_WIDTH),
            Self::State => format!(
                "{} {}",
                Tone::from(actor.state).sign(),
                actor.state.as_str()
            ),
            Self::For => {
                let ms = actor.in_state(last.report.captured_at).num_milliseconds();
                millis(ms.unsigned_abs())
            }
            _ if is_off => match self {
                Self::Now => actor.reason.clone().unwrap_or_default(),
                _ => String::new(),
            },
            Self::Mailbox => format!(
                "{}/{}",
                short(actor.mailbox.depth),
                short(actor.mailbox.capacity)
            ),
            Self::Oldest => oldest(actor.mailbox),
            Self::Rate => a_second.map_or_else(|| "–".to_owned(), rate),
            Self::P99 => match actor.slowest_p99() {
                0.0 => String::new(),
                ms => duration(ms),
            },
            Self::Processed => whole(actor.processed),
            Self::Errors => whole(actor.errors),
            Self::Now => now(row, terse),
        }
    }

    /// Returns the title, or as many of its words as fit.
    const fn title_within(self, width: usize) -> &'static str {
        match self {
            Self::Now if width < 20 => "runs now",
            _ => self.title(),
        }
    }
}

/// Returns the end of a name, which has the number of the process, if the name is longer than this.
pub(super) fn end_of(name: &str, width: usize) -> String {
    let length = name.chars().count();
    if length <= width {
        return name.to_owned();
    }
    let end = name.chars().skip(length + 1 - width);
    std::iter::once('…').chain(end).collect()
}

/// Returns a large number in thousands.
pub(super) fn short(number: u64) -> String {
    match number {
        0..10_000 => number.to_string(),
        10_000..10_000_000 => format!("{}k", number / 1_000),
        _ => format!("{}M", number / 1_000_000),
    }
}

/// Returns what an actor works on, and whom it waits for.
fn now(row: &Row<'_>, terse: u8) -> String {
    let running = runs_now(row.actor);
    if terse > 1 && !running.is_empty() {
        // The number of messages and their time, without the type.
        let start = running.find('×').unwrap_or(0);
        return running[start..].replace(" for ", " ");
    }
    if terse > 0 && !running.is_empty() {
        return running;
    }
    let waits = row.actor.waits_for.iter().map(|wait| wait.actor.as_str());
    let waits = waits.collect::<Vec<_>>().join(", ");
    match (running.is_empty(), waits.is_empty()) {
        (_, true) => running,
        (true, false) => format!("→ {waits}"),
        (false, false) => format!("{running} → {waits}"),
    }
}

pub(super) fn draw(frame: &mut Frame<'_>, model: &Model, styles: Styles, area: Rect) {
    let rows = model.rows();
    let title = Rect {
        height: 1.min(area.height),
        ..area
    };
    frame.render_widget(Paragraph::new(heading(model, rows.len(), styles)), title);
    let area = Rect {
        y: area.y + title.height,
        height: area.height - title.height,
        ..area
    };
    let (columns, last) = Column::within(usize::from(area.width), model.shows_processes());
    let titles = columns
        .iter()
        .map(|column| cell(*column, column.title_within(last).into(), Style::new()));
    let body = rows.iter().map(|row| {
        let tone = Tone::from(row.actor.state);
        let is_stale = model.away.is_some() || !row.process.last.state.is_present();
        let line = if is_stale || tone == Tone::Quiet {
            styles.of(Tone::Quiet)
        } else {
            Style::new()
        };
        let cells = columns.iter().map(|column| {
            let style = match column {
                Column::State => styles.of(tone),
                _ => Style::new(),
            };
            let text = |terse| Line::raw(column.text(row, terse));
            let text = match column {
                Column::Now => fitting(last, text),
                _ => text(0),
            };
            cell(*column, text, style)
        });
        Cells::new(cells).style(line)
    });
    let visible = usize::from(area.height.saturating_sub(1));
    let position = model.position();
    // The selected row stays in the middle, away from the ends.
    let offset = position.unwrap_or(0).saturating_sub(visible / 2);
    let offset = offset.min(rows.len().saturating_sub(visible));
    let mut state = TableState::new()
        .with_offset(offset)
        .with_selected(position);
    let widths = columns.iter().map(|column| match column {
        Column::Now => Constraint::Min(NOW_WIDTH as u16),
        column => Constraint::Length(column.width() as u16),
    });
    let table = Table::new(body, widths)
        .header(Cells::new(titles).style(styles.label()))
        .row_highlight_style(Styles::reversed())
        .highlight_symbol(" ");
    frame.render_stateful_widget(table, area, &mut state);
}

fn cell(column: Column, text: Line<'static>, style: Style) -> Cell<'static> {
    let alignment = if column.is_number() {
        Alignment::Right
    } else {
        Alignment::Left
    };
    Cell::from(text.alignment(alignment)).style(style)
}

fn heading(model: &Model, rows: usize, styles: Styles) -> Line<'static> {
    let mut text = match model
        .process
        .as_ref()
        .and_then(|id| model.processes.get(id))
    {
        Some(process) => format!(" {rows} actors of {}", process.last.title()),
        None => format!(" {rows} actors"),
    };
    text.push_str(&format!(", by {}", model.sort.as_str()));
    if !model.search.is_empty() {
        text.push_str(&format!(", with \"{}\"", model.search));
    }
    text.push_str(" ─");
    Line::styled(text, styles.of(Tone::Quiet))
}
