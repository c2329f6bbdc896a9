//! The figures above the table: throughput, completion times, ledger, dependencies and processes.

use std::collections::VecDeque;

use ratatui::text::{Line, Span};

use super::fit::fitting;
use super::style::{Styles, Tone};
use super::table::{end_of, short};
use crate::cli::format::{duration, millis, rate, whole};
use crate::cli::top::answers::PartState;
use crate::cli::top::model::Model;
use crate::cli::top::processes::Process;

/// The statuses of the ledger, each with a shorter word, and what rows in it mean.
const STATUSES: [(&str, &str, Tone); 5] = [
    ("pending", "pend", Tone::Good),
    ("processing", "proc", Tone::Good),
    ("failed", "fail", Tone::Warning),
    ("dead", "dead", Tone::Bad),
    ("completed", "done", Tone::Good),
];

/// The width of the name of a host where little fits.
const SHORT_HOST: usize = 12;

/// The levels of a bar.
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Returns the lines of figures.
pub(super) fn lines(model: &Model, styles: Styles, width: usize) -> Vec<Line<'static>> {
    vec![
        fitting(width, |terse| throughput(model, styles, width, terse)),
        fitting(width, |terse| times(model, styles, terse)),
        fitting(width, |terse| ledger(model, styles, terse)),
        fitting(width, |terse| dependencies(model, styles, terse)),
    ]
}

fn label(text: &str, styles: Styles) -> Span<'static> {
    Span::styled(format!(" {text} "), styles.label())
}

fn throughput(model: &Model, styles: Styles, width: usize, terse: u8) -> Line<'static> {
    let (accepted, completed) = model.throughput.back().copied().unwrap_or_default();
    if terse > 0 {
        let shown = |rate_now: f64| Span::styled(format!("{}/s ", rate(rate_now)), Styles::bold());
        return Line::from(vec![
            label("accepted", styles),
            shown(accepted),
            label("completed", styles),
            shown(completed),
        ]);
    }
    // Half of the width each, less the words.
    let bars = (width / 2).saturating_sub(24).min(60);
    let history = |of: fn(&(f64, f64)) -> f64| bar(&model.throughput, of, bars);
    let shown = |rate_now: f64| Span::styled(format!("{:>7}/s ", rate(rate_now)), Styles::bold());
    Line::from(vec![
        label("accepted", styles),
        shown(accepted),
        Span::styled(history(|both| both.0), styles.of(Tone::Good)),
        label("  completed", styles),
        shown(completed),
        Span::styled(history(|both| both.1), styles.of(Tone::Good)),
    ])
}

/// Returns the last rates as bars, one a report, beneath the highest of them.
fn bar(throughput: &VecDeque<(f64, f64)>, of: fn(&(f64, f64)) -> f64, length: usize) -> String {
    let skipped = throughput.len().saturating_sub(length);
    let rates: Vec<f64> = throughput.iter().skip(skipped).map(of).collect();
    let highest = rates.iter().copied().fold(0.0, f64::max);
    let bars = rates.iter().map(|rate| {
        let level = (rate / highest * 7.0).round();
        // Without any rate, the division has no number as its result.
        BARS[if level.is_finite() { level as usize } else { 0 }]
    });
    let missing = length - rates.len();
    std::iter::repeat_n(' ', missing).chain(bars).collect()
}

fn times(model: &Model, styles: Styles, terse: u8) -> Line<'static> {
    let (took, behind) = match terse {
        0 => ("accepted to completed", "consumer lag"),
        _ => ("took", "lag"),
    };
    let mut spans = vec![label(took, styles)];
    match model.figures.completion {
        Some(times) => {
            for (name, ms) in [("p50", times.p50), ("p95", times.p95), ("p99", times.p99)] {
                spans.push(Span::raw(format!("{name} ")));
                spans.push(Span::styled(format!("{}  ", duration(ms)), Styles::bold()));
            }
        }
        None => spans.push(Span::styled("no like lately  ", styles.of(Tone::Quiet))),
    }
    let lag = model.processes.consumer_lag();
    let lag = lag.map_or_else(|| "–".to_owned(), whole);
    spans.push(label(behind, styles));
    spans.push(Span::styled(lag, Styles::bold()));
    Line::from(spans)
}

fn ledger(model: &Model, styles: Styles, terse: u8) -> Line<'static> {
    let mut spans = match terse {
        0 => vec![label("ledger", styles)],
        _ => vec![Span::raw(" ")],
    };
    let Some(ledger) = &model.figures.ledger else {
        spans.push(Span::styled("not known now", styles.of(Tone::Quiet)));
        return Line::from(spans);
    };
    for (status, short_word, tone) in STATUSES {
        let word = if terse < 2 { status } else { short_word };
        if let Some(oldest) = ledger.oldest_open_at.filter(|_| status == "completed") {
            let ms = (model.captured_at - oldest).num_milliseconds().max(0);
            let word = if terse < 2 { "oldest" } else { "old" };
            let age = millis(ms.unsigned_abs());
            spans.push(Span::raw(format!("{word} {age}  ")));
        }
        let rows = ledger.rows.get(status).copied().unwrap_or_default();
        let is_estimate = status == "completed" && ledger.completed_is_estimate;
        let about = match is_estimate {
            true if terse < 1 => "about ",
            true => "~",
            false => "",
        };
        let style = match rows {
            0 => styles.of(Tone::Quiet),
            _ if tone == Tone::Good => Styles::bold(),
            _ => styles.of(tone),
        };
        let rows = if terse < 3 { whole(rows) } else { short(rows) };
        spans.push(Span::raw(format!("{word} ")));
        spans.push(Span::styled(format!("{about}{rows}  "), style));
    }
    Line::from(spans)
}

