//! Everything of one actor, in place of the table.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

use super::fit::length;
use super::style::{Styles, Tone};
use crate::cli::format::{MESSAGE_COLUMNS, facts, message_rows, rate};
use crate::cli::top::model::{Model, Place, Row};

/// The columns before the values of facts.
const INDENT: usize = 18;

pub(super) fn draw(
    frame: &mut Frame<'_>,
    model: &Model,
    styles: Styles,
    area: Rect,
    place: &Place,
    line: u16,
) {
    let lines = match model.find(place) {
        Some(row) => lines(&row, styles, usize::from(area.width)),
        None => vec![Line::styled(
            format!(" {} is no longer listed", place.actor),
            styles.of(Tone::Quiet),
        )],
    };
    // The last line never leaves the screen.
    let most = (lines.len() as u16).saturating_sub(area.height);
    frame.render_widget(Paragraph::new(lines).scroll((line.min(most), 0)), area);
}

fn lines(row: &Row<'_>, styles: Styles, width: usize) -> Vec<Line<'static>> {
    let Row {
        process,
        actor,
        rate: a_second,
    } = row;
    let tone = Tone::from(actor.state);
    let mut lines = vec![Line::from(vec![
        Span::styled(format!(" {} ", tone.sign()), styles.of(tone)),
        Span::styled(actor.name.clone(), Styles::bold()),
        Span::raw(a_second.map_or_else(String::new, |now| format!("  {}/s", rate(now)))),
    ])];
    for (name, value) in facts(&process.last, actor) {
        let mut label = format!("   {name:14} ");
        for part in wrapped(&value, width.saturating_sub(INDENT)) {
            lines.push(Line::from(vec![
                Span::styled(
                    std::mem::replace(&mut label, " ".repeat(INDENT)),
                    styles.label(),
                ),
                Span::raw(part),
            ]));
        }
    }
    let rows = message_rows(actor);
    if rows.is_empty() {
        return lines;
    }
    lines.push(Line::raw(""));
    let titles = columns(&MESSAGE_COLUMNS);
    if titles.chars().count() <= width {
        lines.push(Line::styled(titles, styles.label()));
        lines.extend(rows.iter().map(|row| Line::raw(columns(row))));
        return lines;
    }
    // Without the room for a table, each message has lines of its own.
    for [name, figures @ ..] in &rows {
        let titles = MESSAGE_COLUMNS.iter().skip(1);
        let figures = titles.zip(figures).filter(|(_, figure)| !figure.is_empty());
        let mut line = Line::styled(format!("   {name:14}"), styles.label());
        for (title, figure) in figures {
            let figure = Span::raw(format!(" {title} {figure} "));
            let mut longer = line.clone();
            longer.push_span(figure.clone());
            if length(&longer) > width {
                lines.push(line);
                longer = Line::raw(" ".repeat(INDENT - 1));
                longer.push_span(figure);
            }
            line = longer;
        }
        lines.push(line);
    }
    lines
}

/// Returns text as lines of at most this width.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for letter in text.chars() {
        let last = lines.last().map_or(0, |line| line.chars().count());
        if letter == '\n' || last >= width.max(1) {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut().filter(|_| !letter.is_control()) {
            line.push(letter);
        }
    }
    lines
}

fn columns<T: AsRef<str>>(cells: &[T; 7]) -> String {
    let [name, received, failed, waiting, running, batch, latency] =
        cells.each_ref().map(T::as_ref);
    format!(
        "   {name:18} {received:>11} {failed:>7} {waiting:>7} {running:>14} {batch:>13} {latency:>17}"
    )
}
