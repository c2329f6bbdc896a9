//! Draws the model: figures at the top, what is wrong, and the actors below. Pure: the same model and size make the same
//! screen.

mod detail;
mod figures;
mod fit;
mod popup;
mod style;
mod table;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Clear, Paragraph};

use self::fit::{cut, fitting, length};
use self::style::{Styles, Tone};
use super::model::{Model, Screen};
use super::problems::{LISTED, problems};
use crate::cli::format::{duration, plural};

/// The smallest terminal that shows something useful.
const LEAST: (u16, u16) = (40, 10);

/// The height from which lists beside the table may be longer.
const TALL: u16 = 30;

/// Draws everything.
pub(super) fn draw(frame: &mut Frame<'_>, model: &Model) {
    let area = frame.area();
    if area.width < LEAST.0 || area.height < LEAST.1 {
        let text = format!(
            "{} × {} is too small: {} × {} at least",
            area.width, area.height, LEAST.0, LEAST.1
        );
        frame.render_widget(Paragraph::new(text), area);
        return;
    }
    let styles = Styles::new(model.has_colour);
    let width = usize::from(area.width);
    let most = if area.height < TALL { LISTED } else { 8 };
    let top = [
        figures::lines(model, styles, width),
        figures::processes(model, styles, width, most),
        wrong(model, styles, most),
    ];
    // The table keeps half of a low terminal.
    let most_lines = usize::from(area.height / 2);
    let top = top.into_iter().flatten().map(|line| cut(line, width));
    let mut top: Vec<Line<'_>> = top.collect();
    top.truncate(most_lines);
    let [head, above, below, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(top.len() as u16),
        Constraint::Min(1),
        Constraint::Length(1),
    ])
    .areas(area);
    header(frame, model, styles, head);
    frame.render_widget(Paragraph::new(top), above);
    match &model.screen {
        Screen::Detail(place, line) => detail::draw(frame, model, styles, below, place, *line),
        Screen::Table | Screen::Help => table::draw(frame, model, styles, below),
    }
    footer(frame, model, styles, foot);
    if model.screen == Screen::Help {
        popup::help(frame, styles, area);
    }
    if let Some(operation) = &model.question {
        popup::question(frame, styles, area, operation);
    }
}

/// The service, or that it is away.
fn header(frame: &mut Frame<'_>, model: &Model, styles: Styles, area: Rect) {
    let right = match &model.away {
        Some(_) => String::new(),
        None => about(model),
    };
    let width = (right.chars().count() as u16).min(area.width);
    let left = fitting(usize::from(area.width - width), |terse| {
        let mut spans = Vec::new();
        if terse < 1 {
            spans.push(Span::styled(" likewise top ", Styles::bold()));
        }
        if terse < 2 || model.away.is_none() {
            spans.push(Span::raw(format!(" {} ", model.url)));
        }
        if let Some(away) = &model.away {
            let ms = (model.now - away.since).num_milliseconds().max(0);
            let text = format!(" AWAY for {}: {} ", duration(ms as f64), away.reason);
            spans.push(Span::styled(text, styles.of(Tone::Bad)));
        }
        Line::from(spans)
    });
    frame.render_widget(Paragraph::new(left).style(Styles::reversed()), area);
    let corner = Rect {
        x: area.right() - width,
        width,
        ..area
    };
    frame.render_widget(Clear, corner);
    frame.render_widget(Paragraph::new(right).style(Styles::reversed()), corner);
}

fn about(model: &Model) -> String {
    let all = model.processes.all();
    let own = all.iter().find(|process| process.last.is_this);
    let up = own.map_or(0.0, |process| process.last.report.uptime_seconds);
    let rights = if model.session.may_operate() {
        ""
    } else {
        "read only · "
    };
    let processes = match all.len() {
        1 => "1 process".to_owned(),
        number => format!("{number} processes"),
    };
    format!(" {rights}{processes} · up {} ", duration(up * 1e3))
}

/// What is wrong, as so many lines.
fn wrong(model: &Model, styles: Styles, most: usize) -> Vec<Line<'static>> {
    let problems = problems(model);
    let shown = if problems.len() > most {
        most - 1
    } else {
        most
    };
    let hidden = problems.len().saturating_sub(shown);
    let mut lines: Vec<_> = problems
        .into_iter()
        .take(shown)
        .map(|problem| {
            let tone = if problem.is_severe {
                Tone::Bad
            } else {
                Tone::Warning
            };
            Line::styled(
                format!(" {} {}", tone.sign(), problem.text),
                styles.of(tone),
            )
        })
        .collect();
    if hidden > 0 {
        let text = format!("   and {}", plural(hidden as u64, "more problem"));
        lines.push(Line::styled(text, styles.of(Tone::Warning)));
    }
    lines
}

/// The search, the last message, or the keys.
fn footer(frame: &mut Frame<'_>, model: &Model, styles: Styles, area: Rect) {
    let line = if model.is_searching {
        Line::raw(format!(
            " / {}▏  Enter keeps it, Esc drops it",
            model.search
        ))
    } else {
        match &model.message {
            Some(Ok(text)) => Line::styled(format!(" {text}"), Styles::bold()),
            Some(Err(text)) => Line::styled(format!(" ✗ {text}"), styles.of(Tone::Bad)),
            None => keys(model, styles, usize::from(area.width)),
        }
    };
    let line = cut(line, usize::from(area.width));
    frame.render_widget(Paragraph::new(line), area);
}

/// The keys that fit. The help has all of them.
fn keys(model: &Model, styles: Styles, width: usize) -> Line<'static> {
    let mut keys = vec![("q", "quit"), ("?", "help")];
    let is_detail = matches!(model.screen, Screen::Detail(..));
    match is_detail {
        true => keys.extend([("Esc", "back"), ("↑↓", "scroll")]),
        false => keys.extend([("/", "search"), ("⏎", "detail")]),
    }
    if !is_detail && model.processes.all().len() > 1 {
        keys.push(("Tab", "process"));
    }
    if model.session.may_operate() {
        keys.extend([("p", "pause"), ("u", "resume"), ("r", "restart")]);
    }
    if !is_detail {
        keys.push(("s", "sort"));
    }
    let mut line = Line::default();
    for (key, does) in keys {
        let mut longer = line.clone();
        longer.push_span(" ");
        longer.push_span(Span::styled(key, Styles::reversed()));
        longer.push_span(Span::styled(format!(" {does} "), styles.of(Tone::Quiet)));
        if length(&longer) > width {
            break;
        }
        line = longer;
    }
    line
}