fn dependencies(model: &Model, styles: Styles, terse: u8) -> Line<'static> {
    let mut spans = match terse {
        0 => vec![label("depends on", styles)],
        _ => vec![Span::raw(" ")],
    };
    let Some(readiness) = &model.figures.readiness else {
        spans.push(Span::styled("not known now", styles.of(Tone::Quiet)));
        return Line::from(spans);
    };
    let gap = if terse > 2 { " " } else { "  " };
    for (name, part) in &readiness.parts {
        let tone = Tone::from(part.state);
        let kind = if part.kind == "in-process" || terse > 2 {
            name
        } else {
            &part.kind
        };
        let down = part
            .masters
            .iter()
            .filter(|one| one.state == PartState::Down)
            .count();
        let masters = part.masters.len();
        let state = match (part.state, down) {
            // The sign says it too.
            (PartState::Down, _) if terse > 0 => String::new(),
            (PartState::Down, _) => " down".to_owned(),
            (PartState::Up, 0) => String::new(),
            (PartState::Up, down) if terse > 2 => format!(" {down}/{masters}"),
            (PartState::Up, down) if terse > 1 => format!(" {down}/{masters} down"),
            (PartState::Up, down) => format!(" {down} of {masters} masters down"),
        };
        let tone = if down > 0 { Tone::Bad } else { tone };
        spans.push(Span::styled(
            format!("{} {kind}{state}{gap}", tone.sign()),
            styles.of(tone),
        ));
    }
    spans.push(match terse {
        0..3 => label("clock", styles),
        _ => Span::styled("clock ", styles.label()),
    });
    let skew = match readiness.clock_skew_ms {
        None => "–".to_owned(),
        Some(0) => "in step".to_owned(),
        Some(ms) => signed(ms),
    };
    spans.push(Span::raw(skew));
    if !readiness.ready {
        spans.push(Span::styled("  ✗ not ready", styles.of(Tone::Bad)));
    }
    Line::from(spans)
}

fn signed(ms: i64) -> String {
    let sign = if ms < 0 { '−' } else { '+' };
    format!("{sign}{}", millis(ms.unsigned_abs()))
}

/// Returns the processes if there are several, as so many lines.
pub(super) fn processes(
    model: &Model,
    styles: Styles,
    width: usize,
    most: usize,
) -> Vec<Line<'static>> {
    let all = model.processes.all();
    if all.len() < 2 {
        let note = model
            .note
            .clone()
            .filter(|_| model.figures.readiness.as_ref().is_some_and(has_broker));
        let note = note.map(|note| Line::styled(format!(" ! {note}"), styles.of(Tone::Warning)));
        return note.into_iter().collect();
    }
    let shown = if all.len() > most { most - 1 } else { most };
    let mut lines: Vec<_> = all
        .iter()
        .take(shown)
        .map(|process| fitting(width, |terse| line(model, process, styles, terse)))
        .collect();
    let hidden = all.len().saturating_sub(shown);
    if hidden > 0 {
        let more = if hidden == 1 { "process" } else { "processes" };
        let text = format!("   and {hidden} more {more}: Tab shows each");
        lines.push(Line::styled(text, styles.of(Tone::Quiet)));
    }
    lines
}

/// Returns whether the deployment has a stream, so that other processes should be seen.
fn has_broker(readiness: &crate::cli::top::answers::Readiness) -> bool {
    readiness.parts.contains_key("broker")
}

fn line(model: &Model, process: &Process, styles: Styles, terse: u8) -> Line<'static> {
    let last = &process.last;
    let tone = Tone::from(last.state);
    let is_chosen = model.process.as_ref() == Some(&last.id);
    let style = if is_chosen {
        Styles::reversed()
    } else {
        Styles::bold()
    };
    let up = duration(last.report.uptime_seconds * 1e3);
    let (state, age) = (last.state.as_str(), millis(last.age_ms));
    let state = match terse {
        _ if last.state.is_present() && tone == Tone::Good => format!("up {up}"),
        0 | 1 => format!("{state} for {age}, was up {up}"),
        2 => format!("{state} for {age}"),
        _ => format!("{state} {age}"),
    };
    let host = match terse {
        0..3 => last.host.clone(),
        _ => end_of(&last.host, SHORT_HOST),
    };
    let what = match terse {
        0 => format!(" {} {}  ", last.role, last.version),
        1 | 2 => format!(" {}  ", last.role),
        _ => "  ".to_owned(),
    };
    let mut spans = vec![
        Span::styled(format!(" {} ", tone.sign()), styles.of(tone)),
        Span::styled(host, style),
        Span::raw(what),
        Span::styled(
            state,
            if tone == Tone::Good {
                styles.of(Tone::Quiet)
            } else {
                styles.of(tone)
            },
        ),
    ];
    if let Some(skew) = process
        .clock_skew_ms()
        .filter(|skew| *skew != 0 && last.state.is_present())
    {
        spans.push(Span::styled(
            format!("  clock {}", signed(skew)),
            styles.of(Tone::Quiet),
        ));
    }
    let in_mailboxes: u64 = last
        .report
        .actors
        .iter()
        .map(|actor| actor.mailbox.depth)
        .sum();
    if in_mailboxes > 0 {
        let words = format!("  {} queued", whole(in_mailboxes));
        spans.push(Span::styled(words, styles.of(Tone::Quiet)));
    }
    Line::from(spans)
}
