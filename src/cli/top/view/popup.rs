//! What lies over the rest: the keys, and the question before an operation.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Paragraph, Wrap};

use super::style::{Styles, Tone};
use crate::cli::top::keys::KEYS;
use crate::cli::top::model::Operation;

pub(super) fn help(frame: &mut Frame<'_>, styles: Styles, area: Rect) {
    let lines = KEYS.map(|(keys, does)| {
        Line::from(vec![
            Span::styled(format!(" {keys:18} "), styles.label()),
            Span::raw(does),
        ])
    });
    over(frame, area, " Keys ", lines.to_vec(), 70);
}

pub(super) fn question(frame: &mut Frame<'_>, styles: Styles, area: Rect, operation: &Operation) {
    let Operation {
        action,
        place,
        host,
    } = operation;
    let lines = vec![
        Line::styled(
            format!("{} {} on {host}?", action.as_str(), place.actor),
            Styles::bold(),
        ),
        Line::raw(action.effect()),
        Line::raw(""),
        Line::from(vec![
            Span::styled("y", Styles::reversed()),
            Span::raw(" yes   "),
            Span::styled("n", Styles::reversed()),
            Span::styled(" no", styles.of(Tone::Quiet)),
        ]),
    ];
    over(frame, area, " Are you sure? ", lines, 60);
}

/// Draws lines in a box in the middle.
fn over(frame: &mut Frame<'_>, area: Rect, title: &str, lines: Vec<Line<'_>>, width: u16) {
    let width = width.min(area.width);
    let height = (lines.len() as u16 + 2).min(area.height);
    let place = Rect {
        x: area.x + (area.width - width) / 2,
        y: area.y + (area.height - height) / 2,
        width,
        height,
    };
    frame.render_widget(Clear, place);
    let text = Paragraph::new(lines).wrap(Wrap { trim: false });
    frame.render_widget(text.block(Block::bordered().title(title)), place);
}
