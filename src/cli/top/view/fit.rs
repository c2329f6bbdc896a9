//! Lines that fit into the width of the terminal: words go before numbers, and a text that is cut says so by `…`.

use ratatui::text::{Line, Span};

/// How terse a line may be. At 0 it has all its words.
const TERSEST: u8 = 4;

/// Returns the line with the most words that fits. If even the tersest one does not, it is cut.
pub(super) fn fitting(width: usize, line: impl Fn(u8) -> Line<'static>) -> Line<'static> {
    let mut lines = (0..TERSEST).map(&line);
    let fits = lines.find(|line| length(line) <= width);
    fits.unwrap_or_else(|| cut(line(TERSEST), width))
}

/// Cuts a line that is longer than this.
pub(super) fn cut(line: Line<'static>, width: usize) -> Line<'static> {
    if length(&line) <= width {
        return line;
    }
    let mut room = width.saturating_sub(1);
    let mut kept: Vec<_> = Vec::new();
    for span in line.spans {
        let text: String = span.content.chars().take(room).collect();
        room -= text.chars().count();
        kept.push(Span::styled(text, span.style));
    }
    kept.push(Span::raw("…"));
    Line::from(kept).style(line.style)
}

/// Returns the columns that a line takes, without spaces at its end.
pub(super) fn length(line: &Line<'_>) -> usize {
    line.to_string().trim_end().chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_has_as_many_words_as_fit() {
        let words = |terse: u8| Line::raw("word ".repeat(usize::from(5 - terse)));
        for (width, expected) in [
            (30, "word word word word word "),
            (24, "word word word word word "),
            (23, "word word word word "),
            (9, "word word "),
            (4, "word "),
            (3, "wo…"),
            (1, "…"),
        ] {
            assert_eq!(fitting(width, words).to_string(), expected, "{width}");
        }
    }

    #[test]
    fn cut_line_fills_the_width() {
        let line = || {
            Line::from(vec![
                Span::raw("one "),
                Span::raw("two "),
                Span::raw("three"),
            ])
        };
        for width in 1..13 {
            let cut = cut(line(), width).to_string();
            assert_eq!(cut.chars().count(), width, "{cut}");
            assert!(cut.ends_with('…'), "{cut}");
        }
        assert_eq!(cut(line(), 13).to_string(), "one two three");
    }
}
